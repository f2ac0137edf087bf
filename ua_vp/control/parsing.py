"""From bytes to a checked request: the one place where a body becomes a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic
from pydantic_core import ErrorDetails

from ua_vp.control.asking import refuse
from ua_vp.errors import FieldFault, ValidationError
from ua_vp.wire import NotPlainError, parse_plain, plain_faults
from ua_vp.wire.plain import escape

M = TypeVar("M", bound=pydantic.BaseModel)
FAULTS_SHOWN = 20
LONGEST_DETAIL = 500


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        ValidationError: it is none, or not plain (`ua_vp.wire.plain`).
    """
    try:
        value = parse_plain(body)
    except NotPlainError as error:
        raise refuse("#", str(error)) from error
    faults = [FieldFault(pointer=fault.pointer, detail=fault.detail) for fault in plain_faults(value)]
    if faults:
        raise many(faults)
    if not isinstance(value, dict):
        raise refuse("#", "the body must be a JSON object")
    return value


def validated(model: type[M], value: Mapping[str, Any]) -> M:
    """`value` as `model`.

    Raises:
        ValidationError: with a pointer to each field that is wrong, and the near name for an unknown one.
    """
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        faults = [_fault(model, fault) for fault in error.errors(include_url=False, include_context=False)]
        raise many(faults) from error


def many(faults: list[FieldFault]) -> ValidationError:
    """The error for several wrong fields; says how many when there are too many to list."""
    shown = faults[:FAULTS_SHOWN]
    text = "; ".join(f"{fault.pointer.removeprefix('#/')}: {fault.detail}" for fault in shown)
    if len(faults) > len(shown):
        text += f"; and {len(faults) - len(shown)} more"
    return ValidationError(text, faults=shown)


def _fault(model: type[pydantic.BaseModel], fault: ErrorDetails) -> FieldFault:
    # `[key]` is pydantic's mark for a fault in a name itself.
    pointer = "#" + "".join(f"/{escape(str(part)[:100])}" for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) if len(fault["loc"]) == 1 else ""
        return FieldFault(pointer=pointer, detail="is not a field here" + (f"; known are {known}" if known else ""))
    if fault["type"] == "missing":
        return FieldFault(pointer=pointer, detail="is needed")
    detail = fault["msg"].removeprefix("Value error, ")
    return FieldFault(pointer=pointer, detail=detail[:1].lower() + detail[1:LONGEST_DETAIL])
