"""`ua-vp version`."""

from __future__ import annotations

import platform

import ua_vp
from ua_vp.cli.console import AsJson, Console, Here


def version(*, as_json: AsJson = False, console: Here) -> int:
    """Print the version of this command; `ua-vp doctor` says which one the API runs."""
    print_version(console, as_json=as_json)
    return 0


def print_version(console: Console, *, as_json: bool) -> None:
    """One line for people, or one JSON object."""
    known = {
        "version": ua_vp.__version__,
        "lane_api_version": ua_vp.API_VERSION,
        "python": platform.python_version(),
    }
    if as_json:
        console.json(known)
    else:
        console.data(f"ua-vp {known['version']} (lane API {known['lane_api_version']}, Python {known['python']})")
