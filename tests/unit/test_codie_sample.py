"""CODIE's sample repository and the recipe that mends it: real git, real ruff, the sample's own tests."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ua_vp_codie.sample import patches

CHECKS = (sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", ".")
MEND = (sys.executable, "-P", "-m", "ua_vp_codie.mend")
FAULTY_TESTS = {
    "test_minutes_spelled_min",
    "test_an_entry_somebody_pays_for",
    "test_a_format_must_say_how_it_writes",
}


def environment(**more: str) -> dict[str, str]:
    """What a worker would hand on, with an identity and without this machine's settings of git."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON", "RUFF_"))}
    identity = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "Some Worker"), ("EMAIL", "worker@example.org"))
    }
    fixed = {
        "GIT_COMMITTER_DATE": "2024-03-08T09:00:00+00:00",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return kept | identity | fixed | more


def run(folder: Path, command: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**more),
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def git(folder: Path, *arguments: str, **more: str) -> str:
    answer = run(folder, ("git", *arguments), **more)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def build(folder: Path, **more: str) -> Path:
    """Make the sample's history in a new repository."""
    folder.mkdir()
    git(folder, "init", "--quiet", **more)
    git(folder, "am", "--quiet", *map(str, patches()), **more)
    return folder


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return build(tmp_path / "sample")


def commit(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Change")


def test_the_patches_make_a_history_of_four_commits_by_their_author(sample: Path) -> None:
    log = git(sample, "log", "--reverse", "--format=%an <%ae> %aI %s").splitlines()

    assert len(log) == len(patches()) == 4
    assert log[0].endswith(" Read and write durations")
    assert all(line.startswith("Sample Author <sample@example.org> 2024-03-0") for line in log)
    assert git(sample, "status", "--porcelain") == ""


def test_two_builds_give_the_same_commit_whatever_the_zone_and_branch_name(sample: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again", TZ="Pacific/Auckland", LC_ALL="C", GIT_AUTHOR_DATE="2001-01-01T00:00:00+01:00")

    assert git(again, "rev-parse", "HEAD") == git(sample, "rev-parse", "HEAD")


def test_the_patches_survive_an_editor_that_trims_lines(sample: Path, tmp_path: Path) -> None:
    for patch in patches():
        lines = patch.read_text(encoding="utf-8").splitlines()
        (tmp_path / patch.name).write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
    trimmed = tmp_path / "trimmed"
    trimmed.mkdir()

    git(trimmed, "init", "--quiet")
    git(trimmed, "am", "--quiet", *(str(tmp_path / patch.name) for patch in patches()))

    assert git(trimmed, "rev-parse", "HEAD") == git(sample, "rev-parse", "HEAD")


def test_the_samples_own_tests_fail_before_and_pass_after_mending(sample: Path) -> None:
    before = run(sample, CHECKS)
    mended = run(sample, MEND)
    after = run(sample, CHECKS)

    assert before.returncode == 1
    failed = {line.split()[1] for line in before.stderr.splitlines() if line.startswith(("ERROR: ", "FAIL: "))}
    assert failed == FAULTY_TESTS
    assert (mended.returncode, mended.stderr) == (0, "")
    assert (after.returncode, after.stderr.splitlines()[-1]) == (0, "OK")
    assert after.stderr.count("Ran 17 tests") == 1


def test_the_diff_of_the_mending_applies_to_the_base_commit_elsewhere_and_mends_it(
    sample: Path, tmp_path: Path
) -> None:
    base = git(sample, "rev-parse", "HEAD").strip()
    git(tmp_path, "clone", "--quiet", str(sample), "clone")
    assert run(sample, MEND).returncode == 0
    patch = tmp_path / "mended.patch"
    patch.write_text(git(sample, "diff", "--binary", base), encoding="utf-8")

    assert git(sample, "diff", "--name-only", base).splitlines() == [
        f"tally/{name}.py" for name in ("__main__", "duration", "entry", "export", "ledger", "report")
    ]
    git(tmp_path / "clone", "checkout", "--quiet", "--detach", base)
    git(tmp_path / "clone", "apply", "--check", str(patch))
    git(tmp_path / "clone", "apply", str(patch))
    assert run(tmp_path / "clone", CHECKS).returncode == 0


def test_mending_says_what_it_did_and_what_is_left(sample: Path) -> None:
    said = run(sample, MEND).stdout.splitlines()

    assert said[0] == "tracked Python files: 12"
    assert said[1].startswith("findings before: ")
    assert "F632 2" in said[1]
    assert "F901 1" in said[1]
    assert "files changed in all: 6" in said
    assert said[-2].startswith("findings left: 1 (")
    assert said[-1].startswith("  tally/ledger.py:21:31: UP031 ")


def test_a_second_mending_changes_nothing(sample: Path) -> None:
    run(sample, MEND)
    first = git(sample, "diff")

    assert "files changed in all: 0" in run(sample, MEND).stdout
    assert git(sample, "diff") == first


def test_mending_leaves_nothing_behind_and_touches_only_what_git_tracks(sample: Path, tmp_path: Path) -> None:
    untidy = "import os\nx  =  1\n"
    (sample / "draft.py").write_text(untidy)
    (tmp_path / "outside.py").write_text(untidy)
    (sample / "link.py").symlink_to(tmp_path / "outside.py")
    git(sample, "add", "link.py")

    assert run(sample, MEND).returncode == 0

    assert (sample / "draft.py").read_text() == (tmp_path / "outside.py").read_text() == untidy
    assert [line for line in git(sample, "status", "--porcelain", "--ignored").splitlines() if line[0] in "?!"] == [
        "?? draft.py"
    ]


def test_the_repositorys_own_configuration_rules(sample: Path) -> None:
    (sample / "pyproject.toml").write_text('[tool.ruff]\nextend-exclude = ["tally/entry.py"]\nlint.select = ["I"]\n')
    git(sample, "commit", "--quiet", "--all", "--message", "Other rules")

    run(sample, MEND)

    assert "tally/entry.py" not in git(sample, "diff", "--name-only")
    assert "name is" in (sample / "tally/duration.py").read_text()


def test_a_file_that_does_not_parse_is_named_and_the_others_are_mended(sample: Path) -> None:
    commit(sample, {"broken.py": "def f(:\n", "-x.py": "y  =  1\n", "@z.py": "y  =  1\n"})

    answer = run(sample, MEND)

    assert answer.returncode == 0
    assert "  broken.py:1:7: invalid-syntax " in answer.stdout
    assert "Failed to parse" in answer.stdout
    assert (sample / "-x.py").read_text() == (sample / "@z.py").read_text() == "y = 1\n"
    assert run(sample, CHECKS).returncode == 0


def test_modules_of_the_repository_do_not_stand_in_for_pythons_own(sample: Path) -> None:
    commit(sample, {"json.py": "raise SystemExit('json of the repository')\n", "ruff.py": "raise SystemExit(3)\n"})

    answer = run(sample, MEND)

    assert (answer.returncode, answer.stderr) == (0, "")


def test_variables_for_git_and_ruff_do_not_lead_elsewhere(sample: Path, tmp_path: Path) -> None:
    said = run(sample, MEND).stdout
    git(sample, "checkout", "--quiet", ".")
    other = build(tmp_path / "other")

    answer = run(sample, MEND, GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other), RUFF_OUTPUT_FILE="left.txt")

    assert answer.stdout == said
    assert not (sample / "left.txt").exists()
    assert git(other, "status", "--porcelain") == ""


def test_a_folder_that_is_no_work_tree_is_refused_with_the_remedy(sample: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, sample / "tally", sample / ".git"):
        answer = run(folder, MEND)

        assert answer.returncode == 2
        assert f"{folder} is not the top of a git work tree: start this in the clone" in answer.stderr
    assert git(sample, "status", "--porcelain") == ""


def test_a_configuration_ruff_cannot_read_is_refused_with_ruffs_words(sample: Path) -> None:
    commit(sample, {"ruff.toml": "line-length = 'long'\n"})

    answer = run(sample, MEND)

    assert answer.returncode == 2
    assert "ruff check gave up" in answer.stderr
    assert "ruff.toml" in answer.stderr
    assert git(sample, "status", "--porcelain") == ""
