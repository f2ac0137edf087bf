"""What a documentation check counts and what it finds."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Check(StrEnum):
    """Everything that is checked, in the order of the report; the values are what a reader sees."""

    PAGES = "pages can be read"
    LINKS = "relative links"
    ANCHORS = "anchors"
    IMAGES = "images"
    REFERENCES = "reference links"
    REACHABLE = "pages reachable from README"
    PYTHON = "Python code blocks"
    JSON = "JSON code blocks"
    TOML = "TOML code blocks"
    SHELL = "shell code blocks"
    YAML = "YAML code blocks"
    OTHER_CODE = "other code blocks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One fault of the documentation."""

    check: Check
    file: str
    """Path below the root, with `/`."""
    line: int | None
    """Counted from 1; None where the whole page is meant."""
    subject: str
    """The link target, label or language in question, as it stands in the page."""
    message: str


@dataclass(kw_only=True, slots=True)
class Tally:
    """The running count of one check: what passed, what failed, what could not be looked at and why."""

    check: Check
    passed: int = 0
    findings: list[Finding] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def looked_at(self) -> int:
        """The denominator: things checked, whatever came of it."""
        return self.passed + len(self.findings)

    def found(self, file: str, line: int | None, *, subject: str, message: str) -> None:
        """Count one fault."""
        self.findings.append(Finding(check=self.check, file=file, line=line, subject=subject, message=message))
