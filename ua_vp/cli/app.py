"""Every command's name, and what happens around each of them: parsing, errors, exit codes.

A command is imported when it is called, so that each starts as fast as what it needs.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence

import cyclopts

import ua_vp
from ua_vp.cli import exits
from ua_vp.cli.console import Console
from ua_vp.cli.exits import Exit
from ua_vp.errors import VpError

STANDARD_INPUT = "\0"
"""Stands for a lone `-` while arguments are parsed: no argument of a process can hold it."""

COMMANDS = (
    ("up", "up:up", "Run everything from one terminal: the API and a worker for each lane."),
    ("serve", "service:serve", "Run the API until it is told to stop."),
    ("worker", "service:worker", "Run the worker of a lane until it is told to stop."),
    ("dispatch", "dispatch:dispatch", "Hand a mission to a lane."),
    ("ls", "missions:ls", "List missions, newest first."),
    ("show", "show:show", "Show a mission on one screen: where it stands, why, and what can be done."),
    ("wait", "missions:wait", "Wait until missions have ended."),
    ("logs", "logs:logs", "Print a mission's log."),
    ("events", "events:events", "Print events in the order in which they happened."),
    ("cancel", "missions:cancel", "Cancel a mission."),
    ("retry", "operate:retry", "Do an ended mission again, as a new one."),
    ("requeue", "operate:requeue", "Take a running mission from its worker and queue it again."),
    ("fail", "operate:fail", "End a running mission as failed."),
    ("workers", "lanes:workers", "List workers and whether they are alive."),
    ("doctor", "doctor:doctor", "Look for faults, with or without a running API, and say how to mend them."),
    ("version", "version:version", "Print which code this is."),
)
GROUPS = (
    (
        "artifacts",
        "What a mission handed over.",
        (
            ("ls", "artifacts:ls", "List a mission's artifacts, best first."),
            ("cat", "artifacts:cat", "Print one artifact."),
            ("pull", "artifacts:pull", "Copy a mission's artifacts into a folder here, hashes checked."),
            ("verify", "artifacts:verify", "Compare every artifact with the receipt, and the receipt with the ledger."),
        ),
    ),
    (
        "lanes",
        "The lanes that take missions.",
        (
            ("ls", "lanes:ls", "List lanes and what each takes."),
            ("pause", "lanes:pause", "Have a lane's workers claim nothing for a while."),
            ("resume", "lanes:resume", "Have a lane's workers claim again."),
            ("drain", "lanes:drain", "Have a lane's workers claim nothing more."),
        ),
    ),
    (
        "token",
        "Who may ask for what.",
        (
            ("create", "tokens:create", "Make a token, and print its secret this once."),
            ("ls", "tokens:ls", "List tokens and when they were last used."),
            ("revoke", "tokens:revoke", "Make a token invalid."),
        ),
    ),
)


def build() -> cyclopts.App:
    """The command line, with nothing imported yet."""
    app = cyclopts.App(
        name="ua-vp",
        help="Hand missions to independent worker lanes and get verified work products back.",
        version=f"ua-vp {ua_vp.__version__}",
        help_format="plaintext",
        help_formatter="plain",
    )
    for name, place, words in COMMANDS:
        app.command(f"ua_vp.cli.{place}", name=name, help=words)
    for group, words, commands in GROUPS:
        inner = cyclopts.App(name=group, help=words, version_flags=())
        for name, place, purpose in commands:
            inner.command(f"ua_vp.cli.{place}", name=name, help=purpose)
        app.command(inner)
    return app


def main(arguments: Sequence[str]) -> int:
    """Run one command on this process's own environment and streams; gives the exit code."""
    from ua_vp.runtime.clock import RealClock

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # any text, whatever the terminal's encoding
    console = Console(
        environ=os.environ,
        stdin=sys.stdin.buffer,
        stdout=sys.stdout,
        stderr=sys.stderr,
        clock=RealClock(boot_id=""),
    )
    return run(arguments, console)


def run(arguments: Sequence[str], console: Console) -> int:
    """Run one command on `console`; gives the exit code (contract, section 9)."""
    tokens = [STANDARD_INPUT if argument == "-" else argument for argument in arguments]
    try:
        command, bound, ignored = build().parse_args(tokens, exit_on_error=False, print_error=False)
        for name in ignored:
            bound.arguments[name] = console
        code = command(*bound.args, **bound.kwargs)
        return int(code or Exit.DONE)
    except cyclopts.CycloptsError as error:
        words = str(error).replace(STANDARD_INPUT, "-")
        console.say(f"ua-vp: {words} (`ua-vp --help` lists the commands, `ua-vp COMMAND --help` their options)")
        return Exit.USAGE
    except VpError as error:
        report(error, console, as_json="--json" in arguments)
        return exits.of_error(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # whoever read us has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.DONE


def report(error: VpError, console: Console, *, as_json: bool) -> None:
    """Say on standard error what went wrong, in the error's own words."""
    faults = [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.faults]
    if as_json:
        problem = {"code": error.code, "detail": error.detail, "retryable": error.retryable}
        console.stderr.write(
            json.dumps({"error": {**problem, "mission_id": error.mission_id, "errors": faults}}) + "\n"
        )
        return
    console.paragraph(f"ua-vp: {error.detail}")
    for fault in faults:
        if fault["detail"] not in error.detail:
            console.say(f"  {fault['pointer']}: {fault['detail']}")
