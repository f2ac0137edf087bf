"""General: recipes and commands, run for real."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ua_vp_general.plugin import General

import ua_vp
from ua_vp.errors import LaneUnavailableError, ValidationError
from ua_vp.testing import LaneRun, run_mission


def command(tmp_path: Path, argv: Sequence[str], **more: Any) -> LaneRun:
    lane = General({"allow_command": True})
    return run_mission(lane, tmp_path=tmp_path, mission_type="command", constraints={"argv": argv}, **more)


def shell(tmp_path: Path, script: str, **more: Any) -> LaneRun:
    return command(tmp_path, ["sh", "-c", script], **more)


def test_general_checks_the_documentation_of_a_folder(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "README.md").write_text("# Top\n\nsee [other](other.md) and [gone](gone.md)\n")
    (docs / "other.md").write_text("# Other\n")
    run = run_mission(
        General({}), "look", tmp_path=tmp_path, mission_type="check-docs", constraints={"inputs": {"root": str(docs)}}
    )
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert b"gone.md" in run.files["work_products/summary.md"]
    assert run.files["work_products/summary.md"].decode().splitlines()[0] == f"# {run.outcome.summary}"
    assert next(iter(run.files)) == "work_products/summary.md"


def test_a_root_must_be_given_and_absolute(tmp_path: Path) -> None:
    wrongs: list[Any] = [{}, {"inputs": {}}, {"inputs": {"root": "docs"}}, {"inputs": {"root": "/", "x": 1}}]
    for constraints in wrongs:
        with pytest.raises(ValidationError):
            run_mission(General({}), tmp_path=tmp_path, mission_type="check-docs", constraints=constraints)


def test_free_text_is_unavailable_while_the_recipes_are_available(tmp_path: Path) -> None:
    assert General({}).availability().available
    with pytest.raises(LaneUnavailableError, match="check-docs"):
        run_mission(General({}), "write a poem", tmp_path=tmp_path)


def test_a_command_is_refused_unless_the_configuration_allows_it(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'command'"):
        run_mission(General({}), tmp_path=tmp_path, mission_type="command", constraints={"argv": ["true"]})


def test_a_command_finds_its_folders_by_name_and_by_variable(tmp_path: Path) -> None:
    script = """
    set -eu
    cp inputs/given.txt work_products/by-name.txt
    cp "$UA_VP_OBJECTIVE_FILE" "$UA_VP_WORK_PRODUCTS/objective.txt"
    cp "$UA_VP_CONSTRAINTS_FILE" "$UA_VP_SUPPORTING/constraints.json"
    cat "$UA_VP_INPUTS/given.txt" > work_products/by-variable.txt
    test -n "$UA_VP_MISSION_ID"
    """
    run = shell(tmp_path, script, objective="greet ✓", inputs={"given.txt": b"hello\n"})
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert run.files["work_products/by-name.txt"] == run.files["work_products/by-variable.txt"] == b"hello\n"
    assert run.files["work_products/objective.txt"].decode() == "greet ✓"
    assert run.files["supporting/constraints.json"].startswith(b'{"argv":["sh","-c",')


def test_a_command_gets_no_variable_of_the_worker_but_path_and_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UA_VP_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = shell(tmp_path, "env > work_products/env.txt")
    names = {line.partition("=")[0] for line in run.files["work_products/env.txt"].decode().splitlines()}
    assert "PATH" in names
    assert not names & {"UA_VP_TOKEN", "PYTHONPATH"}


def test_a_failing_command_is_named_with_its_exit_code_and_last_lines(tmp_path: Path) -> None:
    run = shell(tmp_path, "echo fine; echo 'no such thing' >&2; exit 3")
    assert run.outcome.failure_mode is ua_vp.FailureMode.LANE_ERROR
    assert run.outcome.summary == "command ended with exit code 3: no such thing"
    assert run.outcome.detail is not None
    assert "fine" in run.outcome.detail


def test_a_command_ended_by_a_signal_is_named_with_it(tmp_path: Path) -> None:
    run = shell(tmp_path, "kill -KILL $$")
    assert run.outcome.summary == f"command was ended by signal {signal.SIGKILL.name}"


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = command(tmp_path, ["no-such-program-here"])
    assert run.outcome.status is ua_vp.Status.FAILED
    assert "no-such-program-here" in run.outcome.summary
    assert "install" in (run.outcome.detail or "")


def test_a_nul_in_an_argument_is_a_guardrail_violation(tmp_path: Path) -> None:
    run = command(tmp_path, ["echo", "a\0b"])
    assert run.outcome.failure_mode is ua_vp.FailureMode.GUARDRAIL_VIOLATION


def test_exit_code_0_without_a_work_product_is_no_success(tmp_path: Path) -> None:
    assert command(tmp_path, ["true"]).outcome.failure_mode is ua_vp.FailureMode.MISSING_WORK_PRODUCT


def test_a_cancelled_command_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    run = shell(tmp_path, f"sleep 1000 & echo $! > {pids}; setsid sleep 1000 & echo ready; wait", cancel_on=b"ready")
    assert run.outcome.status is ua_vp.Status.CANCELLED
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)


def test_a_users_recipe_runs_without_code(tmp_path: Path) -> None:
    recipe = {
        "description": "Copy",
        "argv": ["cp", "{inputs.from}", "work_products/copy.txt"],
        "inputs": {"properties": {"from": {"type": "string"}}, "required": ["from"]},
        "owes": ["work_products/copy.txt"],
    }
    lane = General({"recipes": {"copy": recipe}, "sandbox": "none", "capacity": 3})
    source = tmp_path / "a name; with $(things)"
    source.write_text("content")
    run = run_mission(lane, tmp_path=tmp_path, mission_type="copy", constraints={"inputs": {"from": str(source)}})
    assert run.files["work_products/copy.txt"] == b"content"
    assert run.outcome.summary == "copy ended with exit code 0"
