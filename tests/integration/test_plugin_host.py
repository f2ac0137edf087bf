"""The plugin host against plugins that behave, and plugins that do everything else."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.figures import Figures
from tests.waiting import wait_until
from ua_vp import events, host
from ua_vp.errors import ConfigurationError, CredentialError, LaneUnavailableError
from ua_vp.lane import Manifest, Verdict
from ua_vp.mission import Actor
from ua_vp.runtime import real_ports
from ua_vp.settings import LaneSettings, Settings, Worker, load

LANE = """
import ua_vp
class Lane:
    info = ua_vp.LaneInfo(
        vp_id="vp.NAME.primary", display_name="NAME",
        mission_types={"task": ua_vp.MissionType(description="d")}MORE,
    )
    def availability(self):
        return ua_vp.Availability()
    def run(self, ctx):
        return ua_vp.Outcome.completed("done")
@ua_vp.hookimpl
def ua_vp_lanes(config):
    return [Lane()]
"""

BAD: Mapping[str, tuple[str, str, str]] = {
    "raises": ("x = 1\nraise RuntimeError('no luck\\n today')", "RuntimeError: no luck; today (bad_raises/__init__.py:2)", "fix"),
    "exits": ("exit(7)", "SystemExit: the plugin called exit(7) (bad_exits/__init__.py:1)", "uninstall"),
    "dies": ("import os\nprint('last words', flush=True)\nos._exit(9)", "(exit code 9) without an answer; its last words: last words", "uninstall"),
    "interrupts": ("raise KeyboardInterrupt", "without an answer; its last words: KeyboardInterrupt", "uninstall"),
    "syntax": ("def f(:\n", "SyntaxError", "uninstall"),
    "dependency": ("import nothing_of_this_name", "No module named 'nothing_of_this_name'", "pip install -U dist-dependency"),
    "signature": (LANE.replace("(config)", "(cofnig)"), "'cofnig'", "fix dist-signature"),
    "misspelt": (LANE.replace("ua_vp_lanes", "ua_vp_lane"), "unknown hook 'ua_vp_lane'; did you mean 'ua_vp_lanes'?", "fix"),
    "unmarked": (LANE.replace("@ua_vp.hookimpl", ""), "ua_vp_lanes is not marked with @ua_vp.hookimpl", "fix"),
    "empty": ("", "implements no hook", "fix"),
    "newer": (LANE.replace("MORE", ", api_version=2"), "speaks lane API 2; this ua-vp speaks 1", "pip install -U ua-vp`"),
    "older": (LANE.replace("MORE", ", api_version=0"), "speaks lane API 0", "pip install -U dist-older"),
    "malformed": (LANE.replace("vp.NAME.primary", "vp.NAME"), "'vp.malformed' is not of the form", "fix"),
    "other": (LANE.replace("vp.NAME.primary", "vp.somebody.primary"), "entry point 'other', which must be 'somebody'", "fix"),
    "schema": (LANE.replace('description="d"', 'description="d", schema={"type": "objekt"}'), "'task': schema is no JSON Schema: 'objekt'", "fix"),
    "twins": (LANE.replace("[Lane()]", "[Lane(), Lane()]"), "two lanes with one id, vp.twins.primary", "fix"),
    "nolist": (LANE.replace("[Lane()]", "Lane()"), "ua_vp_lanes returned Lane, not a list", "fix"),
    "noinfo": (LANE.replace("[Lane()]", "[object()]"), "AttributeError: 'object' object has no attribute 'info'", "fix"),
    "moody": (LANE.replace("return ua_vp.Avail", "1 / 0; return ua_vp.Avail"), "availability(): ZeroDivisionError", "fix"),
    "comma": (LANE.replace("MORE", ", aliases=('comma vp')"), "aliases must be a tuple of texts", "fix"),
    "strict": (LANE.replace("return [Lane()]", "raise ua_vp.ConfigurationError('colour must be blue')"), "colour must be blue", "[lanes.strict] in ua-vp.toml"),
    "huge": (LANE.replace('description="d"', 'description="d" * 5_000_000'), "longer than", "fix"),
    "impostor": ("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0); os._exit(3)\n" + LANE, "(exit code 3) without an answer", "fix"),
    "forger": ("import json, os\nprint(json.dumps({'ok': True, 'detail': 'all is well', 'remedy': None}), flush=True)\nos._exit(0)", "without an answer", "fix"),
}  # fmt: skip

GOOD: Mapping[str, tuple[str, str]] = {
    "plain": (LANE, "vp.plain.primary (plain): task"),
    "noisy": (
        "import os, sys\nfor _ in range(300): print('x' * 65536); sys.stderr.write('y' * 65536)\nos.write(1, b'{}\\n')\n"
        + LANE,
        "vp.noisy.primary",
    ),
    "forks": ("import os\nos.fork()\n" + LANE, "vp.forks.primary"),
    "leaves": (
        LANE.replace(
            "return [",
            "import subprocess\n"
            "    child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
            "    open(config['pids'], 'w').write(str(child.pid))\n"
            "    return [",
        ),
        "vp.leaves.primary",
    ),
    "sick": (
        LANE
        + "@ua_vp.hookimpl\ndef ua_vp_health(vp_id):\n    return ua_vp.Health(ok=False, detail='pale', remedy='rest')\n",
        "vp.sick.primary (sick): task; not well: pale",
    ),
    "watcher": (
        "import ua_vp\n@ua_vp.hookimpl\ndef ua_vp_mission_event(event):\n    pass\n",
        "hooks: ua_vp_mission_event",
    ),
}


def install(folder: Path, name: str, code: str, *, module: str, distribution: str | None = None) -> str:
    """A distribution as pip leaves it; gives its name."""
    distribution = distribution or f"dist-{name}"
    package, metadata = folder / module, folder / f"{distribution.replace('-', '_')}-1.5.dist-info"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text(code.replace("NAME", name).replace("MORE", ""))
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    metadata.joinpath("entry_points.txt").write_text(f"[ua_vp]\n{name} = {module}\n")
    return distribution


def settings(home: Path, *names: str, probe_seconds: float = 30, **tables: LaneSettings) -> Settings:
    lanes = {name: LaneSettings(sandbox="none") for name in names} | tables
    return Settings(home=home, config=home / "ua-vp.toml", lanes=lanes, worker=Worker(probe_seconds=probe_seconds))


def table(**values: Any) -> LaneSettings:
    return LaneSettings(**{"sandbox": "none", **values})


def probe(folder: Path, given: Settings) -> dict[str, Verdict]:
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return {verdict.entry_point: verdict for verdict in host.probe_all(given, real_ports(environ), environ=environ)}


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for name, (code, _, _) in BAD.items():
        install(folder, name, code, module=f"bad_{name}")
    for name, (code, _) in GOOD.items():
        install(folder, name, code, module=f"good_{name}")
    return folder


@pytest.fixture(scope="module")
def verdicts(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """One probe of everything, good and bad, at once."""
    home = tmp_path_factory.mktemp("home")
    names = [*BAD, *GOOD, "coder", "general"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return probe(folder, settings(home, *names, leaves=table(pids=str(home / "pids"))))


@pytest.mark.parametrize("name", BAD)
def test_a_plugin_that_misbehaves_is_degraded_and_named_with_the_remedy(
    verdicts: dict[str, Verdict], name: str, figures: Figures
) -> None:
    _, detail, remedy = BAD[name]
    verdict = verdicts[name]
    assert not verdict.ok
    assert detail in verdict.detail
    assert remedy in (verdict.remedy or "")
    assert len(verdict.detail.splitlines()) <= 2
    assert (verdict.distribution, verdict.version, verdict.manifests) == (f"dist-{name}", "1.5", ())
    figures("plugin that misbehaves when probed", tried=1, note=name)


@pytest.mark.parametrize("name", GOOD)
def test_a_plugin_that_behaves_in_the_end_is_sound(verdicts: dict[str, Verdict], name: str) -> None:
    assert verdicts[name].ok, verdicts[name]
    assert verdicts[name].detail.startswith(GOOD[name][1])


@pytest.mark.parametrize("name", ["coder", "general"])
def test_the_other_lanes_are_sound_whatever_is_installed_beside_them(verdicts: dict[str, Verdict], name: str) -> None:
    assert verdicts[name].ok, verdicts[name]
    assert verdicts[name].manifests[0].availability.available


def test_a_probe_imports_nothing_into_this_process(verdicts: dict[str, Verdict]) -> None:
    assert verdicts
    assert not [name for name in sys.modules if name.startswith(("bad_", "good_"))]


def test_what_a_plugin_starts_ends_with_its_probe(verdicts: dict[str, Verdict]) -> None:
    pids = Path(verdicts["leaves"].manifests[0].workspace_base.removeprefix("workspace://")).parents[1] / "pids"
    assert gone(int(pids.read_text()))


def test_a_verdict_says_which_hooks_a_plugin_has_and_what_is_not_well(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["watcher"].hooks == ("ua_vp_mission_event",)
    assert verdicts["sick"].remedy == "rest"


def test_a_manifest_survives_the_ledger(verdicts: dict[str, Verdict]) -> None:
    for verdict in verdicts.values():
        for manifest in verdict.manifests:
            assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for distributions, on this interpreter's path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_plugin_that_hangs_is_ended_and_its_line_named(site: Path, tmp_path: Path, figures: Figures) -> None:
    pids = tmp_path / "pids"
    code = f"import subprocess\nopen({str(pids)!r}, 'w').write(str(subprocess.Popen(['sleep', '1000']).pid))\nwhile True: pass\n"
    install(site, "hangs", code, module="plugin_hangs")
    install(site, "patient", LANE, module="plugin_patient")
    found = probe(site, settings(tmp_path, "hangs", "patient", probe_seconds=5))
    assert found["hangs"].detail == "did not answer within 5 s; it is at plugin_hangs/__init__.py:3"
    assert "probe_seconds" in (found["hangs"].remedy or "")
    assert found["patient"].ok
    wait_until(lambda: gone(int(pids.read_text())), within=5, why="a hanging plugin's processes end with its probe")
    figures("plugin that hangs at import", tried=1, orphaned=0 if gone(int(pids.read_text())) else 1)


def test_a_stubborn_plugin_is_ended_too(site: Path, tmp_path: Path) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass\n"
    install(site, "stubborn", code, module="plugin_stubborn")
    assert "did not answer" in probe(site, settings(tmp_path, "stubborn", probe_seconds=2))["stubborn"].detail


KILLED_ONCE = """
import os, signal
from pathlib import Path
first = Path({first!r})
if not first.exists():
    first.touch()
    os.kill({whom}, signal.SIGKILL)
    signal.pause()
