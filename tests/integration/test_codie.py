"""CODIE: real repositories, real git, and nothing written outside the mission's folders."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ua_vp_codie.plugin import Codie

import ua_vp
from ua_vp.errors import GuardrailViolationError, LaneUnavailableError, ValidationError
from ua_vp.testing import LaneRun, run_mission

TEST = """
import unittest

import sums


class Sums(unittest.TestCase):
    def test_it_adds(self):
        self.assertEqual(sums.add(1, 2), 3)
"""
PATCH, SUMMARY = "work_products/changes.patch", "work_products/summary.md"
CHECK = ["python3", "-m", "unittest", "discover", "-s", "tests", "-t", "."]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def fingerprint(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything about every file below `folder` but when it was read."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (state.st_mode, state.st_mtime_ns, content)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository whose test fails: `add` subtracts."""
    folder = tmp_path / "a repository"
    (folder / "tests").mkdir(parents=True)
    (folder / "sums.py").write_text("import os\ndef add(a,b):\n    return a-b\n")
    (folder / "tests/__init__.py").touch()
    (folder / "tests/test_sums.py").write_text(TEST)
    (folder / "logo.bin").write_bytes(bytes(range(256)))
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=start")
    return folder


def work(source: Path, tmp_path: Path, script: str, *, config: Mapping[str, Any] | None = None, **more: Any) -> LaneRun:
    """A mission of type `command` that runs `script` in the clone."""
    lane = Codie({"allow_command": True, "checks": [CHECK], **(config or {})})
    constraints = {"repository": str(source), "argv": ["sh", "-c", script], **more.pop("constraints", {})}
    return run_mission(lane, tmp_path=tmp_path, mission_type="command", constraints=constraints, **more)


def applied(source: Path, tmp_path: Path, patch: bytes, *, base: str = "HEAD") -> Path:
    """A fresh clone at `base` with the patch applied, by hand."""
    clone = tmp_path / "by hand"
    subprocess.run(["git", "clone", "--quiet", str(source), str(clone)], check=True)
    git(clone, "checkout", "--quiet", "--detach", git(source, "rev-parse", base))
    (tmp_path / "a.patch").write_bytes(patch)
    git(clone, "apply", "--index", str(tmp_path / "a.patch"))
    return clone


FIX = "sed -i 's/a-b/a + b/' sums.py"


def test_a_command_changes_a_clone_and_out_come_a_patch_and_a_summary(source: Path, tmp_path: Path) -> None:
    before = fingerprint(source)
    run = work(source, tmp_path, FIX, objective="make `add` add")
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert list(run.files)[:2] == [PATCH, SUMMARY]
    clone = applied(source, tmp_path, run.files[PATCH])
    subprocess.run(CHECK, cwd=clone, check=True, capture_output=True)
    page = run.files[SUMMARY].decode()
    assert run.outcome.summary == (
        "1 file changed, 1 insertion(+), 1 deletion(-); all checks pass (1 of 1 failed before)"
    )
    assert page.splitlines()[0] == f"# {run.outcome.summary}"
    assert f"base commit: `{git(source, 'rev-parse', 'HEAD')}`" in page
    assert "> make `add` add" in page
    assert "| `python3 -m unittest discover -s tests -t .` | exit code 1 | passed |" in page
    assert b"AssertionError" in run.files["supporting/checks-before.log"]
    assert b"(passed;" in run.files["supporting/checks-after.log"]
    assert b"sums.py | 2 +-" in run.files["supporting/diffstat"]
    assert fingerprint(source) == before


def test_the_missions_folders_are_there_by_name_and_are_no_change(source: Path, tmp_path: Path) -> None:
    writing = "echo kept > work_products/note.txt && echo seen > supporting/seen.txt && ls inputs"
    run = work(source, tmp_path, writing)
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert run.files["work_products/note.txt"] == b"kept\n"
    assert run.files["supporting/seen.txt"] == b"seen\n"
    assert run.files[PATCH] == b""


