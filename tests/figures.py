"""Every zero has a denominator: how often a fault was injected, and what that cost."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

RECORD = "--record-figures"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounds:
    """How many rounds a test does: few where it is one of many, as many as promised in a soak."""

    soak: bool
    part: float

    def __call__(self, *, ci: int, soak: int) -> int:
        return max(ci, math.ceil(soak * self.part)) if self.soak else ci


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Counts of one test; a call prints one line, keeps it for the reliability page, and fails unless all is zero."""

    test: str
    record: Path | None

    def __call__(
        self, fault: str, *, tried: int, lost: int = 0, double: int = 0, orphaned: int = 0, note: str = ""
    ) -> None:
        """Say that `fault` was injected `tried` times.

        `lost`: missions or answers that were acknowledged and are not there. `double`: ended, claimed or published
        twice. `orphaned`: processes, files or rows that nobody will clear away.
        """
        line = f"figure: {fault}: tried {tried}, lost {lost}, double {double}, orphaned {orphaned}"
        print(line + (f"; {note}" if note else ""))
        if self.record is not None:
            counts = {"tried": tried, "lost": lost, "double": double, "orphaned": orphaned}
            with self.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"fault": fault, "test": self.test, **counts, "note": note}) + "\n")
        assert tried > 0, f"{fault}: nothing was tried"
        assert (lost, double, orphaned) == (0, 0, 0), line
