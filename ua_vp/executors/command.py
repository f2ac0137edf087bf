"""The `command` executor: recipes that users declare in `ua-vp.toml`, and plain argvs where that is allowed.

A recipe is an argv with inputs by JSON Schema. No shell reads it: a placeholder fills (part of) one element of the
argv, whatever the value holds.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import signal
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema
import jsonschema.exceptions
import pydantic

from ua_vp.errors import ConfigurationError
from ua_vp.lane import COMMAND, NO_CONSTRAINTS, TASK, MissionContext, MissionType, Outcome
from ua_vp.mission import Budget, FailureMode, Json, JsonObject

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
PLACEHOLDER = re.compile(r"\{(python|inputs\.[A-Za-z0-9_-]+)\}")
WORK_PRODUCTS = ("work_products/**",)
PRODUCT_KEYS = ("capacity", "sandbox")
"""Keys of `[lanes.<name>]` that are not the lane's own."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
LAST_LINES, LAST_CHARACTERS = 20, 2000
LONGEST_SUMMARY = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A command with a name.

    `{python}` in `argv` is this product's interpreter, `{inputs.<name>}` the input of that name: a text as it is,
    anything else as JSON. `inputs` is the JSON Schema of `constraints.inputs`; `seconds` the time limit of a mission
    that brings none; `owes` what success must leave. `checks` are commands that lanes which change a repository run
    before and after.
    """

    name: str
    description: str
    argv: tuple[str, ...]
    inputs: JsonObject = field(default_factory=lambda: NO_CONSTRAINTS)
    seconds: float | None = None
    owes: tuple[str, ...] = WORK_PRODUCTS
    env: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[tuple[str, ...], ...] = ()

    def filled(self, inputs: JsonObject) -> tuple[str, ...]:
        """The argv for these inputs, which obey the schema; what is not given has its schema's default."""
        properties = _properties(self.inputs)
        values = {name: schema["default"] for name, schema in properties.items() if "default" in schema} | dict(inputs)

        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            return sys.executable if name == "python" else _text(values[name.removeprefix("inputs.")])

        return tuple(PLACEHOLDER.sub(fill, part) for part in self.argv)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What came of a command: the outcome it means, and the last lines that it wrote."""

    outcome: Outcome
    said: str = ""


class _Table(pydantic.BaseModel):
    """`[lanes.<name>.recipes.<type>]`, as written in `ua-vp.toml`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    description: str = pydantic.Field(min_length=1)
    argv: tuple[str, ...] = pydantic.Field(min_length=1)
    inputs: dict[str, Any] = {}
    seconds: float | None = pydantic.Field(None, gt=0)
    owes: tuple[str, ...] = pydantic.Field(WORK_PRODUCTS, min_length=1)
    env: dict[str, str] = {}
    checks: tuple[tuple[str, ...], ...] = ()


def recipes_from(
    config: Mapping[str, Any], shipped: Iterable[Recipe] = (), *, lane: str, checks: bool = False
) -> dict[str, Recipe]:
    """The lane's recipes: those it ships, and those of `[lanes.<lane>.recipes]`.

    A table with the name of a shipped recipe changes what it names of it and leaves the rest. `checks` says whether
    the lane knows that key.

    Raises:
        ConfigurationError: names table and key, and the near key.
    """
    recipes = {recipe.name: recipe for recipe in shipped}
    tables = config.get("recipes", {})
    if not isinstance(tables, Mapping):
        raise ConfigurationError(f"[lanes.{lane}] recipes must be a table: [lanes.{lane}.recipes.<type>]")
    for name, table in tables.items():
        where = f"[lanes.{lane}.recipes.{name}]"
        if not NAME.fullmatch(name) or name in {TASK, COMMAND}:
            raise ConfigurationError(f"{where}: a recipe cannot be named {name!r}; name it like {NAME.pattern}")
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{where} must be a table with `description` and `argv`")
        recipes[name] = _recipe(name, table, recipes.get(name), where=where, checks=checks)
    return recipes