def test_mend_mends_lint_and_format_and_runs_the_tests_before_and_after(source: Path, tmp_path: Path) -> None:
    before = fingerprint(source)
    run = run_mission(
        Codie({}), "mend it", tmp_path=tmp_path, mission_type="mend", constraints={"repository": str(source)}
    )
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    clone = applied(source, tmp_path, run.files[PATCH])
    assert (clone / "sums.py").read_text() == "def add(a, b):\n    return a - b\n"
    assert "1 of 1 checks fail (1 before)" in run.outcome.summary
    assert b"findings left: 0" in run.files[SUMMARY]
    assert fingerprint(source) == before


def test_new_deleted_binary_and_renamed_files_and_modes_are_in_the_patch(source: Path, tmp_path: Path) -> None:
    script = f"""{FIX}
    mkdir -p 'new folder' && printf '\\000\\001binary' > 'new folder/new.bin'
    git rm --quiet .gitignore && mv logo.bin picture.bin && chmod +x sums.py && ln -s sums.py link
    printf 'no newline at the end' > 'ümlaut "quoted".txt'; printf 'a\\r\\nb\\r\\n' > dos.txt"""
    run = work(source, tmp_path, script)
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    clone = applied(source, tmp_path, run.files[PATCH])
    assert (clone / "new folder/new.bin").read_bytes() == b"\0\1binary"
    assert (clone / "picture.bin").read_bytes() == bytes(range(256))
    assert not (clone / "logo.bin").exists()
    assert not (clone / ".gitignore").exists()
    assert os.access(clone / "sums.py", os.X_OK)
    assert (clone / "link").is_symlink()
    assert (clone / 'ümlaut "quoted".txt').read_text() == "no newline at the end"
    assert (clone / "dos.txt").read_bytes() == b"a\r\nb\r\n"


def test_what_checks_and_ignored_files_leave_behind_is_not_in_the_patch(source: Path, tmp_path: Path) -> None:
    litter = ["sh", "-c", "touch litter; python3 -c 'import sums'"]
    run = work(source, tmp_path, f"{FIX}; touch run.log", config={"checks": [litter, CHECK]})
    assert git(applied(source, tmp_path, run.files[PATCH]), "diff", "--cached", "--name-only") == "sums.py"


def test_a_mission_that_commits_or_spoils_its_git_folder_loses_nothing(source: Path, tmp_path: Path) -> None:
    commit = f"{FIX} && git -c user.name=a -c user.email=a@b commit --quiet --all --message=x"
    for number, script in enumerate((commit, f"{FIX}; rm -rf .git", f"{FIX}; rm .git/HEAD; git init --quiet")):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = work(source, folder, script)
        assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
        assert git(applied(source, folder, run.files[PATCH]), "diff", "--cached", "--name-only") == "sums.py"


def test_nothing_changed_is_said_and_the_patch_is_empty(source: Path, tmp_path: Path) -> None:
    run = work(source, tmp_path, "true")
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert run.files[PATCH] == b""
    assert run.outcome.summary.startswith("Nothing to change: command left every file as it was")
    assert next(iter(run.files)) == SUMMARY
    assert b"is empty, because nothing was changed" in run.files[SUMMARY]


def test_a_change_that_breaks_a_check_which_passed_is_a_failure_with_its_patch(source: Path, tmp_path: Path) -> None:
    run = work(source, tmp_path, "echo 'raise SystemExit(3)' > sums.py", config={"checks": [["python3", "sums.py"]]})
    assert run.outcome.failure_mode is ua_vp.FailureMode.LANE_ERROR
    assert "passed before and fails with the patch: python3 sums.py" in (run.outcome.detail or "")
    assert run.files[PATCH]


def test_a_failing_command_is_a_failure_with_its_last_lines(source: Path, tmp_path: Path) -> None:
    run = work(source, tmp_path, "echo 'cannot go on' >&2; exit 4")
    assert run.outcome.summary == "command ended with exit code 4: cannot go on"
    assert "supporting/checks-before.log" in run.files


