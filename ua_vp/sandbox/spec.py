"""The walls around a mission's processes, as a value, and the place where a command gets them."""

from __future__ import annotations

from dataclasses import dataclass

from ua_vp.ports import Command


@dataclass(frozen=True, kw_only=True, slots=True)
class Walls:
    """What confines a mission's processes.

    `backend` names the mechanism (`none` for now), `network` is `open` or `closed`, `gaps` says in words what is not
    confined. Receipt, doctor and `lanes` show all three.
    """

    backend: str
    network: str
    gaps: tuple[str, ...]


NO_WALLS = Walls(
    backend="none",
    network="open",
    gaps=(
        "filesystem: all that the worker's user can read and write is open",
        "network: every address can be reached",
        "processes: other processes of the worker's user can be signalled and traced, the launcher included",
        "services: daemons of the machine (docker, systemd, cron, at) can be asked to start what outlives the mission",
        "resources: memory, processor time and number of processes are not limited",
    ),
)


def wrap(walls: Walls, command: Command) -> Command:
    """`command` as it must be started to run within `walls`; without walls it is the same.

    Raises:
        NotImplementedError: a backend that this version does not have.
    """
    if walls.backend != NO_WALLS.backend:
        raise NotImplementedError(f"sandbox backend {walls.backend!r}")
    return command
