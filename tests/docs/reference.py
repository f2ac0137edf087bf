"""The parts of the reference that are made from the product itself; `./dev run python -m tests.docs.reference` writes them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclopts import App
from pydantic_core import PydanticUndefined

from tests.docs.pages import ROOT
from ua_vp import settings
from ua_vp.cli import app
from ua_vp.cli.exits import Exit
from ua_vp.events import EventType
from ua_vp.ops.app import ROUTES
from ua_vp.ops.problems import STATUS
from ua_vp.workspace import receipt_schema, sync_ready_schema

BEGIN, END = "<!-- begin: generated -->\n", "<!-- end: generated -->\n"
EVENTS = {
    EventType.DISPATCHED: "a mission was taken: `mission_type`, `priority`",
    EventType.STARTED: "a worker claimed it: `worker_id`",
    EventType.PROGRESS: "the lane said how it goes: `summary`, and what the lane adds",
    EventType.CANCEL_REQUESTED: "somebody wants a running mission stopped: `reason`",
    EventType.REQUEUED: "an attempt is over, the mission waits again: `reason`, `detail`, `tries`",
    EventType.COMPLETED: "done; terminal",
    EventType.FAILED: "could not be done: `failure_mode`; terminal",
    EventType.CANCELLED: "stopped before it was done; terminal",
    EventType.READY: "the workspace is complete and has its marker: `receipt_sha256`",
    EventType.SYNC_BLOCKED: "the workspace is kept from mirrors until an operator releases it",
    EventType.SESSION_OPENED: "a worker began to work",
    EventType.SESSION_LOST: "a worker's lease ran out",
    EventType.SESSION_CLOSED: "a worker ended in good order",
    EventType.LANE_REGISTERED: "a lane is there, or is another version now",
    EventType.LANE_DEGRADED: "a plugin or its lane cannot work: what is wrong, and the remedy",
    EventType.LANE_PAUSED: "an operator paused the lane",
    EventType.LANE_RESUMED: "an operator let it go on",
    EventType.LANE_DRAINING: "the lane takes nothing new",
    EventType.MIRROR_ACKNOWLEDGED: "a mirror verified its copy of a mission: `mirror_id`, `receipt_sha256`",
}
EXITS = {
    Exit.DONE: "done",
    Exit.MISSION_FAILED: "the mission failed",
    Exit.USAGE: "the command line, the settings or the request are wrong",
    Exit.CANCELLED: "the mission was cancelled",
    Exit.NOT_FOUND: "there is no such mission, lane or file",
    Exit.CONFLICT: "it contradicts what is there: the key, or the state",
    Exit.AUTH: "no token, a wrong one, or one that may not do this",
    Exit.UNREACHABLE: "the API does not answer",
    Exit.DOCTOR_FAULT: "`doctor` found a fault",
    Exit.REFUSED: "refused: a guardrail, too many, a lane that is unavailable, no room",
    Exit.DIFFERENCE: "`artifacts verify` found a difference",
    Exit.TIMED_OUT: "the time to wait was over",
    Exit.INTERRUPTED: "interrupted; a mission that was waited for goes on",
}


def settings_tables() -> Iterator[str]:
    for section, model in settings.SECTIONS.items():
        yield f"\n## [{section}]\n\n| key | variable | default | meaning |\n|---|---|---|---|\n"
        for name, field in model.model_fields.items():
            default = "" if field.default in {None, PydanticUndefined} else f"`{json.dumps(field.default)}`"
            yield f"| `{name}` | `UA_VP_{section}_{name}` | {default} | {field.description} |\n".replace(
                f"UA_VP_{section}_{name}", f"UA_VP_{section}_{name}".upper()
            )
    yield "\n## [lanes.<name>]\n\n| key | default | meaning |\n|---|---|---|\n"
    for name, field in settings.LaneSettings.model_fields.items():
        yield f"| `{name}` |  | {field.description} |\n"
    yield "\n"


def commands() -> Iterator[str]:
    built = app.build()
    for name, _, _ in app.COMMANDS:
        yield from _help(built, name)
    for group, _, inner in app.GROUPS:
        for name, _, _ in inner:
            yield from _help(built, f"{group} {name}")
    yield "\n## Exit codes\n\n| code | means |\n|---|---|\n"
    for code, words in EXITS.items():
        yield f"| {code.value} | {words} |\n"
    yield "\n"


def _help(built: App, command: str) -> Iterator[str]:
    from rich.console import Console

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        built.help_print(
            command.split(), console=Console(file=said, width=110, color_system=None, legacy_windows=False)
        )
    lines = [line.rstrip() for line in said.getvalue().strip().splitlines()]
    yield f"\n## ua-vp {command}\n\n```text\n" + "\n".join(lines) + "\n```\n"


def routes() -> Iterator[str]:
    for route in ROUTES:
        scope = f"`{route.scope}`" if route.scope else "none"
        yield f"\n## {route.method} {route.path}\n\n{route.summary}. Scope: {scope}.\n\n"
        fields = route.query.model_fields
        for name, field in fields.items():
            yield f"- `{name}` (query): {field.description}\n"
        for name, field in (route.request.model_fields if route.request else {}).items():
            yield f"- `{name}` (body{', needed' if field.is_required() else ''}): {field.description}\n"
        for name, words in route.headers.items():
            yield f"- `{name}` (header): {words}\n"
        answered = f"`{route.answer.__name__}`" if route.answer else "bytes"
        others = "".join(f"; {status}: {words}" for status, words in route.also.items())
        codes = "".join(f" `{code.code}`" for code in route.codes)
        yield f"- answers {route.status} with {answered}{others}\n" + (f"- refuses with{codes}\n" if codes else "")
    yield "\n## Error codes\n\n| code | status |\n|---|---|\n"
    for code, status in STATUS.items():
        yield f"| `{code}` | {status} |\n"
    yield "\n"


def events() -> Iterator[str]:
    yield "\n| type | says |\n|---|---|\n"
    for kind in EventType:
        yield f"| `{kind.value}` | {EVENTS[kind]} |\n"
    yield "\n"


def files() -> Iterator[str]:
    for name, schema in (("mission_receipt.json", receipt_schema()), ("sync_ready.json", sync_ready_schema())):
        yield f"\n## {name}\n\n| field | type |\n|---|---|\n"
        properties: Any = schema["properties"]
        for field, rule in properties.items():
            yield f"| `{field}` | {_kind(rule)} |\n"
    yield "\n"


def _kind(rule: Mapping[str, Any]) -> str:
    """What a JSON Schema says of a field, in a word or two."""
    if "enum" in rule:
        return "one of " + ", ".join(f"`{value}`" for value in rule["enum"])
    if "const" in rule:
        return f"always `{json.dumps(rule['const'])}`"
    kinds = rule["type"]
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


GENERATED: Mapping[str, Callable[[], Iterator[str]]] = {
    "docs/reference/settings.md": settings_tables,
    "docs/reference/cli.md": commands,
    "docs/reference/api.md": routes,
    "docs/reference/events.md": events,
    "docs/reference/files.md": files,
}


def renewed(page: Path, made: str) -> str:
    """The page with its generated part made anew."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{page}: {BEGIN.strip()} is missing"
    assert end, f"{page}: {END.strip()} is missing"
    return before + begin + made + end + after


if __name__ == "__main__":
    for name, make in GENERATED.items():
        (ROOT / name).write_text(renewed(ROOT / name, "".join(make())), encoding="utf-8")
