"""CODIE on a real repository: it mends a clone and hands out a patch; the repository itself is never touched."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.product import CODER, OPS, Product

pytestmark = pytest.mark.timeout(180)

FAULTY = """import os, json
def answer(words):
    text = "".join(words)
    return text is "yes"
"""
TESTS = """import unittest

import words


class Answers(unittest.TestCase):
    def test_a_yes_is_heard(self) -> None:
        self.assertTrue(words.answer(["ye", "s"]))
"""
CHECK = ("python3", "-W", "ignore", "-m", "unittest", "discover", "-s", "tests", "-t", ".")


def git(folder: Path, *arguments: str) -> str:
    env = {"PATH": os.defpath, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0"}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "Somebody", f"GIT_{role}_EMAIL": "somebody@example.org"}
    done = subprocess.run(["git", *arguments], cwd=folder, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout


def its_tests_pass(folder: Path) -> bool:
    env = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(CHECK, cwd=folder, env=env, capture_output=True, check=False).returncode == 0


@pytest.fixture
def repository_to_mend(tmp_path: Path) -> Path:
    """A small repository whose one test fails by a fault that ruff mends safely, and an untidy second commit."""
    folder = tmp_path / "words"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "tests").mkdir()
    for name, content in {"words.py": FAULTY, "tests/__init__.py": "", "tests/test_words.py": TESTS}.items():
        (folder / name).write_text(content, encoding="utf-8")
        git(folder, "add", name)
    git(folder, "commit", "--quiet", "-m", "Hear a yes")
    (folder / "other.py").write_text("x   =  1\n", encoding="utf-8")
    git(folder, "add", "other.py")
    git(folder, "commit", "--quiet", "-m", "Something else")
    return folder


def state_of(folder: Path) -> tuple[str, ...]:
    """All that must not change in somebody's repository."""
    status = git(folder, "status", "--porcelain", "--ignored")
    files = "".join(f"{path} {path.stat().st_mtime_ns}\n" for path in sorted(folder.rglob("*")))
    return git(folder, "for-each-ref"), git(folder, "rev-parse", "HEAD"), status, files


def the_patch(product: Product, mission_id: str, folder: Path) -> Path:
    """The handed-out patch, as a file."""
    artifacts = product.answer(f"/missions/{mission_id}/artifacts")["artifacts"]
    (path,) = (artifact["path"] for artifact in artifacts if artifact["path"].endswith(".patch"))
    file = folder / "handed-out.patch"
    file.write_bytes(product.artifact(mission_id, path).content)
    return file


def test_mend_hands_out_a_patch_that_applies_to_the_base_and_makes_its_tests_pass(
    product: Product, repository_to_mend: Path, tmp_path: Path
) -> None:
    product.serve()
    base = git(repository_to_mend, "rev-parse", "HEAD~1").strip()
    before = state_of(repository_to_mend)
    mission_id = product.dispatch(
        CODER, "Mend it", mission_type="mend", constraints={"repository": str(repository_to_mend), "base": base}
    )

    product.once("coder")

    mission = product.mission(mission_id)
    assert mission["status"] == "completed", mission
    assert state_of(repository_to_mend) == before, "the repository itself is untouched"
    summary = product.artifact(mission_id, "work_products/summary.md").text
    assert base[:7] in summary, "the base commit is recorded"
    assert "words.py" in summary, "the diffstat names what changed"
    assert "1 of 1 failed before" in mission["summary"], "its own checks ran before and after"
    clone = tmp_path / "applied"
    git(tmp_path, "clone", "--quiet", str(repository_to_mend), str(clone))
    git(clone, "checkout", "--quiet", base)
    assert not its_tests_pass(clone)
    git(clone, "apply", "--index", str(the_patch(product, mission_id, tmp_path)))
    assert its_tests_pass(clone)
    product.run("artifacts", "verify", mission_id)


