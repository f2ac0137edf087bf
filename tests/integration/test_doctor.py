"""`ua-vp doctor` finds what is at fault, names the remedy, and works without anything running."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.product import free_port, lanes_table

UA_VP = [sys.executable, "-P", "-m", "ua_vp", "doctor"]


def doctor(home: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home), "UA_VP_HOME": str(home)} | more
    return subprocess.run([*UA_VP, *options], env=env, capture_output=True, text=True, check=False)


def findings(home: Path, code: int, **more: str) -> dict[str, dict[str, Any]]:
    """The findings by subject, the gravest of each."""
    done = doctor(home, "--json", **more)
    assert done.returncode == code, done.stdout + done.stderr
    found = sorted(json.loads(done.stdout)["findings"], key=lambda one: ["ok", "note", "fault"].index(one["weight"]))
    return {one["subject"]: one for one in found}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    (folder / "ua-vp.toml").write_text(lanes_table("general", "coder"))
    return folder


def test_a_fresh_home_has_no_fault_and_says_what_is_not_there_yet(home: Path) -> None:
    found = findings(home, 0)
    assert {subject for subject, one in found.items() if one["weight"] == "fault"} == set()
    assert found["api"]["remedy"] == "`ua-vp up` starts everything"
    assert found["ledger"]["weight"] == "note"
    assert "unconfined" in found["sandbox"]["detail"]
    assert {"openat2", "boot id", "git", "sqlite", "plugin coder", "plugin general"} <= found.keys()
    assert list(home.iterdir()) == [home / "ua-vp.toml"], "doctor looks, and makes nothing"


def test_wrong_settings_are_a_fault_that_names_the_near_one(home: Path) -> None:
    (home / "ua-vp.toml").write_text("[workr]\n")
    assert "did you mean worker" in findings(home, 8)["settings"]["detail"]


def test_a_table_of_a_lane_that_nobody_installed_is_named_with_the_near_one(home: Path) -> None:
    (home / "ua-vp.toml").write_text(lanes_table("general", "coder", "codr"))
    assert "did you mean [lanes.coder]?" in findings(home, 0)["settings"]["detail"]


def test_a_home_and_a_token_open_to_others_are_faults_with_the_command_that_mends_them(home: Path) -> None:
    token = home / "credentials" / "ops.token"
    token.parent.mkdir()
    token.write_text("t")
    token.chmod(0o644)
    home.chmod(0o755)
    found = findings(home, 8)
    assert found["home"]["remedy"] == f"chmod o= {home}"
    assert found["token"]["remedy"] == f"chmod 600 {token}"


def test_a_wake_up_that_cannot_be_is_a_note_not_a_fault(home: Path) -> None:
    (home / "wake").touch()
    found = findings(home, 0)["wake"]
    assert (found["weight"], found["remedy"]) == ("note", f"rm -r {home / 'wake'}")


def test_an_api_that_is_announced_but_away_is_a_fault(home: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (home / "ops.json").write_text(json.dumps({"url": url, "pid": 1, "ledger_id": "x"}))
    found = findings(home, 8)
    assert url in found["api"]["detail"]
    assert found["plugin general"]["weight"] == "ok", "the plugins are looked at all the same"


def test_a_lane_that_nothing_allows_to_run_without_walls_is_a_fault_with_its_remedy(home: Path) -> None:
    (home / "ua-vp.toml").write_text("")
    found = findings(home, 8)["sandbox"]
    assert "refuses to start" in found["detail"]
    assert 'sandbox = "none"' in found["remedy"]


def test_a_ledger_that_is_none_is_a_fault(home: Path) -> None:
    (home / "vp_state.db").write_bytes(b"this is no database at all" * 100)
    assert findings(home, 8)["ledger"]["weight"] == "fault"


def test_a_missing_git_is_a_fault(home: Path) -> None:
    assert findings(home, 8, PATH=str(home))["git"]["remedy"] == "apt-get install git"