def test_a_check_that_cannot_be_started_is_a_failed_check(source: Path, tmp_path: Path) -> None:
    run = work(source, tmp_path, FIX, config={"checks": [["no-such-check"]]})
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert b"| `no-such-check` | cannot be started | cannot be started |" in run.files[SUMMARY]


def test_the_base_may_be_a_branch_a_tag_or_a_commit(source: Path, tmp_path: Path) -> None:
    first = git(source, "rev-parse", "HEAD")
    git(source, "tag", "v1")
    git(source, "branch", "side")
    (source / "later.txt").write_text("later")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message=later")
    for number, base in enumerate(("v1", "side", first, first[:8], "HEAD~1", "refs/heads/side")):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = work(source, folder, FIX, constraints={"base": base}, config={"checks": []})
        assert f"base commit: `{first}`" in run.files[SUMMARY].decode()
        applied(source, folder, run.files[PATCH], base=first)


@pytest.mark.parametrize("base", ["nowhere", "HEAD:sums.py", "a..b"])
def test_a_base_that_is_no_commit_is_named(source: Path, tmp_path: Path, base: str) -> None:
    run = work(source, tmp_path, FIX, constraints={"base": base})
    assert run.outcome.status is ua_vp.Status.FAILED
    assert f"has no commit {base!r}" in run.outcome.summary


@pytest.mark.parametrize("base", ["--output=x", "", " x", "a\nb", "a\0b"])
def test_a_base_that_could_be_an_option_is_refused(source: Path, tmp_path: Path, base: str) -> None:
    with pytest.raises(ValidationError):
        work(source, tmp_path, FIX, constraints={"base": base})


@pytest.mark.parametrize("place", ["nothing", "folder", "a repository/tests"])
def test_what_is_not_the_top_of_a_repository_is_named(source: Path, tmp_path: Path, place: str) -> None:
    assert source.exists()
    (tmp_path / "folder").mkdir()
    run = work(tmp_path / place, tmp_path, FIX)
    assert f"{tmp_path / place} is not the top of a git repository" in run.outcome.summary


