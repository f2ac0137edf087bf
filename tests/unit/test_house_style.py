"""The rules of CONTRIBUTING.md that a program can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT, ALL_PYTHON = ("ua_vp", "plugins"), ("ua_vp", "plugins", "tests", ".ci")
LONGEST_FUNCTION, LONGEST_MODULE = 40, 400
SAYS_NOTHING = {"utils", "common", "helpers", "manager", "types"}

BROAD_EXCEPTS: dict[str, str] = {
    "ua_vp/compose.py::_run_with_signals.run": "the worker's thread ends: the main thread raises what it raised",
    "ua_vp/host/load.py::Hooks.credential": "a plugin's hook is called: it becomes a credential error without its words",
    "ua_vp/host/load.py::Hooks.health": "a plugin's hook is called: it is not well",
    "ua_vp/host/load.py::Hooks.mission_event": "a plugin's hook is called: an observer's error is logged and stops nothing",
    "ua_vp/host/plugin.py::guarded": "a plugin is imported and its lane asked: the plugin is degraded, the others run",
    "ua_vp/ledger/writer.py::Writer._commit_once": "a Step is others' code: whatever it raises is undone and goes to its own caller alone",
    "ua_vp/ops/boundary.py::Boundary.__call__": "a request ends: its caller gets a problem with an id, the log the trace",
    "ua_vp/runtime/threads.py::guarded.run": "a thread ends: the error is logged and the process with it",
    "ua_vp/worker/execute.py::run_lane": "a lane is others' code: whatever it raises, exit() too, ends its mission as failed",
    "ua_vp/testing/simulation.py::World.run": "the main thread of a simulated world ends: the error becomes the run's",
    "ua_vp/testing/simulation.py::World._begin": "a simulated thread ends: the error becomes the run's",
}
"""Where a broad `except` may stand, as `path::function`, and why: others' code is called, or a thread or process ends."""

STANDALONE = ("ua_vp/sandbox/launcher.py",)
"""Run in a process of their own before anything else is there: the standard library alone, no threads, no children's kit."""
NOT_STANDALONE = {"multiprocessing", "subprocess", "threading", "queue", "time", "asyncio", "concurrent"}

BROAD = {"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function under `node` with its dotted name; a function within a function too."""
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, Function | ast.ClassDef):
            inner += f"{child.name}."
        if isinstance(child, Function):
            yield inner.rstrip("."), child
        yield from functions(child, inner)


def lines_of(function: Function) -> int:
    """From `def` to the last line, docstring and all."""
    return (function.end_lineno or 0) - function.lineno + 1


def is_broad(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(kind is None or ast.unparse(kind) in BROAD for kind in kinds)


def is_broad_handler(node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler) and is_broad(node.type)


def is_broad_suppress(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") and any(map(is_broad, node.args))


def broad_excepts(node: ast.AST, inside: str) -> Iterator[str]:
    """The name of the function around each broad `except` under `node`."""
    for child in ast.iter_child_nodes(node):
        around = inside
        if isinstance(child, Function | ast.ClassDef):
            around = f"{inside}.{child.name}".lstrip(".")
        if is_broad_handler(child) or is_broad_suppress(child):
            yield around or "<module>"
        yield from broad_excepts(child, around)


def imported(file: Path) -> set[str]:
    """The top-level packages that a module imports."""
    names: set[str] = set()
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0] if not node.level else "ua_vp")
    return names


def text_files() -> list[Path]:
    """What git would commit, as far as it is text."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    files = [ROOT / path for path in listed.split("\0") if path]
    return [file for file in files if file.is_file() and b"\0" not in file.read_bytes()]


def test_a_function_does_one_step() -> None:
    long = [
        f"{name(file)}::{function} has {lines_of(node)} lines"
        for file in python_files(*ALL_PYTHON)
        for function, node in functions(parse(file))
        if lines_of(node) > LONGEST_FUNCTION
    ]
    assert not long, long


def test_a_module_is_one_noun_or_verb() -> None:
    lengths = {name(file): len(file.read_text().splitlines()) for file in python_files(*PRODUCT)}
    long = {file: lines for file, lines in lengths.items() if lines > LONGEST_MODULE and "/migrations/" not in file}
    assert not long, long


def test_a_module_is_named_for_what_it_holds() -> None:
    assert not [name(file) for file in python_files(*ALL_PYTHON) if SAYS_NOTHING & set(file.with_suffix("").parts)]


def test_a_broad_except_stands_only_where_the_list_says_why() -> None:
    found = {f"{name(file)}::{around}" for file in python_files(*PRODUCT) for around in broad_excepts(parse(file), "")}
    assert found - BROAD_EXCEPTS.keys() == set(), "a broad except that the list does not know"
    assert BROAD_EXCEPTS.keys() - found == set(), "an entry of the list that nothing uses"
    assert all(BROAD_EXCEPTS.values()), "an entry without a reason"


def test_an_ignored_type_error_is_named() -> None:
    bare = re.compile(r"#\s*type:\s*ignore(?!\[)")
    assert not [
        name(file)
        for file in python_files(*PRODUCT, "tests")
        if bare.search(file.read_text()) and file != Path(__file__)
    ]


def test_tests_wait_for_conditions_not_for_time() -> None:
    sleeps = re.compile(r"\b(time|asyncio|anyio|trio)\.sleep\(|from time import .*\bsleep\b")
    allowed = {Path(__file__), ROOT / "tests" / "waiting.py"}
    assert not [name(file) for file in python_files("tests") if file not in allowed and sleeps.search(file.read_text())]


@pytest.mark.parametrize("path", STANDALONE)
def test_what_runs_in_a_process_of_its_own_needs_the_standard_library_alone(path: str) -> None:
    file = ROOT / path
    imports = imported(file) if file.exists() else set()
    assert imports <= sys.stdlib_module_names - NOT_STANDALONE, imports


@pytest.mark.parametrize("lock", ["bootstrap.lock", "requirements.lock"])
def test_a_lock_file_holds_hashes_and_no_address(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    assert not [line for line in lines if re.search(r"\w+://|--(extra-)?index|--find-links|--trusted-host", line)]
    entry = re.compile(r"(\S+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|-e \.(/\S+)?)")
    assert not [line for line in lines if not entry.fullmatch(line)]


def test_no_committed_text_knows_a_developers_machine() -> None:
    paths = re.compile(r"/(root|work)/\w+|/home/(?!newcomer)\w+")
    knows = {name(file) for file in text_files() if paths.search(file.read_text(encoding="utf-8", errors="replace"))}
    assert knows - {name(Path(__file__))} == set()
