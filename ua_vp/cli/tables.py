"""Plain columns: aligned, one line a row, the last column cut to the width of a terminal and to nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from ua_vp.cli import text

GAP = "  "


def columns(headings: Sequence[str], rows: Sequence[Sequence[object]], *, width: int | None = None) -> Iterator[str]:
    """The lines of a table; cells may hold anybody's text. `width` (of the terminal) limits a line."""
    cells = [[heading.upper() for heading in headings]] + [[text.line(cell) for cell in row] for row in rows]
    widths = [max(wide(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        start = GAP.join(cell + " " * (size - wide(cell)) for cell, size in zip(row[:-1], widths[:-1], strict=True))
        yield _cut(f"{start}{GAP}{row[-1]}" if row[:-1] else row[-1], width).rstrip()


def wide(cell: str) -> int:
    """How many columns of a terminal `cell` takes."""
    if cell.isascii():
        return len(cell)
    return sum(_width_of(character) for character in cell)


def _width_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _cut(line: str, width: int | None) -> str:
    if width is None or wide(line) <= width:
        return line
    kept, used = [], 0
    for character in line:
        used += _width_of(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"
