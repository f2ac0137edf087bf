"""The ops API: Starlette over the control plane. Every route is one declared record (`ua_vp.ops.routes`)."""

from ua_vp.ops.app import OpsParts, create_app

__all__ = ["OpsParts", "create_app"]
