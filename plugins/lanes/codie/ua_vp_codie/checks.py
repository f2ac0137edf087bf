"""A repository's own checks: commands whose exit code says whether all is well."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ua_vp
from ua_vp import executors

ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}
"""So that running Python leaves nothing in a work tree that would end up in a patch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A check that was run: its exit code (None: it could not be started), and the last lines it wrote."""

    argv: tuple[str, ...]
    code: int | None
    said: str

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return self.code == 0

    @property
    def result(self) -> str:
        """In words."""
        return "cannot be started" if self.code is None else "passed" if self.passed else f"exit code {self.code}"


def run_checks(
    ctx: ua_vp.MissionContext, checks: Sequence[Sequence[str]], *, folder: Path, log: Path
) -> tuple[Check, ...]:
    """Run each of `checks` in `folder`, one after the other; `log` gets what they wrote (its end, if it was long).

    Raises:
        MissionStoppedError: the mission must stop.
    """
    done = []
    with log.open("xb") as file:
        for argv in checks:
            ctx.log(f"check: {' '.join(argv)}")
            try:
                finished = ctx.run(argv, cwd=folder, env=ENVIRONMENT)
                check = Check(argv=tuple(argv), code=finished.code, said=executors.last_lines(finished.tail))
                output = finished.tail
            except OSError as error:
                check = Check(argv=tuple(argv), code=None, said=str(error.strerror or error))
                output = check.said.encode()
            done.append(check)
            line = f"$ {' '.join(argv)}\n".encode("utf-8", errors="replace")
            file.write(
                line + output.rstrip(b"\n") + f"\n({check.result}; all of its output is in run.log)\n\n".encode()
            )
    return tuple(done)


def broken(before: Sequence[Check], after: Sequence[Check]) -> list[Check]:
    """The checks that passed before and do not pass after."""
    return [now for then, now in zip(before, after, strict=True) if then.passed and not now.passed]


def verdict(before: Sequence[Check], after: Sequence[Check]) -> str:
    """Both runs in a clause."""
    failed_before, failed_after = (sum(not check.passed for check in checks) for checks in (before, after))
    if not after:
        return "no checks are declared"
    if not failed_after:
        return "all checks pass" + (f" ({failed_before} of {len(before)} failed before)" if failed_before else "")
    return f"{failed_after} of {len(after)} checks fail ({failed_before} before)"