def mission_types(
    recipes: Mapping[str, Recipe],
    *,
    allow_command: bool,
    properties: Mapping[str, JsonObject] = NOTHING,
    required: Sequence[str] = (),
    command_owes: tuple[str, ...] = WORK_PRODUCTS,
) -> dict[str, MissionType]:
    """The types that recipes make, `command` where that is allowed, and `task`.

    `properties` are the lane's own constraints, by JSON Schema, which every type takes; `required` those of them that
    must be given.
    """

    def constraints(own: Mapping[str, JsonObject], must: Sequence[str]) -> JsonObject:
        return {
            "type": "object",
            "properties": {**own, **properties},
            "required": [*must, *required],
            "additionalProperties": False,
        }

    types = {}
    for name, recipe in recipes.items():
        types[name] = MissionType(
            description=recipe.description,
            schema=constraints({"inputs": recipe.inputs}, ["inputs"] if recipe.inputs.get("required") else []),
            owes=recipe.owes,
            default_budget=Budget(seconds=recipe.seconds),
        )
    if allow_command:
        argv: JsonObject = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        types[COMMAND] = MissionType(
            description="A program with arguments, run without a shell",
            schema=constraints({"argv": argv}, ["argv"]),
            owes=command_owes,
        )
    types[TASK] = MissionType(description="An objective in free text, for an agent", schema=constraints({}, []))
    return types


def no_agent(types: Iterable[str]) -> dict[str, str]:
    """For `Availability.types`: type `task` needs an agent, and the remedy says what can be had without one."""
    others = ", ".join(name for name in types if name != TASK)
    return {TASK: f"no agent is configured for this lane; dispatch one of its other types: {others or 'it has none'}"}


def refuse_unknown_keys(config: Mapping[str, Any], *, lane: str, known: Iterable[str]) -> None:
    """Check the keys of `[lanes.<lane>]` against the lane's own and the product's.

    Raises:
        ConfigurationError: names the key and the near one.
    """
    every = sorted({*known, *PRODUCT_KEYS})
    for key in config:
        if key not in every:
            raise ConfigurationError(f"[lanes.{lane}] {key} is not a setting{_near(key, every)}")


def flag(config: Mapping[str, Any], key: str, *, lane: str) -> bool:
    """The boolean `key` of `[lanes.<lane>]`, false if it is not there.

    Raises:
        ConfigurationError: it is neither true nor false.
    """
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise ConfigurationError(f"[lanes.{lane}] {key} must be true or false, not {value!r}")
    return value


def run_mission(
    ctx: MissionContext,
    recipes: Mapping[str, Recipe],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] = NOTHING,
) -> Ran:
    """Run the mission's recipe, or its argv if it is of type `command`, in `cwd`, with the variables `env` besides.

    Raises:
        MissionStoppedError: the mission must stop.
    """
    mission = ctx.mission
    if mission.mission_type == COMMAND:
        argv = mission.constraints["argv"]
        assert isinstance(argv, Sequence)  # by the schema
        return _run(ctx, COMMAND, [str(part) for part in argv], env=env, cwd=cwd)
    recipe = recipes.get(mission.mission_type)
    if recipe is None:
        known = ", ".join(recipes) or "none"
        outcome = Outcome.failed(
            f"No recipe {mission.mission_type!r} in this worker",
            failure_mode=FailureMode.LANE_UNAVAILABLE,
            detail=f"recipes of this worker: {known}; restart it if ua-vp.toml was changed",
        )
        return Ran(outcome=outcome)
    return run_recipe(ctx, recipe, cwd=cwd, env=env)


def run_recipe(
    ctx: MissionContext, recipe: Recipe, *, cwd: Path | None = None, env: Mapping[str, str] = NOTHING
) -> Ran:
    """Run `recipe` with the mission's inputs; without `cwd` in a fresh folder with the mission's folders in it.

    An exit code other than 0 is a failure with the last lines of output; success takes its summary from the first
    line of `work_products/summary.md`.

    Raises:
        MissionStoppedError: the mission must stop.
    """
    inputs = ctx.mission.constraints.get("inputs", {})
    assert isinstance(inputs, Mapping)  # by the schema
    return _run(ctx, recipe.name, recipe.filled(inputs), env={**env, **recipe.env}, cwd=cwd)


def last_lines(output: bytes) -> str:
    """The end of a program's output, at most 20 lines and 2,000 characters."""
    lines = [line.rstrip() for line in output.decode("utf-8", errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:])[-LAST_CHARACTERS:]


