"""What a storm leaves is looked through, from outside: the ledger's rows, the files, and what a reader of events saw."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.acceptance.verify_workspaces import verify
from tests.product import OPS, TERMINAL, TERMINAL_EVENTS, Product

EXPECTED = {"work_products", "supporting", "run.log", "mission_receipt.json", "sync_ready.json"}
HOUSEHOLD = {
    "vp_state.db",
    "vp_state.db-wal",
    "vp_state.db-shm",
    "vp_state.db-checkpoint",
    "ua-vp.toml",
    "ops.json",
} | {
    *("credentials", "wake", "AGENT_RUN_WORKSPACES", "up.lock", "logs"),
}


@dataclass(kw_only=True)
class Found:
    """What is not as it was promised, in words."""

    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """As `figures` takes them."""
        return {"lost": len(self.lost), "double": len(self.double), "orphaned": len(self.orphaned)}


def look_through(product: Product, acknowledged: Mapping[str, str]) -> Found:
    """Everything of a product at rest; `acknowledged` is the mission that each key was answered with."""
    found = Found()
    check_dispatches(product, acknowledged, found)
    check_ends(product, found)
    check_sequence(product, found)
    for mission_id, status in product.rows("SELECT mission_id, status FROM vp_missions"):
        check_folder(product, mission_id, status, found)
    check_household(product.home, found)
    return found


def check_dispatches(product: Product, acknowledged: Mapping[str, str], found: Found) -> None:
    """Each key is one mission, the one that was answered."""
    rows = product.rows("SELECT idempotency_key, mission_id FROM vp_missions")
    there = dict(rows)
    found.lost += [f"{key} was answered {given}" for key, given in acknowledged.items() if there.get(key) != given]
    found.double += [key for key, number in Counter(key for key, _ in rows).items() if number > 1]
    found.double += [f"{key} without a caller" for key in there.keys() - acknowledged.keys()]


def check_ends(product: Product, found: Found) -> None:
    """Each mission has one terminal event, one that it is ready, and at most one attempt that was finalised."""
    missions = dict(product.rows("SELECT mission_id, status FROM vp_missions"))
    found.lost += [f"{mission_id} is {status}" for mission_id, status in missions.items() if status not in TERMINAL]
    marks = ", ".join("?" for _ in TERMINAL_EVENTS)
    events = f"SELECT mission_id FROM vp_events WHERE type IN ({marks})"
    ready = "SELECT mission_id FROM vp_events WHERE type = 'vp.mission.ready'"
    for name, rows in (("ends", product.rows(events, *TERMINAL_EVENTS)), ("ready", product.rows(ready))):
        number = Counter(mission_id for (mission_id,) in rows)
        found.lost += [f"{mission_id}: no event {name}" for mission_id in missions.keys() - number.keys()]
        found.double += [f"{mission_id}: {name} {times} times" for mission_id, times in number.items() if times > 1]
    final = "SELECT mission_id FROM vp_attempts WHERE end_reason IN ('completed', 'failed', 'cancelled')"
    finals = Counter(mission_id for (mission_id,) in product.rows(final))
    found.double += [f"{mission_id}: {times} attempts finalised" for mission_id, times in finals.items() if times > 1]
    for table, where in (("vp_claims", "1"), ("vp_attempts", "ended_at IS NULL"), ("vp_missions", "marked_at IS NULL")):
        found.orphaned += [f"{table}: {row}" for row in product.rows(f"SELECT * FROM {table} WHERE {where}")]


def check_sequence(product: Product, found: Found) -> None:
    """`seq` has neither gap nor repeat, and the file is sound."""
    numbers = [seq for (seq,) in product.rows("SELECT seq FROM vp_events ORDER BY seq")]
    found.lost += [f"seq {missing}" for missing in sorted({*range(1, len(numbers) + 1)} - {*numbers})]
    found.lost += [str(row) for row in product.rows("PRAGMA integrity_check") if row != ("ok",)]
    found.orphaned += [str(row) for row in product.rows("PRAGMA foreign_key_check")]


def check_folder(product: Product, mission_id: str, status: str, found: Found) -> None:
    """Marker, receipt and artifacts agree; nothing else is there but what came too late."""
    (folder,) = product.home.glob(f"AGENT_RUN_WORKSPACES/*/{mission_id}")
    try:
        said = verify(folder)[1]
    except (AssertionError, OSError, ValueError) as error:
        found.lost.append(f"{folder}: {error!r}")
        return
    if said != status:
        found.lost.append(f"{folder}: says {said}, the ledger {status}")
    late = "SELECT attempt FROM vp_attempts WHERE mission_id = ? AND late_outcome IS NOT NULL"
    kept = {f".attempts/{attempt}" for (attempt,) in product.rows(late, mission_id)}
    left = {entry.name for entry in folder.iterdir()} - EXPECTED - {".attempts"}
    left |= {f".attempts/{attempt.name}" for attempt in folder.glob(".attempts/*")} - kept
    if (folder / ".attempts").exists() and not kept:
        left.add(".attempts")
    found.orphaned += [f"{folder}/{name}" for name in sorted(left)]


def check_household(home: Path, found: Found) -> None:
    """No temporary file is left beside the ledger, and nothing but missions among the workspaces."""
    beside = [entry for entry in home.iterdir() if entry.name not in HOUSEHOLD]
    beside += [*home.glob("credentials/.*"), *home.glob("wake/*"), *home.glob("AGENT_RUN_WORKSPACES/.*")]
    beside += [entry for entry in home.glob("AGENT_RUN_WORKSPACES/*/*") if not entry.name.startswith("vp-mission-")]
    found.orphaned += [str(entry) for entry in beside]


class Reader:
    """Follows the stream of events as a client should: after a break it goes on behind the last `seq` it has."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._stop = threading.Event()
        self.seqs: list[int] = []
        self.breaks = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """It reads while the block runs, on a thread of its own; at the end it reads what it has not read yet."""
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)
        assert not thread.is_alive()

    def wait_for(self, seq: int) -> bool:
        """Whether it has come so far."""
        return bool(self.seqs) and self.seqs[-1] >= seq

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self._product.token}", "Accept": "text/event-stream"}
        with httpx2.Client(base_url=self._product.url, headers=headers, trust_env=False, timeout=5) as client:
            while not self._stop.is_set():
                before = len(self.seqs)
                with suppress(httpx2.TransportError):
                    self._follow(client)
                self.breaks += len(self.seqs) > before
                self._stop.wait(0.1)

    def _follow(self, client: httpx2.Client) -> None:
        last = str(self.seqs[-1]) if self.seqs else "0"
        with client.stream("GET", f"{OPS}/events", headers={"Last-Event-ID": last}) as answer:
            for line in answer.iter_lines():
                if line.startswith("id:"):
                    self.seqs.append(int(line.removeprefix("id:")))
                if self._stop.is_set():
                    return


def check_reader(product: Product, reader: Reader, found: Found) -> None:
    """It saw every event once, in order."""
    there = [seq for (seq,) in product.rows("SELECT seq FROM vp_events ORDER BY seq")]
    seen = Counter(reader.seqs)
    found.lost += [f"event {seq} was not read" for seq in there if seq <= max(reader.seqs) and not seen[seq]]
    found.double += [f"event {seq} was read {times} times" for seq, times in seen.items() if times > 1]
    if reader.seqs != sorted(reader.seqs):
        found.double.append("events were read out of order")
