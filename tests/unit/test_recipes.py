"""Recipes: what users write in `ua-vp.toml`, and what becomes of it."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import ua_vp
from ua_vp import executors
from ua_vp.executors import Recipe

COUNT = """
[recipes.count]
description = "Count words"
argv = ["wc", "--{inputs.what}", "{inputs.file}"]
seconds = 60
[recipes.count.inputs]
required = ["file"]
properties.file.type = "string"
properties.what = { enum = ["words", "lines"], default = "words" }
"""
GREET = Recipe(name="greet", description="Greet", argv=("echo", "hello"), seconds=5, checks=(("true",),))


def recipes(text: str, *shipped: Recipe, checks: bool = False) -> dict[str, Recipe]:
    return executors.recipes_from(tomllib.loads(text), shipped, lane="general", checks=checks)


def schema_of(kind: ua_vp.MissionType) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(dict(kind.schema))
    return jsonschema.Draft202012Validator(dict(kind.schema))


def test_an_input_fills_its_place_in_the_argv_and_is_never_read_by_a_shell() -> None:
    count = recipes(COUNT)["count"]
    hostile = "a b; rm -rf / $(id) `id` {python} {inputs.what}"
    assert count.filled({"file": hostile}) == ("wc", "--words", hostile)
    assert count.filled({"file": "x", "what": "lines"}) == ("wc", "--lines", "x")


def test_the_interpreter_is_a_placeholder_and_other_braces_stay() -> None:
    recipe = Recipe(name="r", description="r", argv=("{python}", "-c", "{print $1}", "{}", "{other.thing}"))
    assert recipe.filled({}) == (sys.executable, "-c", "{print $1}", "{}", "{other.thing}")


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (3, "3"), (1.5, "1.5"), (["a", 1], '["a", 1]'), ("a", "a")]
)
def test_a_text_is_filled_in_as_it_is_and_anything_else_as_json(value: Any, text: str) -> None:
    inputs: dict[str, Any] = {"type": "object", "properties": {"it": {}}, "required": ["it"]}
    assert Recipe(name="r", description="r", argv=("p", "x={inputs.it}"), inputs=inputs).filled({"it": value}) == (
        "p",
        f"x={text}",
    )


def test_inputs_refuse_what_they_do_not_know() -> None:
    schema = schema_of(executors.mission_types(recipes(COUNT), allow_command=False)["count"])
    assert schema.is_valid({"inputs": {"file": "a"}})
    wrongs: list[Any] = [
        {},
        {"inputs": {}},
        {"inputs": {"file": "a", "flie": "b"}},
        {"inputs": {"file": 1}},
        {"input": 1},
    ]
    for wrong in wrongs:
        assert not schema.is_valid(wrong), wrong


def test_a_table_changes_what_it_names_of_a_shipped_recipe() -> None:
    greet = recipes("[recipes.greet]\nseconds = 9", GREET, checks=True)["greet"]
    assert (greet.seconds, greet.argv, greet.checks) == (9, GREET.argv, GREET.checks)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[recipes.x]\nargv = ['a']", ["[lanes.general.recipes.x]", "description"]),
        ("[recipes.x]\ndescription = 'd'\nargv = 'rm -rf'", ["argv"]),
        ("[recipes.x]\ndescription = 'd'\nargv = []", ["argv"]),
        ("[recipes.x]\ndescription = 'd'\nargv = ['a']\nsecods = 1", ["secods", "did you mean seconds?"]),
        ("[recipes.x]\ndescription = 'd'\nargv = ['a']\nchecks = [['b']]", ["checks", "not a key of a recipe"]),
        ("[recipes.x]\ndescription = 'd'\nargv = ['a']\nseconds = 0", ["seconds"]),
        ("[recipes.x]\ndescription = 'd'\nargv = ['{inputs.file}']", ["{inputs.file}", "declares no inputs"]),
        (COUNT.replace("{inputs.file}", "{inputs.fiel}"), ["{inputs.fiel}", "did you mean file?"]),
        (COUNT.replace('required = ["file"]', ""), ["{inputs.file}", "inputs.required"]),
        (COUNT.replace('"words" }', '"bytes" }'), ["default", "bytes"]),
        (COUNT.replace('"string"', '"sting"'), ["inputs.properties.file.type", "no JSON Schema"]),
        ("[recipes.task]\ndescription = 'd'\nargv = ['a']", ["cannot be named 'task'"]),
        ("[recipes.Bad]\ndescription = 'd'\nargv = ['a']", ["cannot be named 'Bad'"]),
        ("[recipes.x]\ndescription = 'd'\nargv = ['a']\nenv.UA_VP_TOKEN = 'x'", ["UA_VP_TOKEN"]),
        ("recipes = 3", ["[lanes.general]", "recipes must be a table"]),
        ("recipes.x = 3", ["[lanes.general.recipes.x]", "must be a table"]),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_its_table_and_key(text: str, names: list[str]) -> None:
    with pytest.raises(ua_vp.ConfigurationError) as error:
        recipes(text)
    assert [name for name in names if name not in str(error.value)] == []


def test_an_unknown_key_of_a_lane_is_refused_with_the_near_one() -> None:
    executors.refuse_unknown_keys({"capacity": 2, "sandbox": "none", "recipes": {}}, lane="x", known=("recipes",))
    with pytest.raises(ua_vp.ConfigurationError, match=r"\[lanes.x\] allow_comand .* did you mean allow_command\?"):
        executors.refuse_unknown_keys({"allow_comand": True}, lane="x", known=("recipes", "allow_command"))


def test_a_flag_is_true_or_false() -> None:
    assert not executors.flag({}, "allow_command", lane="x")
    with pytest.raises(ua_vp.ConfigurationError, match="must be true or false"):
        executors.flag({"allow_command": "yes"}, "allow_command", lane="x")


def test_a_command_is_a_type_only_where_it_is_allowed() -> None:
    assert set(executors.mission_types({}, allow_command=False)) == {"task"}
    types = executors.mission_types(
        {}, allow_command=True, properties={"repository": {"type": "string"}}, required=("repository",)
    )
    schema = schema_of(types["command"])
    assert schema.is_valid({"argv": ["true"], "repository": "/r"})
    for wrong in ({"argv": ["true"]}, {"argv": [], "repository": "/r"}, {"argv": "true", "repository": "/r"}):
        assert not schema.is_valid(wrong), wrong


def test_free_text_needs_an_agent_and_the_remedy_names_the_other_types() -> None:
    types = executors.mission_types(recipes(COUNT), allow_command=True)
    assert executors.no_agent(types)["task"].endswith("its other types: count, command")


@pytest.mark.parametrize(
    ("text", "line"),
    [("\n\n# Done: 3 files\nmore", "Done: 3 files"), ("plain\n", "plain"), ("", None), ("#\n \n", None)],
)
def test_the_first_line_of_a_page_is_its_heading_without_marks(tmp_path: Path, text: str, line: str | None) -> None:
    page = tmp_path / "summary.md"
    page.write_text(text)
    assert executors.first_line_of(page) == line


def test_no_link_is_followed_for_a_summary(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    (tmp_path / "summary.md").symlink_to(tmp_path / "secret")
    assert executors.first_line_of(tmp_path / "summary.md") is None
    assert executors.first_line_of(tmp_path) is None


def test_last_lines_are_bounded() -> None:
    said = executors.last_lines("\n".join(f"line {n} é" for n in range(100)).encode() + b"\xff\n\n")
    assert said.splitlines()[0] == "line 80 é"
    assert len(executors.last_lines(b"x" * 10_000)) == 2_000
