"""`ua-vp logs`."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Annotated

from cyclopts import Parameter, validators

from ua_vp.cli import text
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.exits import Exit
from ua_vp.client import Client


def logs(
    mission_id: Annotated[str, Parameter(name="ID")],
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=())] = False,
    attempt: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Print a mission's log. Ctrl-C stops the printing, not the mission.

    Args:
        follow: Go on as it grows, until the mission has ended.
        attempt: Of this attempt; default: the current one.
    """
    with console.client() as client:
        try:
            for line in lines(_chunks(client, mission_id, attempt, console, follow=follow)):
                _print(line, console, as_json=as_json)
        except KeyboardInterrupt:
            console.say(f"detached; nothing was stopped. To come back: ua-vp logs {mission_id} -f")
            return Exit.INTERRUPTED
    return Exit.DONE


def _chunks(client: Client, mission_id: str, attempt: int | None, console: Console, *, follow: bool) -> Iterator[bytes]:
    current = 0
    read = client.follow_log if follow else client.log
    for part in read(mission_id, attempt=attempt):
        if current and part.attempt != current:
            console.say(f"attempt {part.attempt} begins")
        current = part.attempt
        yield part.data


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines out of chunks that may end anywhere, even within a character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from whole
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


def _print(line: str, console: Console, *, as_json: bool) -> None:
    if not as_json:
        console.data(text.block(line))
        return
    at, stream, said = [*line.split(" ", 2), "", ""][:3]
    console.json({"at": at, "stream": stream, "text": said})
