"""Lanes: what they show of themselves and of their workers, and how little one broken plugin harms the others."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.installed import Installation, install
from tests.figures import Figures
from tests.product import CODER, ECHO, GENERAL, OPS, Json, Product, lanes_table
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


def test_a_lane_is_live_while_a_lease_runs_and_no_longer(product: Product) -> None:
    product.configure(lanes_table("general", "coder", "echo", lease_seconds=1.0))
    product.serve()
    assert product.answer("/sessions")["sessions"] == []
    worker = product.worker()
    assert product.get("/api/v1/ops/metrics/vp", vp_id=GENERAL).json()["live_workers"] == 1
    waiting = product.shell("echo > work_products/a", not_before="2999-01-01T00:00:00Z")
    assert product.finished(product.shell("echo > work_products/a"))["status"] == "completed"

    worker.send(signal.SIGKILL)

    wait_until(lambda: product.session(worker)["effective_status"] == "stale", within=10, why="its lease ran out")
    assert product.get("/api/v1/ops/metrics/vp", vp_id=GENERAL).json()["live_workers"] == 0
    lane = product.lane(GENERAL)
    assert (lane["available"], lane["depth"]["queued"]) == (True, 1), "the lane is still there, and takes missions"
    mission = product.mission(product.shell("echo > work_products/a"))
    assert (mission["status"], mission["queued_reason"]) == ("queued", "no_live_worker")
    assert product.mission(waiting)["queued_reason"] == "not_before"
    rows = product.run("workers", "--json").rows
    assert [session["effective_status"] for session in rows[0]["sessions"]] == ["stale"]
    worker.kill()


def test_a_worker_that_ends_closes_its_session(product: Product) -> None:
    product.serve()
    worker = product.worker()

    assert worker.end() == 0

    session = product.session(worker)
    assert session["effective_status"] == "closed"
    assert session["closed_at"]
    assert [event["type"] for event in product.events(vp_id=GENERAL) if "session" in event["type"]] == [
        "vp.session.opened",
        "vp.session.closed",
    ]


def test_worker_once_takes_as_many_missions_as_the_lane_has_room_for_and_ends(product: Product) -> None:
    product.serve()
    product.configure(
        lanes_table("coder", "echo") + '\n[lanes.general]\nsandbox = "none"\nallow_command = true\ncapacity = 2\n'
    )
    product.once()  # nothing to do: it ends, and publishes its capacity
    missions = [product.shell("echo > work_products/a") for _ in range(3)]

    product.once()

    assert [product.status(mission_id) for mission_id in missions] == ["completed", "completed", "queued"]
    assert [product.mission(mission_id)["sync_state"] for mission_id in missions[:2]] == ["ready", "ready"]
    assert {session["effective_status"] for session in product.answer("/sessions")["sessions"]} == {"closed"}


def test_a_lane_shows_what_a_dispatch_needs_to_know(serving: Product) -> None:
    lanes = {lane["vp_id"]: lane for lane in serving.answer("/lanes")["lanes"]}

    assert set(lanes) == {CODER, GENERAL, ECHO}
    assert (lanes[CODER]["display_name"], lanes[GENERAL]["display_name"]) == ("CODIE", "General")
    assert "codie" in {alias.lower() for alias in lanes[CODER]["aliases"]}
    for lane in lanes.values():
        assert lane["capacity"] >= 1
        assert lane["plugin"]["version"] == "0.1.0"
        assert lane["sandbox"] == "none"
        for kind in lane["mission_types"].values():
            assert kind["description"]
            assert kind["schema"]["type"] == "object"
            assert kind["available"] or kind["remedy"]
    assert "repository" in lanes[CODER]["mission_types"]["mend"]["schema"]["properties"]


def test_a_lane_without_a_configured_sandbox_refuses_and_says_how_to_allow_it(product: Product) -> None:
    product.configure(lanes_table("coder"))
    product.serve()

    answer = product.post(f"{OPS}/missions/dispatch", {"vp_id": ECHO, "objective": "x"})

    assert (answer.status_code, answer.json()["code"]) == (503, "lane_unavailable")
    for said in (answer.text, str(product.lane(ECHO)), product.run("worker", "echo", "--once", code=9).err):
        assert "[lanes.echo]" in said
        assert "sandbox" in said


BROKEN: Mapping[str, tuple[str, str]] = {
    "raises": ("raise RuntimeError('no flux')", "no flux"),
    "exits": ("import os; os._exit(3)", "3"),
    "leaves": ("raise SystemExit('enough')", "enough"),
    "hangs": ("import threading; threading.Event().wait()", "within"),
    "tomorrow": (
        """
        import dataclasses, ua_vp, ua_vp_echo
        class Lane(ua_vp_echo.Echo):
            info = dataclasses.replace(ua_vp_echo.Echo.info, vp_id="vp.tomorrow.primary", api_version=2)
        @ua_vp.hookimpl
        def ua_vp_lanes():
            return [Lane()]
        """,
        "API",
    ),
    "misspelt": ("import ua_vp\n@ua_vp.hookimpl\ndef ua_vp_lnaes(config):\n    return []", "ua_vp_lanes"),
    "wrong": ("import ua_vp\n@ua_vp.hookimpl\ndef ua_vp_lanes(settings):\n    return []", "settings"),
    "missing": ("import no_such_package", "no_such_package"),
}
"""Plugins by entry point: their code, and a word that the finding must hold."""


def add_plugin(packages: Path, name: str, code: str, *, entry_point: str | None = None) -> None:
    """Install a distribution `vp-<name>` that registers one plugin."""
    (packages / f"vp_{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    info = packages / f"vp_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vp-{name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[ua_vp]\n{entry_point or name} = vp_{name}\n", encoding="utf-8")
    (info / "RECORD").touch()


@pytest.fixture
def with_broken_plugins(wheels: list[Path], repository: Path, tmp_path: Path) -> Installation:
    """An installation of its own, with every kind of broken plugin."""
    installation = install(tmp_path / "venv", wheels, repository)
    for name, (code, _) in BROKEN.items():
        add_plugin(installation.packages, name, code)
    return installation


def test_a_broken_plugin_is_named_with_its_remedy_and_the_other_lanes_run(
    with_broken_plugins: Installation, tmp_path: Path
) -> None:
    config = lanes_table("general", "coder", "echo", probe_seconds=8.0)
    with Product(with_broken_plugins.program, tmp_path / "p", config, python=with_broken_plugins.python) as product:
        product.serve()
        mission_id = product.shell("echo > work_products/a")

        product.once()

        assert product.status(mission_id) == "completed"
        lanes, doctor = product.run("lanes", "ls").out, product.run("doctor", code=8).out
        plugins = {plugin["entry_point"]: plugin for plugin in product.answer("/lanes")["plugins"]}
        assert {name for name, plugin in plugins.items() if plugin["state"] == "ok"} == {"general", "coder", "echo"}
        for name, (_, word) in BROKEN.items():
            check_named(plugins[name], word, lanes, doctor)
            answer = product.post(f"{OPS}/missions/dispatch", {"vp_id": f"vp.{name}.primary", "objective": "x"})
            assert (answer.status_code, answer.json()["code"]) == (503, "lane_unavailable"), name
        registered = {event["vp_id"] for event in product.events() if event["type"] == "vp.lane.registered"}
        assert registered == {GENERAL, CODER, ECHO}


def check_named(plugin: Json, word: str, lanes: str, doctor: str) -> None:
    """API, `lanes ls` and `doctor` say which plugin, what is wrong with it, and what to do."""
    assert plugin["state"] == "degraded"
    assert word in plugin["detail"], plugin
    assert plugin["remedy"], plugin
    for said in (lanes, doctor):
        assert plugin["distribution"] in said
        assert plugin["remedy"].split(",")[0] in said


def test_of_two_plugins_with_one_id_the_first_keeps_it(
    wheels: list[Path], repository: Path, tmp_path: Path, figures: Figures
) -> None:
    installation = install(tmp_path / "venv", wheels, repository)
    config = lanes_table("general", "echo")
    with Product(installation.program, tmp_path / "product", config, python=installation.python) as product:
        product.serve().end()
        code = "import ua_vp, ua_vp_echo\n@ua_vp.hookimpl\ndef ua_vp_lanes():\n    return [ua_vp_echo.Echo()]"
        add_plugin(installation.packages, "another", code, entry_point="echo")
        product.serve()

        def plugins_now() -> dict[str, Json]:
            return {plugin["distribution"]: plugin for plugin in product.answer("/lanes")["plugins"]}

        wait_until(lambda: "vp-another" in plugins_now(), within=20, why="the newcomer gets its verdict")
        plugins = plugins_now()
        assert product.lane(ECHO)["plugin"]["distribution"] == "ua-vp-echo"
        assert (plugins["ua-vp-echo"]["state"], plugins["vp-another"]["state"]) == ("ok", "degraded")
        assert "ua-vp-echo" in plugins["vp-another"]["detail"]
        assert plugins["vp-another"]["remedy"]
        mission_id = product.dispatch(ECHO, "Still here")
        product.once("echo")
        assert product.status(mission_id) == "completed"
        assert "vp-another" in product.run("doctor", code=8).out
    figures("two plugins with one id", tried=1, note="the first keeps it, the second is named")
