"""Waiting: held until ended and ready, cheap for everybody else."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2

from tests.integration.api.handwork import hand
from tests.integration.api.problems import refusal
from tests.integration.api.serving import ROOT, Api


def wait(api: Api, mission_id: str, seconds: int) -> httpx2.Response:
    with api.as_holder_of(api.token) as caller:
        return caller.get(f"{ROOT}/missions/{mission_id}/wait", params={"timeout_seconds": seconds})


def test_a_wait_that_times_out_is_no_error(api: Api) -> None:
    response = wait(api, api.mission_id(), 1)

    assert response.status_code == 200
    assert response.json()["timed_out"] is True
    assert response.json()["mission"]["status"] == "queued"
    assert response.json()["bridge"] == {"attached": False, "next_check_after_seconds": 5.0}


def test_a_wait_is_held_until_the_workspace_is_ready(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    claim = worker.claim()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(wait, api, mission_id, 20)
        worker.work(claim)
        sha256 = worker.commit(claim)
        worker.publish(claim)
        assert not held.done()
        worker.mark(claim, sha256)
        answer = held.result(3).json()

    assert answer["timed_out"] is False
    assert (answer["mission"]["status"], answer["mission"]["sync_state"]) == ("completed", "ready")


def test_a_wait_ends_five_seconds_after_the_commit_at_the_latest(api: Api) -> None:
    mission_id = api.mission_id()
    began = time.monotonic()
    api.http.post(f"{ROOT}/missions/{mission_id}/cancel")  # no worker makes its folder

    answer = wait(api, mission_id, 20).json()

    assert (answer["timed_out"], answer["mission"]["status"]) == (False, "cancelled")
    assert 4.5 < time.monotonic() - began < 8


def test_a_mission_that_nobody_knows_is_not_waited_for(api: Api) -> None:
    assert refusal(wait(api, "vp-mission-0", 20)) == (404, "not_found")


def test_sixty_waiting_clients_delay_nobody(api: Api) -> None:
    waiting, other = api.mission_id(), api.mission_id()
    worker = hand(api)

    async def scene() -> tuple[list[float], list[httpx2.Response]]:
        headers = {"Authorization": f"Bearer {api.token}"}
        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(
            base_url=api.url, headers=headers, timeout=30, limits=limits, trust_env=False
        ) as caller:
            path = f"{ROOT}/missions/{waiting}/wait?timeout_seconds=20"
            held = [asyncio.create_task(caller.get(path)) for _ in range(60)]
            await asyncio.wait(held, timeout=1)
            assert not any(task.done() for task in held)
            took = []
            for _ in range(20):
                began = time.monotonic()
                assert (await caller.get(f"{ROOT}/missions/{other}")).status_code == 200
                took.append(time.monotonic() - began)
            claim = await asyncio.to_thread(worker.claim)
            assert claim.mission_id == waiting
            await asyncio.to_thread(worker.finish, claim)
            return took, list(await asyncio.gather(*held))

    took, answers = asyncio.run(scene())

    assert sorted(took)[len(took) // 2] < 0.25, took
    assert {(answer.status_code, answer.json()["mission"]["status"]) for answer in answers} == {(200, "completed")}
