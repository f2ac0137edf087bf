"""Checking a mission against what its lane publishes: type, availability, budget, JSON Schema, path policy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import jsonschema
import referencing
import referencing.exceptions
from jsonschema import Draft202012Validator

from ua_vp.control.asking import refuse
from ua_vp.control.parsing import FAULTS_SHOWN, LONGEST_DETAIL, many
from ua_vp.errors import FieldFault, LaneUnavailableError, NotFoundError, ValidationError
from ua_vp.lane import MEASURABLE, LaneInfo, Manifest, MissionType
from ua_vp.mission import Budget, JsonObject
from ua_vp.wire.plain import escape


def no_lane(vp_id: str, known: Iterable[str]) -> NotFoundError:
    """The error for a lane that nothing names; `known` are those the caller may hear of."""
    near = difflib.get_close_matches(vp_id[:100], list(known), n=1, cutoff=0.6)
    return NotFoundError(
        f"no lane {vp_id[:100]!r}" + (f"; did you mean {near[0]}?" if near else "; `ua-vp lanes ls` lists them")
    )


def check_available(manifest: Manifest, mission_type: str) -> MissionType:
    """The published type, if lane and type can take missions now.

    Raises:
        LaneUnavailableError: lane or type cannot; the text has the remedy.
        ValidationError: the lane has no such type.
    """
    info, availability = manifest.info, manifest.availability
    if not availability.available:
        raise unavailable(info.vp_id, availability.reason, availability.remedy)
    kind = info.mission_types.get(mission_type)
    if kind is None:
        near = difflib.get_close_matches(mission_type, info.mission_types, n=1, cutoff=0.5)
        known = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(info.mission_types)) or 'none'}"
        raise refuse("#/mission_type", f"{info.vp_id} has no type {mission_type!r}; {known}")
    if mission_type in availability.types:
        remedy = availability.types[mission_type]
        raise LaneUnavailableError(f"type {mission_type!r} of {info.vp_id} cannot be taken now: {remedy}")
    return kind


def unavailable(vp_id: str, reason: str | None, remedy: str | None) -> LaneUnavailableError:
    """The error for a lane that cannot take missions."""
    return LaneUnavailableError(
        f"{vp_id} cannot take missions: {reason or 'it is not available'}; {remedy or '`ua-vp doctor` says more'}"
    )


def check_budget(info: LaneInfo, budget: Budget) -> None:
    """Let pass the limits that somebody measures.

    Raises:
        ValidationError: a limit that neither the worker nor the lane measures.
    """
    measured = MEASURABLE | set(info.measures)
    faults = [
        FieldFault(
            pointer=f"#/budget/{name}",
            detail=f"{info.vp_id} cannot measure this, so it cannot be enforced; it can {', '.join(sorted(measured))}",
        )
        for name in budget.to_json()
        if name not in measured
    ]
    if faults:
        raise many(faults)


def check_constraints(info: LaneInfo, mission_type: str, kind: MissionType, constraints: JsonObject) -> None:
    """Let pass constraints that obey the type's schema and the lane's path policy. Looks at the file system.

    Raises:
        ValidationError: the schema is broken at the places named.
        GuardrailViolationError: a path that missions may not be pointed at.
        LaneUnavailableError: the schema itself is not one.
    """
    try:
        Draft202012Validator.check_schema(kind.schema)
        # An empty registry: a `$ref` to elsewhere is never fetched.
        validator = Draft202012Validator(kind.schema, registry=referencing.Registry())
        found = [
            FieldFault(pointer=_pointer(error), detail=error.message[:LONGEST_DETAIL])
            for error, _ in zip(validator.iter_errors(constraints), range(FAULTS_SHOWN), strict=False)
        ]
    except (jsonschema.SchemaError, referencing.exceptions.Unresolvable) as error:
        raise LaneUnavailableError(
            f"type {mission_type!r} of {info.vp_id} publishes no valid JSON Schema ({error}); tell the lane's author"
        ) from error
    if found:
        raise _schema_error(mission_type, found)
    info.path_policy.check(constraints)


def _schema_error(mission_type: str, faults: list[FieldFault]) -> ValidationError:
    error = many(faults)
    return ValidationError(f"the constraints do not fit type {mission_type!r}: {error.detail}", faults=error.faults)


def _pointer(error: jsonschema.ValidationError) -> str:
    return "#/constraints" + "".join(f"/{escape(str(part))}" for part in error.absolute_path)
