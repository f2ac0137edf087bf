"""The one way of other people's text to a terminal: what could steer it is shown, never sent."""

from __future__ import annotations

import unicodedata

SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that steer a terminal or hide text: controls, formats (right-to-left marks, zero-width and tag
characters among them), lone surrogates, line and paragraph separators."""


def line(text: object, limit: int | None = None) -> str:
    """`text` on one line: white space runs together, what steers a terminal is written out as an escape like `\\x1b`.

    With a `limit`, at most that many characters, the last one `…` if something was cut.
    """
    shown = "".join(_shown(character) for character in " ".join(str(text).split()))
    return shown if limit is None or len(shown) <= limit else shown[: max(limit - 1, 0)] + "…"


def block(text: object) -> str:
    """`text` with its line ends kept and tabs as spaces; everything else as in `line`."""
    lines = str(text).replace("\r\n", "\n").split("\n")
    return "\n".join("".join(_shown(character) for character in one.expandtabs(8)) for one in lines)


def is_tame(text: str) -> bool:
    """Whether nothing in `text` but line ends and tabs could steer a terminal."""
    return all(character in "\n\t" or unicodedata.category(character) not in SHOWN for character in text)


def _shown(character: str) -> str:
    if " " <= character <= "~":
        return character
    if unicodedata.category(character) not in SHOWN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
