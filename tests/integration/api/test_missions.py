"""Listing, getting, cancelling; attempts, sessions, lanes, figures."""

from tests.integration.api.handwork import hand
from tests.integration.api.problems import refusal
from tests.integration.api.serving import BROKEN, CODER, GENERAL, ROOT, TESTER, Api
from ua_vp.access import Scope
from ua_vp.ledger import claims, lanes
from ua_vp.mission import RequeueReason, Status
from ua_vp.wire import MissionView

FIELDS = """mission_id vp_id status mission_type objective constraints budget inputs priority attempt tries max_tries
worker_id lease_expires_at cancel_requested cancel_reason cancelled_by result_ref summary failure_mode failure_detail
source_session_id source_turn_id turn_id reply_mode retry_of continues group_id created_by not_before created_at
started_at last_progress_at completed_at ready_at updated_at duration_seconds queued_reason awaiting usage sync_state
actions""".split()
"""Contract, section 2, in its order."""


def test_a_mission_has_every_field_of_the_contract_in_its_order(api: Api) -> None:
    assert list(api.mission(api.mission_id())) == FIELDS
    assert list(MissionView.model_fields) == FIELDS


def test_missions_are_listed_newest_first_in_pages_that_miss_none(api: Api) -> None:
    made = [api.mission_id() for _ in range(7)]
    seen, url = [], f"{ROOT}/missions?limit=3"

    while url:
        response = api.http.get(url)
        seen += [mission["mission_id"] for mission in response.json()["missions"]]
        assert ("next" in response.links) == (response.json()["next_cursor"] is not None)
        url = response.links["next"]["url"] if "next" in response.links else ""

    assert seen == made[::-1]


def test_a_list_can_be_narrowed(api: Api) -> None:
    queued = api.mission_id(objective="Find the Needle", source_session_id="s1")
    ended = api.mission_id(vp_id=CODER)
    api.http.post(f"{ROOT}/missions/{ended}/cancel")

    def ids(**params: str) -> list[str]:
        return [mission["mission_id"] for mission in api.get(f"{ROOT}/missions", **params).json()["missions"]]

    assert ids(vp_id=GENERAL) == [queued]
    assert ids(status="cancelled,failed") == [ended]
    assert ids(status="queued") == ids(q="needle") == ids(source_session_id="s1") == [queued]
    assert ids(vp_id="vp.nobody.primary") == []


def test_a_mission_that_did_not_change_is_not_sent_again(api: Api) -> None:
    path = f"{ROOT}/missions/{api.mission_id()}"
    etag = api.get(path).headers["etag"]

    unchanged = api.http.get(path, headers={"If-None-Match": f'"other", {etag}'})
    hand(api).claim()
    running = api.http.get(path, headers={"If-None-Match": etag})

    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    assert running.status_code == 200
    assert api.http.get(path, headers={"If-None-Match": running.headers["etag"]}).status_code == 304


def test_a_running_mission_shows_worker_lease_and_duration(api: Api) -> None:
    mission_id = api.mission_id()
    hand(api).claim()

    mission = api.mission(mission_id)

    assert (mission["status"], mission["attempt"], mission["worker_id"]) == ("running", 1, "w1")
    assert mission["lease_expires_at"] > mission["started_at"]
    assert mission["duration_seconds"] >= 0
    assert mission["queued_reason"] is None
    assert api.get(f"{ROOT}/missions/{mission_id}/attempts").json()["attempts"][0]["worker_id"] == "w1"


