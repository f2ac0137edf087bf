"""The command: its exit codes, its JSON, and how it lets go."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.product import Json, Product, free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

NO_MISSION = "vp-mission-" + "0" * 32


def command(script: str) -> list[str]:
    """Arguments of `dispatch` for a shell script on General."""
    return [
        "dispatch",
        "general",
        "Do it",
        "--type",
        "command",
        "--constraints",
        json.dumps({"argv": ["sh", "-c", script]}),
    ]


def dispatched(product: Product, *arguments: str) -> str:
    """Dispatch; standard output is the mission's id and nothing else."""
    mission_id = product.run(*arguments).out.strip()
    assert mission_id.startswith("vp-mission-"), mission_id
    assert "\n" not in mission_id
    return mission_id


def test_a_mission_from_dispatch_to_verified_files_by_commands_alone(working: Product, tmp_path: Path) -> None:
    ran = working.run(*command("echo '# Done it' > work_products/summary.md; echo said"), "--wait")
    (mission_id,) = {word for word in ran.said.split() if word.startswith("vp-mission-")}

    assert "Done it" in working.run("show", mission_id).out
    assert mission_id in working.run("ls").out
    assert "said" in working.run("logs", mission_id).out
    assert "vp.mission.completed" in working.run("events", "--after", "0").out
    assert "work_products/summary.md" in working.run("artifacts", "ls", mission_id).out
    assert working.run("artifacts", "cat", mission_id, "work_products/summary.md").out == "# Done it\n"
    working.run("artifacts", "pull", mission_id, "--to", str(tmp_path / "here"))
    assert (tmp_path / "here" / "work_products" / "summary.md").read_text() == "# Done it\n"
    assert working.run("artifacts", "verify", mission_id).err == ""
    working.run("wait", mission_id)
    for name in ("General", "general dp", "vp.general.primary", "GENERAL"):
        working.run("ls", name)


def test_exit_codes_of_missions_0_done_1_failed_3_cancelled_124_timed_out(working: Product) -> None:
    working.run(*command("echo > work_products/a"), "--wait", code=0)
    failed = dispatched(working, *command("exit 1"))
    working.run("wait", failed, code=1)
    waiting = dispatched(working, "dispatch", "echo", "Nobody does it")
    ran = working.run("wait", waiting, "--timeout", "0.5", code=124)
    assert "no worker" in ran.err, "it says why nothing moves"
    working.run("cancel", waiting, "--reason", "enough")
    assert "enough" in working.run("show", waiting).out
    working.run(*command("exit 1"), "--wait", code=1)
    working.run("dispatch", "echo", "Nobody", "--timeout", "0.2", code=124)
    working.run("wait", failed, code=1)


def test_exit_code_3_when_what_was_waited_for_is_cancelled(working: Product) -> None:
    mission_id = dispatched(working, *command("exec sleep 1000"))
    wait_until(lambda: working.status(mission_id) == "running", within=20, why="it runs")
    working.run("cancel", mission_id)
    working.run("wait", mission_id, code=3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["ls", "--no-such-option"],
        ["dispatch"],
        ["wait"],
        ["show", NO_MISSION, "--json", "extra"],
        ["dispatch", "echo", "x", "--constraints", "{"],
        ["dispatch", "echo", "x", "--constraints", "[]"],
        ["dispatch", "echo", "x", "--constraints", "@/no/such/file"],
        ["dispatch", "echo", "x", "--priority", "high"],
        ["dispatch", "echo", "x", "--priority", "1000001"],
        ["dispatch", "echo", ""],
        ["dispatch", "echo", "x", "--constraints", '{"unknown": 1}'],
        ["dispatch", "echo", "x", "--key", "turn:1"],
    ],
    ids=" ".join,
)
def test_exit_code_2_for_wrong_use(working: Product, arguments: list[str]) -> None:
    ran = working.run(*arguments, code=2)
    assert ran.err
    assert "Traceback" not in ran.said
    assert ran.out == ""


def test_exit_code_2_for_a_setting_that_does_not_exist_and_the_near_one_is_named(product: Product) -> None:
    ran = product.run("worker", "general", "--once", code=2, UA_VP_WORKER_LEASE_SECOND="5")
    assert "UA_VP_WORKER_LEASE_SECONDS" in ran.err
    product.configure("[worker]\nlease_secnds = 5\n")
    assert "lease_seconds" in product.run("serve", code=2).err


def test_exit_code_4_for_what_is_not_there(working: Product) -> None:
    for arguments in (
        ["show", NO_MISSION],
        ["wait", NO_MISSION],
        ["logs", NO_MISSION],
        ["cancel", NO_MISSION],
        ["artifacts", "ls", NO_MISSION],
        ["artifacts", "verify", NO_MISSION],
        ["dispatch", "nobody", "x"],
    ):
        assert working.run(*arguments, code=4).err


