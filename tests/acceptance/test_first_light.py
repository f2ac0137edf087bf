"""A mission from dispatch to verified work products on every lane, by API and files, from installed wheels."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.acceptance.installed import Installation
from tests.product import ECHO, GENERAL, OPS, Json, Product

pytestmark = pytest.mark.timeout(180)

WRITE_SUMMARY = 'echo "# Looked at it" > work_products/summary.md; echo note > supporting/note.txt; echo said'


def schema(installation: Installation, word: str) -> Json:
    """The JSON Schema shipped for a file of the workspace."""
    (file,) = (installation.packages / "ua_vp").rglob(f"*{word}*.schema.json")
    found: Json = json.loads(file.read_bytes())
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def faults(value: Any, by: Json) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(by).iter_errors(value)]


def check_workspace(product: Product, mission: Json, installation: Installation) -> Json:
    """Marker, receipt and files are what the contract says; gives the receipt."""
    workspace = product.workspace(mission["mission_id"])
    written = (workspace / "mission_receipt.json").read_bytes()
    receipt, marker = json.loads(written), json.loads((workspace / "sync_ready.json").read_bytes())
    assert faults(receipt, schema(installation, "receipt")) == []
    assert faults(marker, schema(installation, "sync_ready")) == []
    for name in ("mission_id", "vp_id", "status", "attempt", "summary", "result_ref", "objective", "completed_at"):
        assert receipt[name] == mission[name], name
    assert marker["receipt_sha256"] == hashlib.sha256(written).hexdigest()
    assert (marker["mission_id"], marker["vp_id"]) == (mission["mission_id"], mission["vp_id"])
    assert (marker["state"], marker["ready"]) == (mission["status"], True)
    for artifact in receipt["artifacts"]:
        content = (workspace / artifact["path"]).read_bytes()
        assert (artifact["bytes"], artifact["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    changed = {path: path.stat().st_ctime_ns for path in workspace.rglob("*")}
    assert max(changed, key=lambda path: changed[path]).name == "sync_ready.json", "the marker comes last"
    listed = {artifact["path"] for artifact in receipt["artifacts"]}
    there = {str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file()}
    assert there == listed | {"mission_receipt.json", "sync_ready.json"}, "nothing private is left, nothing is unlisted"
    return receipt  # type: ignore[no-any-return]  # parsed JSON


def test_ops_vp_general_worker_execution_and_workproduct_tracking(product: Product, installation: Installation) -> None:
    product.serve()
    mission_id = product.shell(WRITE_SUMMARY, objective="Look at it", source_session_id="simone-1")
    assert product.status(mission_id) == "queued"

    product.once()

    detail = product.answer(f"/missions/{mission_id}")
    mission, events = detail["mission"], detail["events"]
    assert (mission["status"], mission["attempt"], mission["failure_mode"]) == ("completed", 1, None)
    assert (detail["terminal"], mission["sync_state"], mission["summary"]) == (True, "ready", "Looked at it")
    assert mission["result_ref"].endswith(f"/AGENT_RUN_WORKSPACES/vp_general_primary_external/{mission_id}")
    types = [event["type"] for event in events if event["type"] != "vp.mission.progress"]
    assert types == ["vp.mission.dispatched", "vp.mission.started", "vp.mission.completed", "vp.mission.ready"]
    assert {event["source_session_id"] for event in events} == {"simone-1"}
    check_terminal_event(product, mission, events)

    listed = product.answer(f"/missions/{mission_id}/artifacts")
    paths = [(artifact["path"], artifact["category"]) for artifact in listed["artifacts"]]
    assert paths[0] == ("work_products/summary.md", "primary")
    assert {*paths[1:]} == {("supporting/note.txt", "supporting"), ("run.log", "supporting")}
    for artifact in listed["artifacts"]:
        content = product.artifact(mission_id, artifact["path"]).content
        assert artifact["sha256"] == hashlib.sha256(content).hexdigest()
    assert product.artifact(mission_id, "work_products/summary.md").text == "# Looked at it\n"

    receipt = check_workspace(product, mission, installation)
    assert receipt["sandbox"]["backend"] == "none"
    assert (
        detail["events"][-1]["payload"]["receipt_sha256"]
        == hashlib.sha256((product.workspace(mission_id) / "mission_receipt.json").read_bytes()).hexdigest()
    )
    check_metrics(product)


def check_terminal_event(product: Product, mission: Json, events: list[Json]) -> None:
    (end,) = (event["payload"] for event in events if event["type"] == "vp.mission.completed")
    assert (end["status"], end["summary"]) == ("completed", mission["summary"])
    assert (end["result_ref"], end["failure_mode"]) == (mission["result_ref"], None)
    assert end["artifacts_total"] == len(end["artifacts"]) == 3
    assert {*end["artifacts"][0]} >= {"path", "category", "bytes", "sha256"}
    for path in (end["receipt_path"], end["sync_marker_path"]):
        assert path.startswith("/")
        assert Path(path).is_file()


def check_metrics(product: Product) -> None:
    metrics = product.get("/api/v1/ops/metrics/vp", vp_id=GENERAL).json()
    assert metrics["vp_id"] == GENERAL
    assert metrics["counts"]["completed"] == metrics["durations"]["count"] == 1
    assert sum(metrics["counts"].values()) == 1
    assert metrics["events"]["vp.mission.started"] == metrics["events"]["vp.mission.completed"] == 1
    assert metrics["live_workers"] == 0
    assert 0 < metrics["durations"]["avg"] <= metrics["durations"]["max"]
    prometheus = product.get("/metrics")
    if prometheus.status_code == 200:
        assert f'ua_vp_missions_finished_total{{status="completed",vp_id="{GENERAL}"}} 1.0' in prometheus.text


def test_a_third_partys_lane_of_twenty_lines_works_from_its_wheel(product: Product, installation: Installation) -> None:
    product.serve()
    mission_id = product.dispatch(ECHO, "Say it again: żółw")

    product.once("echo")

    assert product.status(mission_id) == "completed"
    assert product.artifact(mission_id, "work_products/echo.txt").text == "Say it again: żółw\n"
    receipt = check_workspace(product, product.mission(mission_id), installation)
    assert receipt["executor"]["name"]
    assert product.lane(ECHO)["plugin"]["distribution"] == "ua-vp-echo"


def test_success_that_leaves_nothing_is_none(working: Product, installation: Installation) -> None:
    mission_id = working.shell("echo nothing to hand over")

    mission = working.finished(mission_id)
    assert (mission["status"], mission["failure_mode"]) == ("failed", "missing_work_product")
    check_workspace(working, mission, installation)


def test_a_command_that_fails_is_a_failed_mission_with_its_last_words(
    working: Product, installation: Installation
) -> None:
    mission_id = working.shell("echo kept > work_products/part.txt; echo cannot go on >&2; exit 3")

    mission = working.finished(mission_id)
    assert (mission["status"], mission["failure_mode"]) == ("failed", "lane_error")
    assert "cannot go on" in mission["failure_detail"]
    assert "cannot go on" in working.log(mission_id)
    receipt = check_workspace(working, mission, installation)
    assert "work_products/part.txt" in {artifact["path"] for artifact in receipt["artifacts"]}


def test_a_mission_that_takes_longer_than_its_budget_times_out(working: Product, installation: Installation) -> None:
    mission_id = working.shell("echo begun > work_products/part.txt; exec sleep 1000", budget={"seconds": 0.5})

    mission = working.finished(mission_id)
    assert (mission["status"], mission["failure_mode"]) == ("failed", "timeout")
    check_workspace(working, mission, installation)


def test_a_programs_environment_is_what_the_contract_names_and_its_folders_are_reachable(product: Product) -> None:
    product.serve()
    script = """
        test "$(realpath work_products)" = "$(realpath "$UA_VP_WORK_PRODUCTS")"
        test "$(realpath supporting)" = "$(realpath "$UA_VP_SUPPORTING")"
        test "$(realpath inputs)" = "$(realpath "$UA_VP_INPUTS")"
        cat "$UA_VP_OBJECTIVE_FILE" > work_products/objective.txt
        echo "$UA_VP_MISSION_ID" > work_products/id.txt
        env > work_products/environment.txt
    """
    mission_id = product.shell(script, objective="Read\nthis")

    product.run("worker", "general", "--once", SOME_SECRET="hunter2", UA_VP_TOKEN="hunter3")

    assert product.status(mission_id) == "completed", product.log(mission_id)
    read = {name: product.artifact(mission_id, f"work_products/{name}.txt").text for name in ("objective", "id")}
    assert (read["objective"].rstrip("\n"), read["id"].strip()) == ("Read\nthis", mission_id)
    assert "hunter" not in product.artifact(mission_id, "work_products/environment.txt").text


def test_a_reader_gets_no_private_file_no_link_and_nothing_outside(working: Product) -> None:
    script = """
        echo fine > work_products/fine.txt
        ln -s /etc/hostname work_products/link.txt
        ln work_products/fine.txt work_products/twin.txt
        mkfifo work_products/fifo
        echo '<script>alert(1)</script>' > work_products/page.html
    """
    mission_id = working.shell(script)

    working.finished(mission_id)

    listed = {artifact["path"] for artifact in working.answer(f"/missions/{mission_id}/artifacts")["artifacts"]}
    assert listed.isdisjoint({f"work_products/{name}" for name in ("link.txt", "twin.txt", "fine.txt", "fifo")})
    for path in ("work_products/link.txt", ".attempts", "../../../vp_state.db", "%2e%2e/%2e%2e/%2e%2e/vp_state.db"):
        answer = working.get(f"{OPS}/missions/{mission_id}/artifacts/{path}")
        assert answer.status_code in {400, 404}, path
        assert answer.json()["code"] in {"not_found", "validation_error"}
    page = working.artifact(mission_id, "work_products/page.html")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "html" not in page.headers["Content-Type"] or "attachment" in page.headers["Content-Disposition"]
