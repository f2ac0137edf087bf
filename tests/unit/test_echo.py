"""The lane of twenty lines, as its author would test it."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

import ua_vp
from ua_vp.testing import run_mission


@pytest.fixture
def echo(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plugin, from its folder: it is not installed here."""
    monkeypatch.syspath_prepend(repository / "plugins/lanes/echo")
    return importlib.import_module("ua_vp_echo")


def test_echo_hands_over_the_objective(echo: ModuleType, tmp_path: Path) -> None:
    run = run_mission(echo.Echo(), "say it again", tmp_path=tmp_path)
    assert run.outcome.status is ua_vp.Status.COMPLETED
    assert run.files["work_products/echo.txt"] == b"say it again\n"
    assert next(iter(run.files)) == "work_products/echo.txt"


def test_echo_refuses_constraints_that_it_does_not_know(echo: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ua_vp.VpError, match="volume"):
        run_mission(echo.Echo(), "say it again", constraints={"volume": 11}, tmp_path=tmp_path)


def test_echo_is_a_lane_of_twenty_lines(echo: ModuleType, repository: Path) -> None:
    source = (repository / "plugins/lanes/echo/ua_vp_echo/__init__.py").read_text()
    code = [line for line in source.splitlines() if line.strip() and not line.strip().startswith(('"""', "#"))]
    assert len(code) <= 20
    assert [lane.info.vp_id for lane in echo.ua_vp_lanes()] == ["vp.echo.primary"]
