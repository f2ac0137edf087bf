"""Opens one plugin: imports it, checks its hooks, and says in a line what went wrong."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from ua_vp import hookspecs
from ua_vp.errors import ConfigurationError, LaneUnavailableError
from ua_vp.host.installed import Installed, Request
from ua_vp.lane import Lane

T = TypeVar("T")
LONGEST_DETAIL = 600


class DegradedError(LaneUnavailableError):
    """A plugin cannot be used: what was `found`, and the `remedy`."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A plugin whose hooks are registered, alone, in a manager of its own."""

    plugin: object
    manager: pluggy.PluginManager
    hooks: tuple[str, ...]
    """Names of the hooks that it implements."""


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the product's hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def open_plugin(installed: Installed) -> Opened:
    """Import the plugin and register its hooks.

    Raises:
        DegradedError: it cannot be imported, a hook is unknown or has a wrong signature, or it has none.
    """
    plugin = guarded(installed, "import", lambda: _load(installed))
    manager = new_manager()
    try:
        manager.register(plugin, name=installed.entry_point)
    except pluggy.PluginValidationError as error:
        raise DegradedError(f"wrong hook: {_one_line(str(error))}", fix(installed)) from error
    callers = manager.get_hookcallers(plugin) or []
    _refuse_unknown_hooks(callers, installed)
    if not callers:
        raise DegradedError(_nothing_registered(plugin, installed), fix(installed))
    return Opened(plugin=plugin, manager=manager, hooks=tuple(sorted(caller.name for caller in callers)))


def lanes_of(opened: Opened, request: Request) -> list[Lane]:
    """The lanes that the plugin makes of its table of `ua-vp.toml`.

    Raises:
        DegradedError: the hook raised, or returned no list.
    """
    if "ua_vp_lanes" not in opened.hooks:
        return []
    results = guarded(
        request.plugin, "ua_vp_lanes", lambda: opened.manager.hook.ua_vp_lanes(config=dict(request.config))
    )
    returned = results[0] if results else []
    if not isinstance(returned, list | tuple):
        raise DegradedError(f"ua_vp_lanes returned {type(returned).__name__}, not a list of lanes", fix(request.plugin))
    return list(returned)


def guarded(installed: Installed, step: str, call: Callable[[], T]) -> T:
    """Run a plugin's code; whatever it raises, `exit()` included, becomes a DegradedError that names the line.

    Raises:
        DegradedError: as said.
    """
    try:
        return call()
    except DegradedError:
        raise
    except ConfigurationError as error:
        raise DegradedError(error.detail, f"mend [lanes.{installed.entry_point}] in ua-vp.toml") from error
    except (Exception, SystemExit) as error:
        raise DegradedError(f"{step}: {blame(error, installed)}", _remedy(error, installed)) from error


def blame(error: BaseException, installed: Installed) -> str:
    """The exception and the plugin's line it came from: `ValueError: no key (package/module.py:12)`."""
    message = _one_line(str(error)) or "(no message)"
    if isinstance(error, SystemExit):
        message = f"the plugin called exit({error.code!r})"
    where = _where(error, installed)
    return f"{type(error).__name__}: {message}{f' ({where})' if where else ''}"


def fix(installed: Installed) -> str:
    """The remedy for a fault in the plugin's code."""
    name = installed.distribution
    return f"fix {name} {installed.version}, or `pip install -U {name}`, or `pip uninstall {name}`"


def short_path(filename: str) -> str:
    """The last two parts of a path: enough to find the file in a plugin."""
    return "/".join(Path(filename).parts[-2:])


def _load(installed: Installed) -> Any:
    point = importlib.metadata.EntryPoint(installed.entry_point, installed.value, hookspecs.GROUP)
    return point.load()


def _refuse_unknown_hooks(callers: list[pluggy.HookCaller], installed: Installed) -> None:
    """What pluggy's `check_pending` does, naming the near hook."""
    known = [name for name in vars(hookspecs) if name.startswith("ua_vp_")]
    for caller in callers:
        if not caller.has_spec() and not all(impl.optionalhook for impl in caller.get_hookimpls()):
            near = difflib.get_close_matches(caller.name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"hooks are {', '.join(known)}"
            raise DegradedError(f"unknown hook {caller.name!r}; {hint}", fix(installed))


def _nothing_registered(plugin: object, installed: Installed) -> str:
    unmarked = [name for name, _ in inspect.getmembers_static(plugin) if name.startswith("ua_vp_")]
    if unmarked:
        return f"{installed.value} implements no hook: {unmarked[0]} is not marked with @ua_vp.hookimpl"
    return f"{installed.value} implements no hook (such as `@ua_vp.hookimpl def ua_vp_lanes(config)`)"


def _remedy(error: BaseException, installed: Installed) -> str:
    name = installed.distribution
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != installed.package:
        return f"a dependency is missing: `pip install -U {name}` (or `pip install {error.name}`)"
    return fix(installed)


def _where(error: BaseException, installed: Installed) -> str | None:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{short_path(error.filename)}:{error.lineno}"
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [at for at, module in zip(frames, modules, strict=True) if module.partition(".")[0] == installed.package]
    return f"{short_path(own[-1].filename)}:{own[-1].lineno}" if own else None


def _one_line(text: str) -> str:
    line = "; ".join(part.strip() for part in text.strip().splitlines() if part.strip())
    return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 1] + "…"
