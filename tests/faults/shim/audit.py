"""What is wrong in a home at rest, read by other means than the product's: a raw connection, and the folders."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from ua_vp.workspace import Workspace, verify

LEDGER = "vp_state.db"
AT_HOME = {LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", f"{LEDGER}-checkpoint", "wake"}
PUBLISHED = {"work_products", "supporting", "run.log", "mission_receipt.json", "sync_ready.json"}
ENDS = ("vp.mission.completed", "vp.mission.failed", "vp.mission.cancelled")


@dataclass(kw_only=True)
class Findings:
    """What was acknowledged and is not there or not whole, what is there twice, what nobody will clear away."""

    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.lost += other.lost
        self.double += other.double
        self.orphaned += other.orphaned

    def __bool__(self) -> bool:
        return bool(self.lost or self.double or self.orphaned)


def audit(root: Path, acknowledged: Iterable[str], cancelled: Iterable[str]) -> Findings:
    """Hold a home, after its repair, against what was answered before: keys `acknowledged`, missions `cancelled`."""
    found = Findings()
    connection = sqlite3.connect(f"file:{quote(str(root / 'home' / LEDGER))}?mode=rw", uri=True)
    try:
        connection.row_factory = sqlite3.Row
        (intact,) = connection.execute("PRAGMA integrity_check").fetchone()
        if intact != "ok":
            found.lost.append(f"integrity_check: {intact}")
        look_for_keys(connection, acknowledged, found)
        missions = connection.execute("SELECT * FROM vp_missions").fetchall()
        ends = {mission["mission_id"]: mission["status"] for mission in missions}
        found.lost += [
            f"{one} was cancelled, and is {ends.get(one)}" for one in cancelled if ends.get(one) != "cancelled"
        ]
        for mission in missions:
            look_at_mission(connection, mission, found)
            look_at_workspace(root, mission, found)
        found.orphaned += leftovers(connection)
    finally:
        connection.close()
    found.orphaned += strangers(root, set(ends))
    return found


def lies(root: Path) -> list[str]:
    """Markers in a home, at whatever moment, whose workspace is not complete and right."""
    marked = [Workspace(marker.parent) for marker in root.glob("spaces/*/sync_ready.json")]
    return [f"{ws.root.name} is marked: {one.path}: {one.detail}" for ws in marked for one in verify(ws)]


def look_for_keys(connection: sqlite3.Connection, acknowledged: Iterable[str], found: Findings) -> None:
    counted: dict[str, int] = dict(
        map(tuple, connection.execute("SELECT idempotency_key, count(*) FROM vp_missions GROUP BY 1"))
    )
    found.lost += [f"no mission of {key}" for key in acknowledged if key not in counted]
    found.double += [f"{number} missions of {key}" for key, number in counted.items() if number > 1]


def look_at_mission(connection: sqlite3.Connection, mission: sqlite3.Row, found: Findings) -> None:
    mission_id = mission["mission_id"]
    if mission["completed_at"] is None or mission["marked_at"] is None:
        found.lost.append(f"{mission_id} is {mission['status']}, marked_at {mission['marked_at']}")
    for kinds in (("vp.mission.dispatched",), ENDS, ("vp.mission.ready",)):
        (number,) = connection.execute(
            f"SELECT count(*) FROM vp_events WHERE mission_id = ? AND type IN ({', '.join('?' * len(kinds))})",
            (mission_id, *kinds),
        ).fetchone()
        if number != 1:
            (found.double if number else found.lost).append(f"{mission_id} has {number} events {kinds}")


def look_at_workspace(root: Path, mission: sqlite3.Row, found: Findings) -> None:
    ws = Workspace(root / "spaces" / mission["mission_id"])
    unsound = verify(ws)
    found.lost += [f"{ws.root.name}: {one.path}: {one.detail}" for one in unsound]
    if ws.root.is_dir():
        found.orphaned += [f"{ws.root.name}/{name}" for name in set(os.listdir(ws.root)) - PUBLISHED]
    if not unsound:
        receipt = json.loads(ws.receipt.read_bytes())
        if (receipt["status"], receipt["attempt"]) != (mission["status"], mission["attempt"]):
            found.double.append(f"{ws.root.name}: the receipt is of another end than the ledger's")


def leftovers(connection: sqlite3.Connection) -> Iterator[str]:
    for what, query in (
        ("claims", "SELECT count(*) FROM vp_claims"),
        ("open sessions", "SELECT count(*) FROM vp_sessions WHERE closed_at IS NULL AND lost_at IS NULL"),
        ("open attempts", "SELECT count(*) FROM vp_attempts WHERE ended_at IS NULL"),
    ):
        (number,) = connection.execute(query).fetchone()
        if number:
            yield f"{number} {what}"


def strangers(root: Path, missions: set[str]) -> Iterator[str]:
    """Names that nobody will clear away; a bell (a socket) is cleared away by whoever rings."""
    for folder, known in ((root / "home", AT_HOME), (root / "spaces", missions), (root / "home" / "wake", set[str]())):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in known and not stat.S_ISSOCK(path.lstat().st_mode):
                yield path.relative_to(root).as_posix()
