"""What the API is put together from, and what belongs to one run of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ua_vp.access import LastUse
from ua_vp.control.feed import Feed
from ua_vp.ledger import Ledger
from ua_vp.ports import Ports, Signal
from ua_vp.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class OpsParts:
    """What the composition root hands to the API."""

    ledger: Ledger
    ports: Ports
    settings: Settings
    version: str
    """Of the distribution."""
    build: str
    """Names the code that runs, e.g. version + commit."""
    plugins: tuple[str, ...] = ()
    """Names of the installed entry points of group `ua_vp`: `/readyz` waits for a verdict on each."""
    judged: Signal | None = None
    """Raised when the probe that this process runs at its start is through; None if it runs none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """One run of the API."""

    parts: OpsParts
    feed: Feed
    last_use: LastUse
    document: Mapping[str, Any]
    """The OpenAPI document."""
