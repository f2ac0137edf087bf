"""What every test stands on."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return Path(__file__).resolve().parent.parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what passing tests measured: every line they printed that begins with `figure:`."""
    reports = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    for line in [line for report in reports for line in report.capstdout.splitlines()]:
        if line.startswith("figure:"):
            terminalreporter.write_line(line)