def first_line_of(file: Path) -> str | None:
    """The first line with text of a Markdown file, without its heading marks; None if there is no such regular file.

    The file was written by the mission: no link is followed.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        text = os.read(descriptor, 64 * 1024).decode("utf-8", errors="replace")
    finally:
        os.close(descriptor)
    lines = (line.strip().lstrip("#").strip() for line in text.splitlines())
    return next((line[:LONGEST_SUMMARY] for line in lines if line), None)


def _run(ctx: MissionContext, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None) -> Ran:
    if any("\0" in part for part in argv):
        text = f"{name}: an argument holds a NUL character, which no program can be given"
        return Ran(outcome=Outcome.failed(text, failure_mode=FailureMode.GUARDRAIL_VIOLATION))
    ctx.log(f"{name}: {' '.join(argv)}")
    try:
        finished = ctx.run(argv, cwd=cwd, env=env)
    except OSError as error:
        text = f"{name} cannot be started: {error.strerror or error}"
        return Ran(outcome=Outcome.failed(text, detail=f"{text}; install {argv[0]!r}, or mend the argv of {name!r}"))
    said = last_lines(finished.tail)
    if finished.code != 0:
        return Ran(outcome=_failure(name, argv, finished.code, said), said=said)
    summary = first_line_of(ctx.work_products / "summary.md")
    primary = ["summary.md"] if summary is not None else []
    return Ran(outcome=Outcome.completed(summary or f"{name} ended with exit code 0", primary=primary), said=said)


def _failure(name: str, argv: Sequence[str], code: int, said: str) -> Outcome:
    if code < 0:
        names = {int(number): number.name for number in signal.Signals}
        how = f"was ended by signal {names.get(-code, -code)}"
    else:
        how = f"ended with exit code {code}"
    detail = f"{argv[0]} {how}; " + (f"its last lines:\n{said}" if said else "its output is in run.log")
    last = said.rpartition("\n")[2][:LONGEST_SUMMARY]
    return Outcome.failed(f"{name} {how}{last and ': '}{last}", detail=detail)


def _recipe(name: str, table: Mapping[str, Any], shipped: Recipe | None, *, where: str, checks: bool) -> Recipe:
    known = [key for key in _Table.model_fields if checks or key != "checks"]
    for key in table:
        if key not in known:
            raise ConfigurationError(f"{where} {key} is not a key of a recipe{_near(key, known)}")
    base = {key: getattr(shipped, key) for key in known} if shipped else {}
    try:
        values = _Table.model_validate({**base, **table})
    except pydantic.ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigurationError(f"{where} {'; '.join(faults)}") from error
    recipe = Recipe(name=name, **{**values.model_dump(), "inputs": _inputs_schema(values.inputs, where)})
    _check_placeholders(recipe, where)
    if reserved := [variable for variable in recipe.env if variable.startswith("UA_VP_") or "=" in variable]:
        raise ConfigurationError(f"{where} env: {reserved[0]} cannot be set; UA_VP_ is the product's own")
    return recipe


def _inputs_schema(given: Mapping[str, Any], where: str) -> JsonObject:
    """The schema of `constraints.inputs`: an object that refuses unknown keys, unless the table says otherwise."""
    schema = {"type": "object", "additionalProperties": False, **given}
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        defaults = {name: value["default"] for name, value in _properties(schema).items() if "default" in value}
        jsonschema.Draft202012Validator({**schema, "required": []}).validate(defaults)
    except jsonschema.exceptions.SchemaError as error:
        at = ".".join(map(str, error.absolute_path))
        raise ConfigurationError(f"{where} inputs{at and '.'}{at} is no JSON Schema: {error.message}") from error
    except jsonschema.exceptions.ValidationError as error:
        raise ConfigurationError(f"{where} inputs: a default breaks its own schema: {error.message}") from error
    if schema["type"] != "object":
        raise ConfigurationError(f'{where} inputs.type must be "object": inputs are given by name')
    return schema


def _check_placeholders(recipe: Recipe, where: str) -> None:
    properties, required = _properties(recipe.inputs), recipe.inputs.get("required", [])
    assert isinstance(required, Sequence)  # by the meta-schema
    for part in recipe.argv:
        for name in PLACEHOLDER.findall(part):
            given = name.removeprefix("inputs.")
            if name == "python":
                continue
            if given not in properties:
                hint = _near(given, sorted(properties)) if properties else "; the recipe declares no inputs"
                raise ConfigurationError(f"{where} argv: {{{name}}} is not among inputs.properties{hint}")
            if given not in required and "default" not in properties[given]:
                raise ConfigurationError(
                    f"{where} argv: {{{name}}} may be missing; put {given!r} into inputs.required or give it a default"
                )


def _properties(schema: JsonObject) -> Mapping[str, Mapping[str, Json]]:
    properties: Any = schema.get("properties", {})
    return {name: value if isinstance(value, Mapping) else {} for name, value in properties.items()}


def _near(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]}?" if nearest else f"; known are {', '.join(known)}"


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)
