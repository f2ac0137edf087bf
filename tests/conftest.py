"""What every test stands on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import RECORD, Figures, Rounds
from tests.postgres import Cluster, NoServerError


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this run's own; `create()` gives a fresh database."""
    try:
        cluster = Cluster()
    except NoServerError as error:
        pytest.skip(str(error))
    with cluster:
        yield cluster


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Rounds:
    """How often to try something: `rounds(ci=…, soak=…)`."""
    return Rounds(soak=request.config.getoption("--soak"), part=request.config.getoption("--part-of-soak"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Where a fault test says how often it tried and what it lost."""
    return Figures(test=request.node.nodeid, record=request.config.getoption(RECORD))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `./dev soak`."""
    group = parser.getgroup("faults")
    group.addoption("--soak", action="store_true", help="as many rounds as the soak promises; takes hours")
    group.addoption("--part-of-soak", type=float, default=1.0, help="this share of the soak's rounds (0.1: a tenth)")
    group.addoption(RECORD, type=Path, help="append what fault tests counted to this file, a JSON object a line")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A soak has no time limit."""
    if config.getoption("--soak"):
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what passing tests measured: every line they printed that begins with `figure:`."""
    reports = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    for line in [line for report in reports for line in report.capstdout.splitlines()]:
        if line.startswith("figure:"):
            terminalreporter.write_line(line)
