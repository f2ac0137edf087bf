"""The lane `vp.coder.primary`, CODIE: works on a clone of a repository and hands out a patch."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ua_vp_codie.checks import ENVIRONMENT, Check, broken, run_checks
from ua_vp_codie.clone import HEAD, Clone, CloneError
from ua_vp_codie.summary import Result, headline, page

import ua_vp
from ua_vp import executors

LANE = "coder"
PATCH, SUMMARY = "changes.patch", "summary.md"
OWES = (f"work_products/{PATCH}", f"work_products/{SUMMARY}")
MEND = executors.Recipe(
    name="mend",
    description="Mend a Python repository: safe lint fixes and formatting, its tests run before and after",
    argv=("{python}", "-P", "-m", "ua_vp_codie.mend"),
    seconds=1800,
    owes=OWES,
    checks=(("python3", "-m", "unittest", "discover", "-s", "tests", "-t", "."),),
)
CONSTRAINTS: Mapping[str, Any] = {
    "repository": {"type": "string", "minLength": 1, "description": "absolute path of a git repository on this host"},
    "base": {
        "type": "string",
        "pattern": r"^[^\u0000-\u0020\u007f-][^\u0000-\u001f\u007f]*$",
        "maxLength": 500,
        "default": HEAD,
        "description": "branch, tag or commit to start from",
    },
}


class Codie:
    """Clones, runs a recipe in the clone, and hands out what it changed."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        executors.refuse_unknown_keys(config, lane=LANE, known=("recipes", "allow_command", "repositories", "checks"))
        self._recipes = executors.recipes_from(config, [MEND], lane=LANE, checks=True)
        self._checks = _checks(config)
        self.info = ua_vp.LaneInfo(
            vp_id="vp.coder.primary",
            display_name="CODIE",
            aliases=("codie", "coder vp", "codie vp"),
            mission_types=executors.mission_types(
                self._recipes,
                allow_command=executors.flag(config, "allow_command", lane=LANE),
                properties=CONSTRAINTS,
                required=("repository",),
                command_owes=OWES,
            ),
            path_policy=ua_vp.PathPolicy(fields=("repository",), allowed=_repositories(config)),
        )

    def availability(self) -> ua_vp.Availability:
        """Needs git; free text needs an agent besides."""
        types = executors.no_agent(self.info.mission_types)
        if shutil.which("git") is None:
            return ua_vp.Availability(
                available=False, reason="git is not installed", remedy="install git (`apt install git`)", types=types
            )
        return ua_vp.Availability(types=types)

    def run(self, ctx: ua_vp.MissionContext) -> ua_vp.Outcome:
        """Clone, check, work, compare, apply the patch elsewhere and check there; never write to the repository."""
        constraints = ctx.mission.constraints
        repository = self.info.path_policy.check(constraints)["repository"]
        try:
            clone = Clone.make(ctx, repository, str(constraints.get("base", HEAD)))
            ctx.progress(f"cloned {repository.name} at {clone.base[:12]}")
            return self._work(ctx, clone)
        except CloneError as error:
            return ua_vp.Outcome.failed(error.detail)

    def _work(self, ctx: ua_vp.MissionContext, clone: Clone) -> ua_vp.Outcome:
        kind = ctx.mission.mission_type
        before = self._run_checks(ctx, clone.check_out("before"), "before")
        folder = clone.check_out("repo")
        clone.lend(folder)
        ran = executors.run_mission(ctx, self._recipes, cwd=folder, env=ENVIRONMENT)
        clone.take_back(folder)
        if ran.outcome.status is not ua_vp.Status.COMPLETED:
            return ran.outcome
        ctx.progress(f"{kind} is done")
        patch = _place(ctx.work_products / PATCH)
        changes = clone.changes(folder, patch)
        mended = clone.check_out("after")
        if changes.short:
            clone.apply(patch, mended, tree=changes.tree)
        after = self._run_checks(ctx, mended, "after")
        _place(ctx.supporting / "diffstat").write_text(changes.stat + "\n", encoding="utf-8")
        result = Result(
            objective=ctx.mission.objective,
            kind=kind,
            clone=clone,
            changes=changes,
            before=before,
            after=after,
            said=ran.said,
        )
        _place(ctx.work_products / SUMMARY).write_text(page(result), encoding="utf-8", errors="replace")
        return _outcome(result)

    def _run_checks(self, ctx: ua_vp.MissionContext, folder: Path, when: str) -> tuple[Check, ...]:
        recipe = self._recipes.get(ctx.mission.mission_type)
        checks = (recipe.checks if recipe else ()) or self._checks
        done = run_checks(ctx, checks, folder=folder, log=_place(ctx.supporting / f"checks-{when}.log"))
        ctx.progress(f"{sum(check.passed for check in done)} of {len(done)} checks pass {when}")
        return done


@ua_vp.hookimpl
def ua_vp_lanes(config: Mapping[str, Any]) -> Sequence[ua_vp.Lane]:
    """The lane, made from `[lanes.coder]`."""
    return [Codie(config)]


def _outcome(result: Result) -> ua_vp.Outcome:
    """Done, unless the change broke what was whole."""
    if worse := broken(result.before, result.after):
        names = "; ".join(" ".join(check.argv) for check in worse)
        detail = f"passed before and fails with the patch: {names}\n{worse[0].said}"
        return ua_vp.Outcome.failed(f"The change breaks what was whole: {headline(result)}", detail=detail)
    primary = [PATCH, SUMMARY] if result.changes.short else [SUMMARY]
    return ua_vp.Outcome.completed(headline(result), primary=primary)


def _place(path: Path) -> Path:
    """`path`, with nothing there: what the recipe left under this name, a link even, is put aside."""
    if os.path.lexists(path):
        path.rename(path.with_name(f"recipe-{path.name}"))
    return path


def _repositories(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The roots below which repositories may lie; none given: anywhere.

    Raises:
        ConfigurationError: not a list of absolute paths.
    """
    roots = config.get("repositories", [])
    if not isinstance(roots, list) or not all(isinstance(root, str) and root.startswith("/") for root in roots):
        raise ua_vp.ConfigurationError(f"[lanes.{LANE}] repositories must be a list of absolute paths, not {roots!r}")
    return tuple(roots)


def _checks(config: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The checks for `command` and for recipes that declare none.

    Raises:
        ConfigurationError: not a list of argvs.
    """
    checks = config.get("checks", [])
    argvs = isinstance(checks, list) and all(isinstance(argv, list) and argv for argv in checks)
    if not argvs or not all(isinstance(part, str) for argv in checks for part in argv):
        raise ua_vp.ConfigurationError(
            f'[lanes.{LANE}] checks must be a list of commands, as in [["make", "test"]], not {checks!r}'
        )
    return tuple(tuple(argv) for argv in checks)