"""


@pytest.mark.parametrize("whom", ["os.getpid()", "os.getppid()"])
def test_a_probe_that_was_killed_from_outside_is_begun_once_more(site: Path, tmp_path: Path, whom: str) -> None:
    install(
        site, "unlucky", KILLED_ONCE.format(first=str(tmp_path / "first"), whom=whom) + LANE, module="plugin_unlucky"
    )
    assert probe(site, settings(tmp_path, "unlucky"))["unlucky"].ok


def test_a_plugin_that_kills_its_probe_every_time_is_degraded(site: Path, tmp_path: Path) -> None:
    install(
        site,
        "deadly",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nsignal.pause()",
        module="plugin_deadly",
    )
    assert "(exit code -9) without an answer" in probe(site, settings(tmp_path, "deadly"))["deadly"].detail


def test_a_lane_without_a_sandbox_is_unavailable_and_says_what_to_configure(site: Path, tmp_path: Path) -> None:
    install(site, "bare", LANE, module="plugin_bare")
    availability = probe(site, settings(tmp_path))["bare"].manifests[0].availability
    assert not availability.available
    assert availability.remedy == 'set sandbox = "none" in [lanes.bare] of ua-vp.toml'
    with pytest.raises(LaneUnavailableError, match='sandbox = "none"'):
        host.load_lane(settings(tmp_path), "vp.bare.primary")


def test_an_unknown_sandbox_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "ua-vp.toml").write_text('[lanes.coder]\nsandbox = "paper"\n')
    with pytest.raises(ConfigurationError, match="paper"):
        load({"UA_VP_HOME": str(tmp_path)})


def test_a_lane_of_which_no_type_can_be_taken_is_unavailable(site: Path, tmp_path: Path) -> None:
    code = LANE.replace("Availability()", 'Availability(types={"task": "get an agent"})')
    install(site, "idle", code, module="plugin_idle")
    availability = probe(site, settings(tmp_path, "idle"))["idle"].manifests[0].availability
    assert (availability.available, availability.remedy) == (False, "get an agent")


def test_the_configuration_decides_capacity_and_the_products_roots_are_refused(site: Path, tmp_path: Path) -> None:
    install(site, "many", LANE.replace("MORE", ", capacity=2"), module="plugin_many")
    given = settings(tmp_path / "home", many=table(capacity=7))
    for info in (probe(site, given)["many"].manifests[0].info, host.load_lane(given, "vp.many.primary").info):
        assert info.capacity == 7
        assert str(tmp_path / "home") in info.path_policy.refused
    assert host.load_lane(settings(tmp_path, "many"), "vp.many.primary").info.capacity == 2


def test_a_table_that_no_plugin_answers_to_is_named_with_the_near_one(site: Path, tmp_path: Path) -> None:
    install(site, "painter", LANE, module="plugin_painter")
    sentences = host.tables_without_plugin(settings(tmp_path, "painter", "paintre"))
    assert len(sentences) == 1
    assert "[lanes.paintre]" in sentences[0]
    assert "did you mean [lanes.painter]?" in sentences[0]


def test_loading_a_lane_gives_what_the_probe_found(site: Path, tmp_path: Path) -> None:
    install(site, "same", LANE, module="plugin_same")
    given = settings(tmp_path, "same")
    loaded = host.load_lane(given, "vp.same.primary")
    assert loaded.verdict.manifests == probe(site, given)["same"].manifests
    assert loaded.availability().available
    assert loaded.lane.info.vp_id == "vp.same.primary"


@pytest.mark.parametrize(
    ("vp_id", "says"), [("vp.coda.primary", "did you mean vp.coder.primary?"), ("coder", "is no lane id")]
)
def test_a_lane_that_is_not_installed_is_named_with_the_near_one(tmp_path: Path, vp_id: str, says: str) -> None:
    with pytest.raises((ConfigurationError, LaneUnavailableError)) as error:
        host.load_lane(settings(tmp_path), vp_id)
    assert says in str(error.value)


def test_two_distributions_with_one_lane_are_told_apart_by_name(site: Path, tmp_path: Path) -> None:
    install(site, "twice", LANE, module="plugin_twice_a", distribution="dist-a")
    install(site, "twice", LANE, module="plugin_twice_b", distribution="dist-b")
    given = settings(tmp_path, "twice")
    with pytest.raises(ConfigurationError, match="dist-a and dist-b"):
        host.load_lane(given, "vp.twice.primary")
    assert host.load_lane(given, "vp.twice.primary", distribution="dist-b").verdict.distribution == "dist-b"


def test_a_lane_that_the_probe_found_degraded_is_not_imported(site: Path, tmp_path: Path) -> None:
    install(site, "trap", "raise SystemExit('imported')", module="plugin_trap")
    verdict = Verdict(
        entry_point="trap", distribution="dist-trap", version="1.5", ok=False, detail="it hangs", remedy="fix it"
    )
    with pytest.raises(LaneUnavailableError, match="it hangs; fix it"):
        host.load_lane(settings(tmp_path, "trap"), "vp.trap.primary", verdicts=[verdict])


def test_exit_in_a_plugin_does_not_end_the_worker(site: Path, tmp_path: Path, figures: Figures) -> None:
    install(site, "leaver", "exit(3)", module="plugin_leaver")
    with pytest.raises(LaneUnavailableError, match=r"the plugin called exit\(3\)"):
        host.load_lane(settings(tmp_path, "leaver"), "vp.leaver.primary")
    figures("plugin that calls exit in its worker", tried=1)


HOOKS = """
import ua_vp
seen = []
@ua_vp.hookimpl
def ua_vp_mission_event(event):
    {observe}
