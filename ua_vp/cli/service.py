"""`ua-vp serve` and `ua-vp worker`: one process of the product each, for `up`, for systemd, for tests."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ua_vp.cli import lanes
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.mission import VP_ID, vp_id_of


def serve(*, as_json: AsJson = False, console: Here) -> int:
    """Run the API until SIGTERM or Ctrl-C. Its log goes to standard error."""
    from ua_vp import compose

    del as_json
    return compose.serve(console.settings(), environ=console.environ)


def worker(
    lane: str, /, *, once: Annotated[bool, Parameter(negative=())] = False, as_json: AsJson = False, console: Here
) -> int:
    """Run the worker of a lane until SIGTERM or Ctrl-C; a second one stops its missions at once.

    Args:
        lane: The lane's id, name or alias.
        once: Put right what was left behind, claim what there is up to the lane's capacity, run it to its end, and end.
    """
    from ua_vp import compose

    del as_json
    return compose.work(console.settings(), _vp_id(lane, console), once=once, environ=console.environ)


def _vp_id(lane: str, console: Console) -> str:
    """The lane meant: an installed one by its name or id at once, by its other names after a look at the plugins."""
    from ua_vp import compose, host

    names = {plugin.entry_point for plugin in host.find_installed()}
    match = VP_ID.fullmatch(lane)
    if (match.group(1) if match else lane) in names:
        return lane if match else vp_id_of(lane)
    verdicts = compose.probe(console.settings(), console.environ)
    infos = [manifest.info for verdict in verdicts for manifest in verdict.manifests]
    return lanes.which(lane, {info.vp_id: (info.display_name, *info.aliases) for info in infos})
