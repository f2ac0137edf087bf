"""The pages of the documentation and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
UP, ELSEWHERE = ("./dev up", "ua-vp up"), {"./dev test": "it is what runs this"}
DIRECTIVE = re.compile(r"<!-- (?P<verb>\w+): (?P<object>\S+) -->")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; `directive` is the comment that stands right above it, such as `<!-- file: a/b.py -->`."""

    page: Path
    line: int
    tag: str
    text: str
    directive: tuple[str, str] | None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a `console` block, and the lines that the page says it shows."""

    where: str
    text: str
    shows: tuple[str, ...]


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    found, directive = [], None
    for token in tokens(page):
        if token.type == "fence":
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(page=page, line=line, tag=token.info.strip(), text=token.content, directive=directive))
        match = DIRECTIVE.fullmatch(token.content.strip()) if token.type == "html_block" else None
        directive = (match["verb"], match["object"]) if match else None
    return found


def commands(block: Block) -> Iterator[Command]:
    """Lines that begin with `$ ` are commands, `> ` goes on with one; what follows is what it shows."""
    command, shows = "", list[str]()
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield Command(where=block.where, text=command, shows=tuple(shows))
            command, shows = line[2:], []
        elif line.startswith(">") and not shows:
            command += "\n" + line[1:].removeprefix(" ")
        else:
            shows.append(line)
    assert command, f"{block.where}: a console block without a `$ ` line"
    yield Command(where=block.where, text=command, shows=tuple(shows))


def missing(shows: tuple[str, ...], output: str) -> str | None:
    """The first line that the page promises and `output` lacks, in order; `…` is anything, white space is not counted."""
    lines = iter(_plain(line) for line in output.splitlines())
    for wanted in shows:
        if wanted.strip() in {"", "…"}:
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in _plain(wanted).split("…")))
        if not any(pattern.fullmatch(line) for line in lines):
            return wanted
    return None


def _plain(line: str) -> str:
    return " ".join(line.split())