def test_exit_code_5_for_a_conflict(working: Product) -> None:
    mission_id = dispatched(working, "dispatch", "echo", "x", "--key", "mine")
    assert dispatched(working, "dispatch", "echo", "x", "--key", "mine") == mission_id
    assert mission_id in working.run("dispatch", "echo", "y", "--key", "mine", code=5).err
    working.run("cancel", mission_id)
    working.run("cancel", mission_id, code=5)


def test_exit_codes_6_and_7_when_nobody_lets_us_in_or_nobody_is_there(working: Product, product: Product) -> None:
    assert working.run("ls", code=6, UA_VP_TOKEN="wrong").err
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert "ua-vp serve" in working.run("ls", code=7, UA_VP_URL=nowhere).err
    assert "ua-vp serve" in product.run("ls", code=7).err


def test_exit_code_8_when_doctor_finds_a_fault_and_0_when_all_is_well(product: Product) -> None:
    product.serve()
    for lane in ("general", "coder", "echo"):
        product.worker(lane)
    well = product.run("doctor", code=None)
    assert well.code == 0, well.said
    assert "walls" in well.out or "sandbox" in well.out, "that there are no walls is said"
    token = product.home / "credentials" / "ops.token"
    token.chmod(0o644)
    assert "ops.token" in product.run("doctor", code=8).out


def test_exit_code_9_when_it_is_refused(working: Product) -> None:
    assert "ua-vp" in working.run("dispatch", "general", "Think", code=9).err
    constraints = json.dumps({"repository": str(working.home)})
    ran = working.run("dispatch", "coder", "x", "--type", "mend", "--constraints", constraints, code=9)
    assert "repository" in ran.err


def test_exit_code_130_detaches_and_says_how_to_come_back(working: Product) -> None:
    mission_id = dispatched(working, "dispatch", "echo", "Nobody does it")
    popen = subprocess.Popen(
        [str(working.program), "wait", mission_id],
        env=working.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with popen:
        assert popen.stderr is not None
        said = popen.stderr.readline()
        popen.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            popen.wait(20)
        popen.kill()
        said += popen.stderr.read()
    assert popen.returncode == 130, said
    assert f"ua-vp wait {mission_id}" in said
    assert working.status(mission_id) == "queued"


def test_every_command_answers_in_json(working: Product) -> None:
    ended = dispatched(working, *command("echo > work_products/a; echo said"))
    working.run("wait", ended)
    waiting = dispatched(working, "dispatch", "echo", "x")
    for arguments, key in (
        (["dispatch", "echo", "x"], "mission"),
        (["ls"], "missions"),
        (["show", ended], "artifacts"),
        (["wait", ended], "mission"),
        (["logs", ended], None),
        (["events", "--after", "0"], "seq"),
        (["artifacts", "ls", ended], "artifacts"),
        (["artifacts", "cat", ended, "work_products/a"], None),
        (["artifacts", "verify", ended], "sound"),
        (["cancel", waiting], "status"),
        (["lanes", "ls"], "lanes"),
        (["workers"], "sessions"),
        (["version"], "version"),
    ):
        rows = working.run(*arguments, "--json").rows
        assert rows, arguments
        assert key is None or all(key in row for row in rows), arguments
    findings = working.run("doctor", "--json", code=None).rows
    assert "findings" in findings[0]
    error = json.loads(working.run("show", NO_MISSION, "--json", code=4).err)
    assert error["error"]["code"] == "not_found"


def test_nothing_that_a_mission_said_reaches_a_terminal_as_a_command(working: Product) -> None:
    mission_id = dispatched(working, *command(r"printf '\033]0;owned\007\033[2J\n' | tee work_products/a; exit 1"))
    working.run("wait", mission_id, code=1)
    for arguments in (["show", mission_id], ["ls"], ["wait", mission_id]):
        assert "\x1b" not in working.run(*arguments, code=None).said, arguments


def test_an_objective_is_read_from_standard_input(working: Product) -> None:
    done = subprocess.run(
        [str(working.program), "dispatch", "echo", "-"],
        env=working.environment(), input="From\nelsewhere", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert working.mission(done.stdout.strip())["objective"] == "From\nelsewhere"


def test_followed_events_and_logs_miss_nothing_and_repeat_nothing(working: Product) -> None:
    (start,) = working.run("events", "--limit", "1", "--json").rows
    events = [str(working.program), "events", "-f", "--after", str(start["seq"]), "--json"]
    with subprocess.Popen(events, env=working.environment(), stdout=subprocess.PIPE, text=True) as popen:
        try:
            mission_id = dispatched(working, *command("echo 1; echo 2; echo 3 > work_products/a"))
            followed = working.run("logs", "-f", mission_id).out
            assert popen.stdout is not None
            seen: list[Json] = []
            while not seen or seen[-1]["type"] != "vp.mission.ready":
                seen.append(json.loads(popen.stdout.readline()))
        finally:
            popen.kill()
    assert followed == working.run("logs", mission_id).out
    last = seen[-1]["seq"]
    assert seen == [event for event in working.events() if start["seq"] < event["seq"] <= last]
    assert [event["type"] for event in seen if event["mission_id"] == mission_id][-1] == "vp.mission.ready"