def test_what_is_handed_over_shows_once_it_is_published(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    claim = worker.claim()
    worker.work(claim)
    sha256 = worker.commit(claim)
    committed = api.get(f"{ROOT}/missions/{mission_id}").json()
    worker.publish(claim)
    published = api.mission(mission_id)
    worker.mark(claim, sha256)
    ready = api.get(f"{ROOT}/missions/{mission_id}").json()

    assert (committed["terminal"], committed["mission"]["result_ref"]) == (True, None)
    assert committed["artifacts_total"] == 3
    assert published["result_ref"] == worker.workspace(claim).result_ref
    assert (published["sync_state"], published["ready_at"]) == ("not_ready", None)
    assert (ready["mission"]["sync_state"], ready["mission"]["actions"]) == ("ready", ["retry"])
    assert ready["mission"]["updated_at"] >= ready["mission"]["ready_at"] >= ready["mission"]["completed_at"]
    assert next(artifact["path"] for artifact in ready["artifacts"]) == "work_products/summary.md"
    assert ready["events_total"] == len(ready["events"]) == 4
    assert [event["type"].rsplit(".")[-1] for event in ready["events"]] == [
        "dispatched",
        "started",
        "completed",
        "ready",
    ]


def test_cancel_ends_a_queued_mission_and_asks_a_running_one(api: Api) -> None:
    queued, running = api.mission_id(vp_id=CODER), api.mission_id()
    hand(api).claim()

    ended = api.http.post(f"{ROOT}/missions/{queued}/cancel", json={"reason": "not needed"})
    asked = [api.http.post(f"{ROOT}/missions/{running}/cancel") for _ in range(2)]
    again = api.http.post(f"{ROOT}/missions/{queued}/cancel", json={})

    assert (ended.status_code, ended.json()["status"]) == (202, "cancelled")
    assert ended.json()["mission"]["cancel_reason"] == "not needed"
    assert (ended.json()["mission"]["attempt"], ended.json()["mission"]["cancelled_by"]) == (1, "ops")
    assert api.get(f"{ROOT}/missions/{queued}/attempts").json() == {"attempts": []}
    for response in asked:
        assert (response.status_code, response.json()["status"]) == (202, "cancel_requested")
        assert response.json()["mission"]["cancel_reason"] == "requested"
    assert refusal(again) == (409, "already_terminal")
    assert again.json()["mission_id"] == queued


def test_a_cancel_must_make_sense(api: Api) -> None:
    mission_id = api.mission_id()

    wrong: list[object] = [{"reason": ""}, {"reason": 1}, {"why": "x"}, []]
    for body in wrong:
        assert refusal(api.http.post(f"{ROOT}/missions/{mission_id}/cancel", json=body)) == (400, "validation_error")
    assert refusal(api.http.post(f"{ROOT}/missions/vp-mission-0/cancel")) == (404, "not_found")


def test_back_off_and_pause_and_capacity_say_why_it_waits(api: Api) -> None:
    first = api.mission_id()
    worker = hand(api)
    claim, now = worker.claim(), worker.now
    api.ledger.run(
        lambda tx: claims.requeue(tx, claim, RequeueReason.RETRYABLE, now=now, backoff=60_000_000, detail="later")
    )
    assert api.mission(first)["queued_reason"] == "retry_backoff"

    others = [api.mission_id() for _ in range(3)]
    worker.claim(), worker.claim()
    assert api.mission(others[2])["queued_reason"] == "lane_at_capacity"

    api.ledger.run(lambda tx: lanes.steer_lane(tx, GENERAL, paused=True, now=now, actor=TESTER))
    assert api.mission(others[2])["queued_reason"] == "lane_paused"


def test_sessions_say_who_is_live_from_the_lease_alone(api: Api) -> None:
    live, stale = hand(api), hand(api, CODER, lease=-1)

    shown = {session["session_id"]: session for session in api.get(f"{ROOT}/sessions").json()["sessions"]}

    assert shown[live.session.session_id]["effective_status"] == "live"
    assert shown[stale.session.session_id]["effective_status"] == "stale"
    assert shown[live.session.session_id]["lease_expires_at"] > shown[live.session.session_id]["opened_at"]
    assert api.mission(api.mission_id(vp_id=CODER))["queued_reason"] == "no_live_worker"


def test_lanes_show_what_they_take_and_degraded_plugins_too(api: Api) -> None:
    api.mission_id()
    answer = api.get(f"{ROOT}/lanes").json()
    found = {lane["vp_id"]: lane for lane in answer["lanes"]}

    general, broken = found[GENERAL], found[BROKEN]
    assert set(found) == {GENERAL, CODER, BROKEN}
    assert (general["available"], general["capacity"], general["depth"]) == (True, 2, {"queued": 1, "running": 0})
    assert general["plugin"] == {"distribution": "ua-vp-general", "version": "1.2.3"}
    assert general["mission_types"]["task"] == {
        "description": "free text",
        "schema": {"type": "object", "additionalProperties": False},
        "available": False,
        "remedy": "install an agent",
    }
    assert general["mission_types"]["plain"]["available"] is True
    assert (broken["available"], broken["remedy"], broken["mission_types"]) == (False, "reinstall ua-vp-broken", {})
    assert {plugin["entry_point"]: plugin["state"] for plugin in answer["plugins"]} == {
        "general": "ok",
        "coder": "ok",
        "broken": "degraded",
    }


def test_figures_count_what_happened(api: Api) -> None:
    worker = hand(api)
    api.mission_id()
    worker.finish(worker.claim())
    api.mission_id()

    metrics = api.get("/api/v1/ops/metrics/vp", vp_id=GENERAL).json()
    text = api.get("/metrics")

    assert metrics["counts"] == {"queued": 1, "running": 0, "completed": 1, "failed": 0, "cancelled": 0}
    assert metrics["events"]["vp.mission.completed"] == 1
    assert (metrics["durations"]["count"], metrics["live_workers"]) == (1, 1)
    assert metrics["oldest_queued_seconds"] >= 0
    assert api.get("/api/v1/ops/metrics/vp").json()["vp_id"] is None
    assert refusal(api.get("/api/v1/ops/metrics/vp", vp_id="vp.nobody.primary")) == (404, "not_found")
    assert text.headers["content-type"].startswith("text/plain")
    for line in (
        f'ua_vp_missions_finished_total{{status="completed",vp_id="{GENERAL}"}} 1.0',
        f'ua_vp_missions_queued{{vp_id="{GENERAL}"}} 1.0',
        f'ua_vp_missions_running{{vp_id="{GENERAL}"}} 0.0',
        f'ua_vp_workers_live{{vp_id="{GENERAL}"}} 1.0',
        f'ua_vp_mission_duration_seconds_count{{vp_id="{GENERAL}"}} 1.0',
    ):
        assert line in text.text.splitlines()


def test_what_lies_outside_a_tokens_bounds_does_not_exist_for_it(api: Api) -> None:
    inside, outside = api.mission_id(), api.mission_id(vp_id=CODER)
    token = api.token_with(*Scope, lanes=[GENERAL])

    with api.as_holder_of(token) as caller:
        assert caller.get(f"{ROOT}/missions/{inside}").status_code == 200
        for path in ("", "/wait", "/attempts", "/artifacts", "/artifacts/run.log", "/log"):
            assert refusal(caller.get(f"{ROOT}/missions/{outside}{path}")) == (404, "not_found")
        assert refusal(caller.post(f"{ROOT}/missions/{outside}/cancel")) == (404, "not_found")
        for path in (f"{ROOT}/missions", f"{ROOT}/events", "/api/v1/ops/metrics/vp"):
            assert refusal(caller.get(path, params={"vp_id": CODER})) == (404, "not_found")
        assert {lane["vp_id"] for lane in caller.get(f"{ROOT}/lanes").json()["lanes"]} == {GENERAL}
        assert {event["vp_id"] for event in caller.get(f"{ROOT}/events").json()["events"]} == {GENERAL}
        assert caller.get("/api/v1/ops/metrics/vp").json()["vp_id"] == GENERAL
    assert api.row(outside).status is Status.QUEUED