def test_a_command_in_a_clone_comes_out_as_a_patch(product: Product, repository_to_mend: Path, tmp_path: Path) -> None:
    product.serve()
    before = state_of(repository_to_mend)
    script = "echo greeting > greeting.txt; git rm --quiet other.py; echo 'y = 2' >> words.py"
    mission_id = product.shell(script, vp_id=CODER, constraints={"repository": str(repository_to_mend)})

    product.once("coder")

    assert product.status(mission_id) == "completed", product.log(mission_id)
    assert state_of(repository_to_mend) == before
    clone = tmp_path / "applied"
    git(tmp_path, "clone", "--quiet", str(repository_to_mend), str(clone))
    git(clone, "apply", "--index", str(the_patch(product, mission_id, tmp_path)))
    assert (clone / "greeting.txt").read_text() == "greeting\n"
    assert not (clone / "other.py").exists()
    assert (clone / "words.py").read_text().endswith("y = 2\n")


def refused_paths(product: Product, folder: Path) -> dict[str, str]:
    """Paths that lead into the product's own roots, or are no sound path at all, by what is wrong with them."""
    link = folder / "link"
    link.symlink_to(product.home / "AGENT_RUN_WORKSPACES", target_is_directory=True)
    code = next(product.program.parents[1].glob("lib/python3.*/site-packages/ua_vp"))
    return {
        "relative": "words",
        "relative with ..": "../home",
        "home": str(product.home),
        "home by ..": f"{folder}/{os.path.relpath(product.home, folder)}",
        "workspaces": str(product.home / "AGENT_RUN_WORKSPACES" / "vp_coder_primary_external"),
        "credentials": str(product.home / "credentials"),
        "ledger": str(product.home / "vp_state.db"),
        "above home": str(product.home.parent),
        "root": "/",
        "code": str(code),
        "link into home": str(link),
        "below a link into home": str(link / "vp_coder_primary_external"),
    }


def test_what_guardrails_refuse_is_422_and_leaves_no_trace(serving: Product, tmp_path: Path) -> None:
    before = len(serving.missions())
    for case, path in refused_paths(serving, tmp_path).items():
        body = {"vp_id": CODER, "objective": "x", "mission_type": "mend", "constraints": {"repository": path}}
        answer = serving.post(f"{OPS}/missions/dispatch", body)
        assert answer.status_code == 422, f"{case}: {answer.text}"
        problem = answer.json()
        assert (problem["code"], problem["retryable"]) == ("guardrail_violation", False), case
        assert [error["pointer"] for error in problem["errors"]] == ["#/constraints/repository"], case
    arguments = ("dispatch", "coder", "x", "--type", "mend", "--constraints", '{"repository": "words"}')
    assert "absolute" in serving.run(*arguments, code=9).err
    assert len(serving.missions()) == before


def test_an_unknown_constraint_is_400_and_names_itself(serving: Product, repository_to_mend: Path) -> None:
    before = len(serving.missions())
    constraints = {"repository": str(repository_to_mend), "brnach": "main"}
    body = {"vp_id": CODER, "objective": "x", "mission_type": "mend", "constraints": constraints}

    answer = serving.post(f"{OPS}/missions/dispatch", body)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert "brnach" in answer.text
    missing = serving.post(f"{OPS}/missions/dispatch", {**body, "constraints": {}})
    assert (missing.status_code, "repository" in missing.text) == (400, True)
    assert len(serving.missions()) == before


def test_a_path_that_became_a_link_into_the_home_after_dispatch_is_refused_by_the_worker(
    product: Product, repository_to_mend: Path
) -> None:
    product.serve()
    mission_id = product.dispatch(
        CODER, "Mend it", mission_type="mend", constraints={"repository": str(repository_to_mend)}
    )
    repository_to_mend.rename(repository_to_mend.with_name("moved"))
    repository_to_mend.symlink_to(product.home, target_is_directory=True)

    product.once("coder")

    mission = product.mission(mission_id)
    assert (mission["status"], mission["failure_mode"]) == ("failed", "guardrail_violation")
