"""Broken plugins beside sound ones, installed for real: each is named with what to do, and the other lanes work.

`tests/acceptance/test_lanes.py` and `tests/integration/test_plugin_host.py` show those that raise, hang, exit, misspell a
hook or speak another version; here stand those that the worker's whole process meets.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.faults.conftest import ROGUE, add_plugin
from tests.faults.kin import Kin
from tests.figures import Figures
from tests.product import Product, lanes_table

pytestmark = pytest.mark.timeout(120)

BAD: Mapping[str, tuple[str | None, str]] = {
    "nowhere": (None, "No module named 'vp_nowhere'"),
    "forks": ("import os\nif os.fork() == 0:\n    os.setsid()\n    while True: os.wait() if os.fork() else os._exit(0)\nraise RuntimeError('a fork')", "a fork"),
    "shouts": ("import sys\nfor _ in range(200): sys.stderr.write('x' * 65536)\nraise RuntimeError('loud')", "loud"),
    "exits": ("import os\nos._exit(3)", "exit code 3"),
    "misspelt": ("import ua_vp\n@ua_vp.hookimpl\ndef ua_vp_mission_evnt(event):\n    pass", "ua_vp_mission_event"),
    "signature": ("import ua_vp\n@ua_vp.hookimpl\ndef ua_vp_mission_event(evnt):\n    pass", "evnt"),
}  # fmt: skip
"""Plugins by entry point: their code (none: there is no such module), and what the finding must say."""


def test_broken_plugins_are_named_with_a_remedy_and_the_others_lanes_work(
    rogue: Product, kin: Kin, figures: Figures
) -> None:
    packages = rogue.folder / "packages"
    for name, (code, _) in BAD.items():
        add_plugin(packages, name, f"vp_{name}")
        if code is not None:
            (packages / f"vp_{name}.py").write_text(code, encoding="utf-8")
    config = lanes_table("general", "rogue", lease_seconds=1.0)
    rogue.configure(config)

    rogue.serve()
    said = rogue.run("doctor", code=8).out
    plugins = {plugin["entry_point"]: plugin for plugin in rogue.answer("/lanes")["plugins"]}
    unnamed = [name for name in BAD if f"vp-{name}" not in said or not plugins[name]["remedy"]]
    unnamed += [name for name, (_, words) in BAD.items() if words not in plugins[name]["detail"]]
    assert {name for name in BAD if plugins[name]["state"] != "degraded"} == set()
    argv = {"argv": ["sh", "-c", 'echo "# Done" > work_products/summary.md']}
    mission_id = rogue.dispatch(ROGUE, mission_type="run", constraints=argv)
    rogue.worker(ROGUE)
    assert rogue.finished(mission_id)["status"] == "completed"
    left = [relative for relative in kin.living("child") if "ua_vp.host" in relative.command]
    print(unnamed, left)
    figures("broken plugins", tried=len(BAD), lost=len(unnamed), orphaned=len(left), note="the other lanes worked")
