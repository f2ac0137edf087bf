"""Where a command reads and writes: data on standard output, everything said to people on standard error."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated, Any, TextIO

import cyclopts

from ua_vp.cli import text

if TYPE_CHECKING:
    import pydantic

    from ua_vp.client import Client
    from ua_vp.ports import Clock
    from ua_vp.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Console:
    """What a command has of the world: the environment, three streams, a clock."""

    environ: Mapping[str, str]
    stdin: IO[bytes]
    stdout: TextIO
    stderr: TextIO
    clock: Clock

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads standard output."""
        return self.stdout.isatty()

    def data(self, line: str = "") -> None:
        """One line of data; `line` must have gone through `text` where others wrote it."""
        self.stdout.write(line + "\n")
        self.stdout.flush()

    def json(self, value: pydantic.BaseModel | Mapping[str, Any]) -> None:
        """One JSON value on one line, ASCII only: safe on any terminal."""
        plain = value if isinstance(value, Mapping) else value.model_dump(mode="json", by_alias=True)
        self.data(json.dumps(plain))

    def raw(self, chunk: bytes) -> None:
        """Bytes as they are; only where nobody's terminal is at the other end."""
        self.stdout.flush()
        self.stdout.buffer.write(chunk)
        self.stdout.buffer.flush()

    def say(self, words: str) -> None:
        """One line to the person; what others wrote in it is made harmless. A terminal that went away changes nothing."""
        self._write(text.line(words))

    def paragraph(self, words: str) -> None:
        """As `say`, with line ends and indentation kept."""
        self._write(text.block(words))

    def _write(self, tame: str) -> None:
        with suppress(OSError):
            self.stderr.write(tame + "\n")
            self.stderr.flush()

    def settings(self) -> Settings:
        """The settings of this environment.

        Raises:
            ConfigurationError: they are wrong.
        """
        from ua_vp import settings

        return settings.load(self.environ)

    def client(self) -> Client:
        """The running API: `UA_VP_URL` and `UA_VP_TOKEN`, else what it wrote into the home.

        Raises:
            VpError: there is none, or its token cannot be read.
        """
        from ua_vp import client, settings

        home = settings.home_of(self.environ)
        place = client.find(
            url=self.environ.get("UA_VP_URL") or None,
            token=self.environ.get("UA_VP_TOKEN") or None,
            ops_file=home / "ops.json",
            token_file=home / "credentials" / "ops.token",
        )
        return client.Client(place.url, place.token, clock=self.clock, face="cli")

    def width(self) -> int | None:
        """Columns of the terminal; None if standard output is none: then nothing is cut."""
        if not self.is_terminal:
            return None
        try:
            return os.get_terminal_size(self.stdout.fileno()).columns or 80
        except OSError:
            return 80


Here = Annotated[Console, cyclopts.Parameter(parse=False)]
"""The parameter through which a command gets its console."""
AsJson = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Answer in JSON, one value a line.")]
"""The option that every command has."""
