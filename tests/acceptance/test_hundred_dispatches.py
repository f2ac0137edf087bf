"""A hundred callers with one key, over real connections: one mission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx2
import pytest

from tests.acceptance.conftest import Keys
from tests.figures import Figures
from tests.product import ECHO, OPS, Product

pytestmark = pytest.mark.timeout(120)

CALLERS = 100


def all_at_once(product: Product, bodies: Sequence[dict[str, str]]) -> list[httpx2.Response]:
    """Every body at the same moment, each over a connection of its own that is open before."""
    gate = Barrier(len(bodies))
    headers = {"Authorization": f"Bearer {product.token}"}

    def call(body: dict[str, str]) -> httpx2.Response:
        with httpx2.Client(base_url=product.url, trust_env=False, timeout=60, headers=headers) as client:
            assert client.get("/livez").status_code == 200
            gate.wait(60)
            return client.post(f"{OPS}/missions/dispatch", json=body)

    with ThreadPoolExecutor(len(bodies)) as callers:
        return list(callers.map(call, bodies))


def missions_of(answers: Sequence[httpx2.Response]) -> set[str]:
    return {answer.json()["mission"]["mission_id"] for answer in answers}


def test_a_hundred_callers_with_one_key_get_one_mission_and_with_another_payload_a_conflict_each(
    serving: Product, new_key: Keys, figures: Figures
) -> None:
    key, before = new_key(), len(serving.missions())
    body = {"vp_id": ECHO, "objective": "Once", "idempotency_key": key}

    answers = all_at_once(serving, [body] * CALLERS)

    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: CALLERS - 1}
    assert sum(answer.headers.get("Idempotent-Replayed") == "true" for answer in answers) == CALLERS - 1
    (mission_id,) = missions_of(answers)
    assert len(serving.missions()) == before + 1

    others = all_at_once(serving, [{**body, "objective": f"Something else {n}"} for n in range(CALLERS)])

    assert Counter((answer.status_code, answer.json()["code"]) for answer in others) == {
        (409, "idempotency_conflict"): CALLERS
    }
    assert all(mission_id in answer.json()["detail"] for answer in others)
    assert len(serving.missions()) == before + 1
    assert [event["type"] for event in serving.events(mission_id=mission_id)] == ["vp.mission.dispatched"]
    figures(
        "callers with one key at once",
        tried=CALLERS,
        double=len(missions_of(answers)) - 1,
        note="1 mission, as many 409 for others",
    )


def test_of_two_requests_that_race_for_a_key_one_wins_and_every_caller_of_the_other_is_told(
    serving: Product, new_key: Keys
) -> None:
    key, before = new_key(), len(serving.missions())
    bodies = [{"vp_id": ECHO, "objective": f"Say {n % 2}", "idempotency_key": key} for n in range(CALLERS)]

    answers = all_at_once(serving, bodies)

    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: CALLERS // 2 - 1, 409: CALLERS // 2}
    winners = [answer for answer in answers if answer.status_code != 409]
    assert len(missions_of(winners)) == 1
    assert len({answer.json()["mission"]["objective"] for answer in winners}) == 1
    assert len(serving.missions()) == before + 1
