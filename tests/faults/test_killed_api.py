"""SIGKILL of the API while many callers dispatch: what was acknowledged is there, and each key once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from threading import Event, Lock

import httpx2
import pytest

from tests.faults.audit import Found, Reader, check_reader
from tests.figures import Figures, Rounds
from tests.product import GENERAL, OPS, Product
from tests.waiting import wait_until

CALLERS, BEFORE_THE_KILL = 8, 40

pytestmark = pytest.mark.timeout(180)


class Callers:
    """Callers who dispatch until they are stopped or nobody answers, each mission with a key of its own."""

    def __init__(self, product: Product, prefix: str) -> None:
        self._url, self._token, self._prefix = product.url, product.token, prefix
        self._stop, self._lock, self._numbers = Event(), Lock(), count()
        self.sent: list[str] = []
        self.acknowledged: dict[str, str] = {}
        """Mission by key, of the dispatches that were answered."""

    def are_answered(self) -> bool:
        return len(self.acknowledged) >= BEFORE_THE_KILL

    def dispatch(self, client: httpx2.Client, key: str) -> str:
        answer = client.post(f"{OPS}/missions/dispatch", json={**BODY, "idempotency_key": key})
        assert answer.status_code in {200, 202}, answer.text
        mission_id: str = answer.json()["mission"]["mission_id"]
        return mission_id

    def client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx2.Client(base_url=self._url, headers=headers, trust_env=False, timeout=30)

    def call(self) -> None:
        with self.client() as client:
            while not self._stop.is_set():
                with self._lock:
                    key = f"{self._prefix}-{next(self._numbers)}"
                    self.sent.append(key)
                try:
                    mission_id = self.dispatch(client, key)
                except httpx2.TransportError:  # it was killed
                    return
                with self._lock:
                    self.acknowledged[key] = mission_id

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(self.call) for _ in range(CALLERS)]
            try:
                yield
            finally:
                self._stop.set()
        for call in calls:
            call.result()


BODY = {
    "vp_id": GENERAL,
    "objective": "Wait",
    "mission_type": "command",
    "constraints": {"argv": ["true"]},
}


def test_every_acknowledged_dispatch_survives_the_death_of_the_api_and_every_key_is_one_mission(
    product: Product, rounds: Rounds, figures: Figures
) -> None:
    times, acknowledged, unanswered = rounds(ci=1, soak=500), 0, 0
    for number in range(times):
        api = product.serve()
        callers = Callers(product, f"round-{number}")
        with callers.at_work():
            wait_until(callers.are_answered, within=60, why="dispatches go through")
            api.kill()
        product.serve().end()
        there = dict(product.rows("SELECT idempotency_key, mission_id FROM vp_missions"))
        assert {key: there.get(key) for key in callers.acknowledged} == callers.acknowledged
        api = product.serve()
        with callers.client() as client:
            again = {key: callers.dispatch(client, key) for key in callers.sent}
        assert {key: again[key] for key in callers.acknowledged} == callers.acknowledged
        api.end()
        acknowledged += len(callers.acknowledged)
        unanswered += len(callers.sent) - len(callers.acknowledged)
    check_ledger(product, acknowledged + unanswered)
    note = f"{acknowledged} dispatches acknowledged; {unanswered} without an answer, asked again by key"
    figures("SIGKILL of the API during dispatches", tried=times, note=note)


def test_a_reader_of_events_whose_api_is_killed_resumes_without_gap_or_repeat(
    product: Product, rounds: Rounds, figures: Figures
) -> None:
    times, reader, found = rounds(ci=2, soak=200), Reader(product), Found()
    api = product.serve()
    with reader.reading():
        for number in range(times):
            callers = Callers(product, f"streamed-{number}")
            with callers.at_work():
                wait_until(callers.are_answered, within=60, why="dispatches go through")
                before = len(reader.seqs)
                wait_until(lambda: len(reader.seqs) > before, within=30, why="the reader is at it")  # noqa: B023  # it is run here
                api.kill()
            api = product.serve()
        newest = product.rows("SELECT max(seq) FROM vp_events")[0][0]
        wait_until(lambda: reader.wait_for(newest), within=60, why="the reader has every event")
    api.end()
    check_reader(product, reader, found)
    note = f"{newest} events; the reader resumed {reader.breaks} times"
    figures("API killed while it streams", tried=times, note=note, **found.counts())


def check_ledger(product: Product, missions: int) -> None:
    """Each key is one mission, and each mission has one event."""
    assert product.rows("SELECT count(*), count(DISTINCT idempotency_key) FROM vp_missions") == [(missions, missions)]
    events = "SELECT count(*), count(DISTINCT mission_id) FROM vp_events WHERE type = 'vp.mission.dispatched'"
    assert product.rows(events) == [(missions, missions)]
    assert product.rows("PRAGMA integrity_check") == [("ok",)]
