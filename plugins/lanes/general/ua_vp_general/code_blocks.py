"""Whether the code blocks of a page parse in the language they name; nothing of them is run."""

import ast
import doctest
import importlib
import json
import re
import shutil
import subprocess
import textwrap
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ua_vp_general.findings import Check, Tally
from ua_vp_general.markdown import CodeBlock, Page

LANGUAGES = {
    "python": Check.PYTHON,
    "py": Check.PYTHON,
    "python3": Check.PYTHON,
    "pycon": Check.PYTHON,
    "json": Check.JSON,
    "toml": Check.TOML,
    "yaml": Check.YAML,
    "yml": Check.YAML,
    "sh": Check.SHELL,
    "bash": Check.SHELL,
    "shell": Check.SHELL,
    "console": Check.SHELL,
    "shell-session": Check.SHELL,
    "shellsession": Check.SHELL,
}
_SESSIONS = {"console", "shell-session", "shellsession"}
_PROMPT = re.compile(r"(?:\([^()]{1,60}\) )?[^\s$]{0,80}\$ (?P<command>.*)")
_SHELL_SECONDS = 10
# What the parsers raise on text that is too deeply nested to be meant.
_TOO_DEEP = (RecursionError, MemoryError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why a block does not parse; `line` is counted from 1 within the block, None if the parser does not say."""

    message: str
    line: int | None = None


class NotCheckedError(Exception):
    """A block could not be checked; the message says why."""


def check_code(pages: dict[str, Page]) -> tuple[Tally, ...]:
    """Parse every code block of every page in a language known here."""
    tallies = {check: Tally(check=check) for check in (*dict.fromkeys(LANGUAGES.values()), Check.OTHER_CODE)}
    for name, page in pages.items():
        for block in page.code_blocks:
            _check_block(name, block, tallies[LANGUAGES.get(block.language, Check.OTHER_CODE)])
    return tuple(tallies.values())


def find_fault(block: CodeBlock) -> Fault | None:
    """Say why a block in a known language does not parse; None if it does.

    Raises:
        NotCheckedError: what it takes to check it is not on this machine.
    """
    checkers: dict[Check, Callable[[CodeBlock], Fault | None]] = {
        Check.PYTHON: _python_fault,
        Check.JSON: _json_fault,
        Check.TOML: _toml_fault,
        Check.SHELL: _shell_fault,
        Check.YAML: _yaml_fault,
    }
    try:
        return checkers[LANGUAGES[block.language]](block)
    except _TOO_DEEP:
        return Fault(message="too deeply nested to parse")


def _check_block(name: str, block: CodeBlock, tally: Tally) -> None:
    if tally.check is Check.OTHER_CODE:
        reason = "in languages without a check here" if block.language else "name no language"
        tally.left_out[reason] += 1
        return
    try:
        fault = find_fault(block)
    except NotCheckedError as error:
        tally.left_out[str(error)] += 1
        return
    if fault is None:
        tally.passed += 1
    else:
        line = (
            block.line + min(fault.line or 1, max(1, block.text.count("\n"))) - 1
        )  # some name the line after the last
        tally.found(name, line, subject=block.language, message=f"does not parse: {fault.message}")


# --- Python ---


def _python_fault(block: CodeBlock) -> Fault | None:
    if block.language == "pycon" or block.text.lstrip().startswith(">>>"):
        return _session_fault(block.text)
    return _source_fault(textwrap.dedent(block.text))


def _source_fault(source: str) -> Fault | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is no fault of syntax
            ast.parse(source)
    except SyntaxError as error:
        return Fault(message=error.msg, line=error.lineno)
    except ValueError as error:  # a NUL in the source
        return Fault(message=str(error))
    return None


def _session_fault(text: str) -> Fault | None:
    """Parse what a Python session typed after `>>>`, as doctest reads it."""
    try:
        examples = doctest.DocTestParser().get_examples(text)
    except ValueError as error:
        found = re.match(r"line (\d+) of the docstring for <string> (.*)", str(error), re.DOTALL)
        return Fault(message=f"the session {found[2]}", line=int(found[1])) if found else Fault(message=str(error))
    for example in examples:
        fault = _source_fault(example.source)
        if fault:
            return Fault(message=fault.message, line=example.lineno + (fault.line or 1))
    return None


# --- data ---


def _json_fault(block: CodeBlock) -> Fault | None:
    try:
        json.loads(block.text)
    except json.JSONDecodeError as error:
        return Fault(message=error.msg, line=error.lineno)
    except ValueError as error:  # a number beyond Python's limit of digits
        return Fault(message=str(error))
    return None


def _toml_fault(block: CodeBlock) -> Fault | None:
    try:
        tomllib.loads(block.text)
    except ValueError as error:  # includes TOMLDecodeError
        found = re.search(r"\(at line (\d+),", str(error))
        return Fault(message=str(error), line=int(found[1]) if found else None)
    return None


def _yaml_fault(block: CodeBlock) -> Fault | None:
    """Parse YAML into nodes, which builds no object and expands no alias."""
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise NotCheckedError("YAML: PyYAML is not installed") from None
    try:
        for _ in yaml.compose_all(block.text, Loader=yaml.SafeLoader):
            pass
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return Fault(message=getattr(error, "problem", None) or str(error), line=mark.line + 1 if mark else None)
    return None


# --- shell ---


def _shell_fault(block: CodeBlock) -> Fault | None:
    """Let the shell itself read the block with `-n`, which runs nothing."""
    is_session = block.language in _SESSIONS or _PROMPT.match(block.text.lstrip()) is not None
    script = _typed(block.text) if is_session else block.text
    if not script.strip():
        raise NotCheckedError("shell: no line after a `$` prompt")
    wanted = ("sh",) if block.language == "sh" else ("bash",) if block.language == "bash" else ("bash", "sh")
    shell = next((path for path in map(shutil.which, wanted) if path), None)
    if shell is None:
        raise NotCheckedError(f"shell: {wanted[0]} is not installed")
    return _read_by_shell(shell, script)


def _read_by_shell(shell: str, script: str) -> Fault | None:
    try:
        answer = subprocess.run(
            (shell, "-n"),
            input=script.encode(errors="replace"),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            capture_output=True,
            timeout=_SHELL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotCheckedError(f"shell: not read within {_SHELL_SECONDS} seconds") from None
    if answer.returncode == 0:
        return None
    said = answer.stderr.decode(errors="replace").strip().partition("\n")[0]
    found = re.match(r".*?: (?:line )?(\d+): (.*)", said)
    return Fault(message=found[2], line=int(found[1])) if found else Fault(message=said or "refused by the shell")


def _typed(session: str) -> str:
    """Keep what was typed after a `$` prompt, with continued lines; output becomes empty lines, so lines keep numbers."""
    script: list[str] = []
    continued = False
    for line in session.splitlines():
        match = _PROMPT.match(line.lstrip())
        if match:
            typed = match["command"]
        elif line.startswith("> ") and script and script[-1]:
            typed = line[2:]
        else:
            typed = line if continued else ""
        continued = typed.endswith("\\")
        script.append(typed)
    return "\n".join(script) + "\n"
