"""The inside of a probe: `python -m ua_vp.host` reads a request on stdin and answers on a channel of its own.

The channel is a copy of standard output that nobody else knows; what the plugin and its children print to 1 and 2
goes to standard error. A process that the plugin forks off never answers in our name.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from functools import partial
from typing import Any

from ua_vp.host.installed import Request
from ua_vp.host.manifest import manifests_of
from ua_vp.host.plugin import DegradedError, Opened, guarded, lanes_of, open_plugin
from ua_vp.lane import Manifest


def main() -> None:
    """Probe one plugin; one line of JSON is the answer."""
    us = os.getpid()
    channel = os.dup(1)
    os.dup2(2, 1)
    request = Request.from_json(json.load(sys.stdin))
    faulthandler.register(signal.SIGTERM, chain=True)  # a probe that is late is asked where it is
    line = json.dumps(_answer(request)).encode()
    if os.getpid() == us:
        _write(channel, b"\n" + line + b"\n")
    os._exit(0)  # threads and exit handlers of the plugin are not waited for


def _answer(request: Request) -> dict[str, Any]:
    try:
        opened = open_plugin(request.plugin)
        manifests = manifests_of(lanes_of(opened, request), request)
        detail, remedy = _findings(opened, manifests, request)
    except DegradedError as error:
        return {"ok": False, "detail": error.found, "remedy": error.remedy, "manifests": [], "hooks": []}
    return {
        "ok": True,
        "detail": detail,
        "remedy": remedy,
        "manifests": [manifest.to_json() for manifest in manifests],
        "hooks": list(opened.hooks),
    }


def _findings(opened: Opened, manifests: tuple[Manifest, ...], request: Request) -> tuple[str, str | None]:
    """What was found, and the remedy of the first thing that is not well."""
    details, remedies = [], []
    for manifest in manifests:
        info, availability = manifest.info, manifest.availability
        details.append(f"{info.vp_id} ({info.display_name}): {', '.join(info.mission_types)}")
        if not availability.available:
            details.append(f"unavailable: {availability.reason or 'no reason given'}")
            remedies.append(availability.remedy)
        ask = partial(opened.manager.hook.ua_vp_health, vp_id=info.vp_id)
        health = guarded(request.plugin, "ua_vp_health", ask)
        if health is not None and not health.ok:
            details.append(f"not well: {health.detail}")
            remedies.append(health.remedy)
    others = [name for name in opened.hooks if name != "ua_vp_lanes"]
    details += [f"hooks: {', '.join(others)}"] if others else []
    return "; ".join(details) or "provides no lane", next((remedy for remedy in remedies if remedy), None)


def _write(channel: int, data: bytes) -> None:
    while data:
        data = data[os.write(channel, data) :]


if __name__ == "__main__":
    main()
