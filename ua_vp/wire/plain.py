"""JSON that every reader understands the same way: no NUL, no lone surrogates, no name twice, no NaN, not too deep.

I-JSON (RFC 7493) in spirit. Pointers are JSON pointers in fragment form (RFC 6901, section 6): `#/constraints/argv/0`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DEEPEST = 64
"""Levels of nesting."""
LARGEST_INTEGER = 2**63 - 1


class NotPlainError(ValueError):
    """The bytes are no JSON, or not plain; its text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainFault:
    """One thing that is not plain: `pointer` says where."""

    pointer: str
    detail: str


def parse_plain(body: bytes) -> Any:
    """The JSON value in `body`; `plain_faults` must still be asked.

    Raises:
        NotPlainError: not UTF-8, not JSON, a name twice in one object, NaN, Infinity, or nested too deep to read.
    """
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise NotPlainError(f"the body is not UTF-8: byte {error.start} cannot be read") from error
    except RecursionError as error:
        raise NotPlainError(f"the body is nested deeper than {DEEPEST} levels") from error
    except json.JSONDecodeError as error:
        raise NotPlainError(f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except NotPlainError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise NotPlainError("the body holds a number with too many digits") from error


def plain_faults(value: Any) -> Iterator[PlainFault]:
    """What is not plain in a parsed value; does not recurse, so depth cannot hurt."""
    waiting: list[tuple[str, Any, int]] = [("#", value, 0)]
    while waiting:
        pointer, item, depth = waiting.pop()
        if depth > DEEPEST:
            yield PlainFault(pointer=pointer, detail=f"is nested deeper than {DEEPEST} levels")
            return
        if isinstance(item, dict):
            for name, inner in item.items():
                if detail := _text_fault(str(name)):
                    yield PlainFault(pointer=pointer, detail=f"holds a name that {detail}")
                    continue
                waiting.append((f"{pointer}/{escape(str(name))}", inner, depth + 1))
        elif isinstance(item, list | tuple):
            waiting.extend((f"{pointer}/{index}", inner, depth + 1) for index, inner in enumerate(item))
        elif detail := _scalar_fault(item):
            yield PlainFault(pointer=pointer, detail=detail)


def escape(name: str) -> str:
    """`name` as one part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _scalar_fault(item: Any) -> str | None:
    if isinstance(item, str):
        return _text_fault(item)
    if isinstance(item, int) and abs(item) > LARGEST_INTEGER:
        return "is an integer beyond 64 bits"
    if isinstance(item, float) and not math.isfinite(item):
        return "is not a finite number"
    return None


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "must not contain NUL"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "must not contain a lone surrogate"
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise NotPlainError(f"the body names {name[:100]!r} twice in one object")
        value[name] = item
    return value


def _refuse_constant(name: str) -> Any:
    raise NotPlainError(f"the body holds {name}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotPlainError("the body holds a number beyond what a double can hold")
    return value