@ua_vp.hookimpl
def ua_vp_credential_source(ref, vp_id):
    {credential}
@ua_vp.hookimpl
def ua_vp_health(vp_id):
    1 / 0
"""
EVENT = events.Event(
    seq=1, event_id="e1", type="vp.mission.started", at=0, actor=Actor(name="a", via="worker"), payload={},
    mission_id=None, vp_id=None, session_id=None, source_session_id=None, attempt=None,
)  # fmt: skip


def with_plugins(site: Path, home: Path, case: str, **code: str) -> host.LoadedLane:
    """A lane loaded beside plugins with other hooks, as a worker loads it."""
    install(site, f"lane-{case}", LANE, module=f"plugin_lane_{case}")
    for name, text in code.items():
        install(site, f"{name}-{case}", text, module=f"plugin_{name}_{case}")
    given = settings(home, f"lane-{case}")
    verdicts = [verdict for verdict in probe(site, given).values() if verdict.distribution.startswith("dist-")]
    assert all(verdict.ok for verdict in verdicts), verdicts
    return host.load_lane(given, f"vp.lane-{case}.primary", verdicts=verdicts)


def test_an_observer_that_fails_stops_neither_the_others_nor_the_worker(
    site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = with_plugins(
        site,
        tmp_path,
        "watch",
        first=HOOKS.format(observe="seen.append(event)", credential="return None"),
        fails=HOOKS.format(observe="raise ValueError('dizzy')", credential="return None"),
        last=HOOKS.format(observe="seen.append(event)", credential="return None"),
    )
    with caplog.at_level(logging.WARNING, logger="ua_vp.host"):
        loaded.hooks.mission_event(EVENT)
    seen = [sys.modules[f"plugin_{name}_watch"].seen for name in ("first", "last")]
    assert seen == [[EVENT], [EVENT]]
    assert "observer fails-watch failed on e1: ValueError: dizzy (plugin_fails_watch/__init__.py:6)" in caplog.text
    health = loaded.hooks.health("vp.lane-watch.primary")
    assert health is not None
    assert not health.ok


def test_the_first_source_that_knows_a_reference_gives_the_secret(site: Path, tmp_path: Path) -> None:
    loaded = with_plugins(
        site,
        tmp_path,
        "keys",
        a=HOOKS.format(observe="pass", credential="return None"),
        b=HOOKS.format(observe="pass", credential="return ua_vp.Secret(name=ref, value='s') if ref == 'b:1' else None"),
    )
    secret = loaded.hooks.credential("b:1", "vp.lane-keys.primary")
    assert secret is not None
    assert (secret.name, secret.value) == ("b:1", "s")
    assert loaded.hooks.credential("c:1", "vp.lane-keys.primary") is None


def test_what_a_failing_credential_source_says_is_not_repeated(site: Path, tmp_path: Path) -> None:
    failing = HOOKS.format(observe="pass", credential="raise KeyError('the secret itself')")
    loaded = with_plugins(site, tmp_path, "leak", a=failing)
    with pytest.raises(CredentialError) as error:
        loaded.hooks.credential("a:1", "vp.lane-leak.primary")
    assert "KeyError" in str(error.value)
    assert "the secret itself" not in str(error.value)


def test_an_observer_that_cannot_be_loaded_is_left_out(
    site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "lonely", LANE, module="plugin_lonely")
    install(site, "turncoat", "raise SystemExit('sound only in the probe')", module="plugin_turncoat")
    sound = Verdict(
        entry_point="turncoat", distribution="dist-turncoat", version="1.5", ok=True, detail="",
        hooks=("ua_vp_mission_event",),
    )  # fmt: skip
    given = settings(tmp_path, "lonely")
    loaded = host.load_lane(given, "vp.lonely.primary", verdicts=[sound, replace(sound, distribution="absent")])
    loaded.hooks.mission_event(EVENT)
    assert "plugin turncoat of dist-turncoat is left out" in caplog.text
