"""Commands against a scripted API: what they print where, and how they exit."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.scripted_api import (
    MISSION_ID,
    Answer,
    Asked,
    Said,
    as_json,
    detail,
    event,
    lane,
    mission,
    problem,
    scripted,
)
from ua_vp.cli import app
from ua_vp.cli.console import Console
from ua_vp.cli.lanes import which
from ua_vp.errors import NotFoundError
from ua_vp.runtime.clock import RealClock

EVIL = "\x1b]0;owned\x07 \u202eevil"
EVERY = [name for name, _, _ in app.COMMANDS] + [f"{g} {name}" for g, _, inner in app.GROUPS for name, _, _ in inner]


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    out: str
    err: str


def run(answer: Answer, *arguments: str, stdin: bytes = b"", terminal: bool = False) -> Ran:
    with scripted(answer) as api:
        return run_at(api.url, *arguments, stdin=stdin, terminal=terminal)


def run_at(url: str, *arguments: str, stdin: bytes = b"", terminal: bool = False) -> Ran:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    if terminal:
        out.isatty = lambda: True  # type: ignore[method-assign]  # a terminal without a size
    err = io.StringIO()
    console = Console(
        environ={"UA_VP_URL": url, "UA_VP_TOKEN": "t", "HOME": "/nonexistent"},
        stdin=io.BytesIO(stdin),
        stdout=out,
        stderr=err,
        clock=RealClock(boot_id=""),
    )
    code = app.run(arguments, console)
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    return Ran(code=code, out=out.buffer.getvalue().decode("utf-8"), err=err.getvalue())


def lanes_then(then: Answer) -> Answer:
    def answer(asked: Asked) -> Said:
        if asked.path.endswith("/lanes"):
            return as_json({"lanes": [lane(), lane("coder", "CODIE", aliases=["codie", "coder vp"])]})
        return then(asked)

    return answer


def dispatched(status: str = "queued", **more: object) -> Said:
    return as_json({"mission": mission(status), "replayed": False, **more}, 202)


@pytest.mark.parametrize("command", EVERY)
def test_every_command_has_help_and_takes_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_at("http://127.0.0.1:1", *command.split(), "--help").code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", ["nosuch", "ls --nosuch", "show", "wait --timeout soon", "dispatch", "wait", "ls --limit 0"]
)
def test_what_cannot_be_understood_is_usage(wrong: str) -> None:
    ran = run_at("http://127.0.0.1:1", *wrong.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("ua-vp: ")


@pytest.mark.parametrize(
    "command", ["ls", f"show {MISSION_ID}", "lanes ls", "workers", f"artifacts ls {MISSION_ID}", "events"]
)
def test_no_api_is_unreachable_and_the_remedy_is_named(command: str) -> None:
    ran = run_at("http://127.0.0.1:1", *command.split())
    assert ran.code == 7
    assert "`ua-vp up`" in ran.err


@pytest.mark.parametrize(
    ("code", "exit_code"), [("unauthorized", 6), ("forbidden", 6), ("not_found", 4), ("rate_limited", 9)]
)
def test_a_refusal_is_said_in_its_own_words(code: str, exit_code: int) -> None:
    said = problem(code, detail=f"because {EVIL}")
    ran = run(lambda _: said, "show", MISSION_ID)
    assert ran.code == exit_code
    assert "because \\x1b]0;owned\\x07 \\u202eevil" in ran.err
    told = json.loads(run(lambda _: said, "show", MISSION_ID, "--json").err)["error"]
    assert (told["code"], told["detail"]) == (code, f"because {EVIL}")


def test_a_dispatch_prints_the_id_alone_and_says_the_rest() -> None:
    ran = run(lanes_then(lambda _: dispatched()), "dispatch", "General", "Look at it")
    assert (ran.code, ran.out) == (0, MISSION_ID + "\n")
    assert "ua-vp wait" in ran.err


def test_a_dispatch_sends_what_was_given_and_a_key_of_its_own() -> None:
    asked: list[Asked] = []

    def answer(one: Asked) -> Said:
        asked.append(one)
        return dispatched()

    options = ["--type", "t", "--constraints", '{"a": 1}', "--priority", "-5", "--json"]
    ran = run(lanes_then(answer), "dispatch", "coder vp", "-", *options, stdin="Tu es, żółć".encode())
    body = asked[0].json
    assert json.loads(ran.out)["mission"]["mission_id"] == MISSION_ID
    assert body.pop("idempotency_key").startswith("cli:")
    assert body == {
        "vp_id": "vp.coder.primary",
        "objective": "Tu es, żółć",
        "mission_type": "t",
        "constraints": {"a": 1},
        "priority": -5,
    }


def test_constraints_come_from_a_file_too_and_must_be_an_object(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"inputs": {}}')
    answer = lanes_then(lambda asked: dispatched() if asked.json["constraints"] == {"inputs": {}} else Said(status=500))
    assert run(answer, "dispatch", "general", "x", "--constraints", f"@{file}").code == 0
    for wrong in ("[1]", "{", '{"a":1,"a":2}', "@/nonexistent"):
        assert run(answer, "dispatch", "general", "x", "--constraints", wrong).code == 2


def test_an_objective_may_be_left_out_where_the_type_says_it() -> None:
    answer = lanes_then(lambda asked: dispatched() if asked.json["objective"] == "Check the docs" else Said(status=500))
    assert run(answer, "dispatch", "general", "--type", "check-docs").code == 0
    assert run(answer, "dispatch", "general").code == 2
    assert run(answer, "dispatch", "general", "--type", "nosuch").code == 4


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 3)])
@pytest.mark.parametrize("command", ["wait", "dispatch"])
def test_waiting_exits_as_the_mission_ended(command: str, status: str, code: int) -> None:
    def answer(asked: Asked) -> Said:
        if asked.method == "POST":
            return dispatched()
        return as_json({"mission": mission(status, failure_mode="timeout"), "timed_out": False})

    arguments = ["wait", MISSION_ID] if command == "wait" else ["dispatch", "general", "x", "--wait"]
    ran = run(lanes_then(answer), *arguments)
    assert ran.code == code
    assert ran.out.startswith(f"{MISSION_ID} {status}")
    answered = json.loads(run(lanes_then(answer), *arguments, "--json").out)
    assert answered["mission"]["status"] == status


def test_a_wait_whose_time_is_over_exits_124() -> None:
    running = mission("running")
    ran = run(lambda _: as_json(detail(running)), "wait", MISSION_ID, "--timeout", "0", "--json")
    assert ran.code == 124
    assert json.loads(ran.out)["timed_out"] is True


def test_a_cancel_says_what_it_did() -> None:
    said = as_json({"mission": mission("running"), "status": "cancel_requested"}, 202)
    ran = run(
        lambda asked: said if asked.json == {"reason": "no need"} else Said(status=500),
        "cancel",
        MISSION_ID,
        "--reason",
        "no need",
    )
    assert (ran.code, ran.out.split()) == (0, [MISSION_ID, "cancel_requested"])


def evil_api(asked: Asked) -> Said:
    """Every text that somebody else may have written is hostile."""
    end = asked.path.rsplit("/", 1)[1]
    texts = ("objective", "summary", "failure_detail", "failure_mode", "mission_type")
    evil = mission("failed", **dict.fromkeys(texts, EVIL))
    artifact = {"path": f"work_products/{EVIL}", "category": EVIL, "bytes": 1, "sha256": EVIL}
    listed = {"artifacts": [artifact], "artifacts_total": 1}
    plugin = dict.fromkeys(("entry_point", "distribution", "version", "detail", "probed_at"), EVIL)
    answers = {
        "missions": {"missions": [evil]},
        "events": {"events": [event(1, type=EVIL, payload={"summary": EVIL})], "next_after": 1},
        "wait": {"mission": evil, "timed_out": False},
        "artifacts": listed,
        "lanes": {
            "lanes": [lane(display_name=EVIL, available=False, remedy=EVIL)],
            "plugins": [plugin | {"state": "degraded"}],
        },
        MISSION_ID: detail(evil, **listed),
    }
    if end == "log":
        return Said(body=f"2026 stdout {EVIL}\nnext {EVIL}".encode(), headers={"X-Log-Attempt": "1"})
    return as_json(answers[end])


LISTINGS = [name + " ID" for name in ("show", "logs", "wait", "artifacts ls")] + ["ls", "events", "lanes ls"]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("command", LISTINGS)
def test_hostile_text_never_reaches_the_terminal_raw(command: str, terminal: bool) -> None:
    ran = run(evil_api, *command.replace("ID", MISSION_ID).split(), terminal=terminal)
    assert "owned" in ran.out
    for character in "\x1b\x07\u202e":
        assert character not in ran.out + ran.err


def test_an_artifact_is_byte_for_byte_in_a_pipe_and_harmless_on_a_terminal() -> None:
    said = Said(body=b"\x1b[2J\xff\n")
    with scripted(lambda _: said) as api:
        raw = io.BytesIO()
        piped = io.TextIOWrapper(raw, encoding="utf-8")
        environ = {"UA_VP_URL": api.url, "UA_VP_TOKEN": "t"}
        console = Console(
            environ=environ, stdin=io.BytesIO(), stdout=piped, stderr=io.StringIO(), clock=RealClock(boot_id="")
        )
        assert app.run(["artifacts", "cat", MISSION_ID, "a"], console) == 0
    assert raw.getvalue() == said.body
    assert run(lambda _: said, "artifacts", "cat", MISSION_ID, "a", terminal=True).out == "\\x1b[2J\ufffd\n"


def test_what_differs_from_the_receipt_exits_10() -> None:
    def answer(asked: Asked) -> Said:
        if asked.path.endswith("/events"):
            return as_json({"events": [], "next_after": 0})
        known = asked.path.endswith(MISSION_ID)
        return as_json(detail(mission("completed"))) if known else problem("not_found", 404)

    ran = run(answer, "artifacts", "verify", MISSION_ID, "--json")
    assert ran.code == 10
    assert json.loads(ran.out)["sound"] is False


def test_a_mission_that_is_not_there_is_not_found_and_no_difference() -> None:
    def answer(asked: Asked) -> Said:
        return as_json({"events": [], "next_after": 0}) if asked.path.endswith("/events") else problem("not_found", 404)

    assert run(answer, "artifacts", "verify", MISSION_ID).code == 4


def test_a_file_that_the_api_cannot_read_as_it_should_be_is_a_difference() -> None:
    def answer(asked: Asked) -> Said:
        if asked.path.endswith("/events"):
            return as_json({"events": [event(1, type="vp.mission.ready")], "next_after": 1})
        return problem("internal_error", 500, "mission_receipt.json is not a receipt")

    ran = run(answer, "artifacts", "verify", MISSION_ID)
    assert (ran.code, "is not a receipt" in ran.out) == (10, True)


def test_streams_are_a_json_value_a_line() -> None:
    said = as_json({"events": [event(1), event(2)], "next_after": 2})
    lines = run(lambda _: said, "events", "--json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2]
    log = Said(body=b"2026Z stdout one two\n2026Z lane thr", headers={"X-Log-Attempt": "1"})
    lines = run(lambda _: log, "logs", MISSION_ID, "--json").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one two", "thr"]


LANES = {
    "vp.coder.primary": ("CODIE", "codie", "coder vp"),
    "vp.general.primary": ("General", "general vp", "general dp"),
    "vp.code-review.primary": ("Reviewer", "Coder VP"),
}


@pytest.mark.parametrize(
    ("wanted", "vp_id"),
    [
        ("vp.coder.primary", "vp.coder.primary"),
        ("coder", "vp.coder.primary"),
        ("CODIE", "vp.coder.primary"),
        ("General  DP", "vp.general.primary"),
        ("VP.GENERAL.PRIMARY", "vp.general.primary"),
        ("reviewer", "vp.code-review.primary"),
    ],
)
def test_a_lane_answers_to_its_id_name_aliases_and_display_name(wanted: str, vp_id: str) -> None:
    assert which(wanted, LANES) == vp_id


@pytest.mark.parametrize(
    ("wanted", "hint"), [("coder vp", "say which"), ("genral", "did you mean general"), ("zzz", "there are vp.coder")]
)
def test_a_lane_that_is_unclear_or_unknown_brings_near_names(wanted: str, hint: str) -> None:
    with pytest.raises(NotFoundError, match=hint):
        which(wanted, LANES)