def test_a_bare_repository_and_a_linked_work_tree_can_be_cloned(source: Path, tmp_path: Path) -> None:
    git(source, "clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    git(source, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    for place in ("bare.git", "linked"):
        run = work(tmp_path / place, tmp_path / f"run {place}", FIX)
        assert run.outcome.status is ua_vp.Status.COMPLETED, run.log


def test_no_hook_and_no_configured_program_of_the_repository_runs(source: Path, tmp_path: Path) -> None:
    for name in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change"):
        hook = source / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran-{name}'\n")
        hook.chmod(0o755)
    fsmonitor = tmp_path / "fsmonitor"
    fsmonitor.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran-fsmonitor'\n")
    fsmonitor.chmod(0o755)
    git(source, "config", "core.fsmonitor", str(fsmonitor))
    git(source, "config", "filter.f.smudge", f"touch '{tmp_path}/ran-filter'")
    (source / ".git/info/attributes").write_text("* filter=f\n")
    run = work(source, tmp_path, FIX)
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert list(tmp_path.glob("ran-*")) == []


def test_the_clone_has_no_remote_and_shares_no_file_with_the_repository(source: Path, tmp_path: Path) -> None:
    run = work(source, tmp_path, f"{FIX}; git remote > remotes.txt; git config --list > config.txt")
    clone = applied(source, tmp_path, run.files[PATCH])
    assert (clone / "remotes.txt").read_text() == ""
    assert str(source) not in (clone / "config.txt").read_text().replace(f"safe.directory={source}", "")
    inodes = {path.stat().st_ino for path in source.rglob("*") if path.is_file()}
    assert not [path for path in run.scratch.rglob("*") if path.is_file() and path.lstat().st_ino in inodes]


def test_a_link_left_in_place_of_the_summary_is_not_written_through(source: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    link = f"{FIX}; for name in changes.patch summary.md; do ln -s '{victim}' $UA_VP_WORK_PRODUCTS/$name; done"
    run = work(source, tmp_path, link)
    assert run.outcome.status is ua_vp.Status.COMPLETED, run.log
    assert victim.read_text() == "untouched"
    assert run.files[PATCH].startswith(b"diff --git")


def test_a_repository_of_another_user_can_be_cloned(source: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        return  # nobody else can give files away
    for path in (source, *source.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    assert work(source, tmp_path, FIX).outcome.status is ua_vp.Status.COMPLETED


def test_paths_outside_the_configured_roots_are_refused_links_and_dots_resolved(source: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(source)
    config = {"repositories": [str(allowed)]}
    for path in (str(source), str(allowed / "link"), f"{allowed}/../a repository", "a repository", "/"):
        with pytest.raises(GuardrailViolationError) as error:
            work(source, tmp_path, FIX, config=config, constraints={"repository": path})
        assert error.value.faults[0].pointer == "#/constraints/repository"
    shutil.move(source, allowed / "mine")
    assert work(allowed / "mine", tmp_path, FIX, config=config).outcome.status is ua_vp.Status.COMPLETED


def test_a_path_that_became_another_since_dispatch_is_refused_on_the_worker(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = tmp_path / "allowed"
    shutil.copytree(source, allowed / "mine", symlinks=True)
    lane = Codie({"repositories": [str(allowed)], "allow_command": True})
    run = type(lane).run

    def swapped(lane: Codie, ctx: ua_vp.MissionContext) -> ua_vp.Outcome:
        shutil.rmtree(allowed / "mine")
        (allowed / "mine").symlink_to(source)
        return run(lane, ctx)

    monkeypatch.setattr(Codie, "run", swapped)
    constraints = {"repository": str(allowed / "mine"), "argv": ["true"]}
    outcome = run_mission(lane, tmp_path=tmp_path, mission_type="command", constraints=constraints).outcome
    assert outcome.failure_mode is ua_vp.FailureMode.GUARDRAIL_VIOLATION


def test_a_cancelled_mission_stops_in_the_middle(source: Path, tmp_path: Path) -> None:
    run = work(source, tmp_path, "echo ready; sleep 1000", cancel_on=b"ready")
    assert run.outcome.status is ua_vp.Status.CANCELLED


def test_a_repository_must_be_named(tmp_path: Path) -> None:
    for constraints in ({}, {"repository": ""}, {"repository": 1}, {"repository": "/r", "repo": "/r"}):
        with pytest.raises(ValidationError):
            run_mission(Codie({}), tmp_path=tmp_path, mission_type="mend", constraints=constraints)


def test_free_text_is_unavailable_while_mend_is_available(source: Path, tmp_path: Path) -> None:
    with pytest.raises(LaneUnavailableError, match="its other types: mend"):
        run_mission(Codie({}), "rewrite it", tmp_path=tmp_path, constraints={"repository": str(source)})


def test_without_git_the_lane_is_unavailable_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    availability = Codie({}).availability()
    assert not availability.available
    assert availability.remedy == "install git (`apt install git`)"


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"repositories": "/srv"}, "repositories must be a list of absolute paths"),
    ({"repositories": ["srv"]}, "repositories must be a list of absolute paths"),
    ({"checks": ["make test"]}, "checks must be a list of commands"),
    ({"repository": []}, "did you mean repositories?"),
    ({"recipes": {"mend": {"cheks": []}}}, "did you mean checks?"),
]


@pytest.mark.parametrize(("config", "says"), MISTAKES)
def test_a_mistake_in_the_configuration_is_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ua_vp.ConfigurationError) as error:
        Codie(config)
    assert "[lanes.coder" in str(error.value)
    assert says in str(error.value)


def test_the_checks_of_mend_can_be_configured(source: Path, tmp_path: Path) -> None:
    checks: Sequence[Sequence[str]] = [["true"], ["test", "-f", "sums.py"]]
    run = run_mission(
        Codie({"recipes": {"mend": {"checks": checks}}}),
        tmp_path=tmp_path,
        mission_type="mend",
        constraints={"repository": str(source)},
    )
    assert "all checks pass" in run.outcome.summary
    assert b"| `test -f sums.py` | passed | passed |" in run.files[SUMMARY]
