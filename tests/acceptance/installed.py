"""An installation as users have it: every distribution built as a wheel and installed, the checkout out of reach."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTIONS = ("ua_vp", "ua_vp_codie", "ua_vp_general", "ua_vp_echo")


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """A virtual environment with the product in it."""

    venv: Path

    @property
    def program(self) -> Path:
        return self.venv / "bin" / "ua-vp"

    @property
    def python(self) -> str:
        return str(self.venv / "bin" / "python")

    @property
    def packages(self) -> Path:
        """Where its packages lie."""
        (found,) = self.venv.glob("lib/python3.*/site-packages")
        return found


def build_wheels(repository: Path, folder: Path) -> list[Path]:
    """A wheel of every distribution of the workspace."""
    run("uv", "build", "--quiet", "--all-packages", "--wheel", "--out-dir", folder, cwd=repository)
    wheels = sorted(folder.glob("*.whl"))
    assert {wheel.name.split("-")[0] for wheel in wheels} == set(DISTRIBUTIONS)
    return wheels


def install(venv: Path, wheels: Sequence[Path], repository: Path) -> Installation:
    """A new environment: what the lock file names, by its hashes, then the wheels."""
    lock = (repository / "requirements.lock").read_text(encoding="utf-8").splitlines(keepends=True)
    dependencies = venv.with_suffix(".lock")
    dependencies.write_text("".join(line for line in lock if not line.startswith("-e ")), encoding="utf-8")
    run("uv", "venv", "--quiet", venv, cwd=venv.parent)
    pip = ("uv", "pip", "install", "--quiet", "--python", venv, "--no-deps")
    run(*pip, "--require-hashes", "-r", dependencies, cwd=venv.parent)
    run(*pip, *wheels, cwd=venv.parent)
    run("uv", "pip", "check", "--quiet", "--python", venv, cwd=venv.parent)
    installation = Installation(venv=venv)
    for package in DISTRIBUTIONS:
        source = run(installation.python, "-c", f"import {package}; print({package}.__file__)", cwd=venv.parent)
        assert Path(source.strip()).is_relative_to(installation.packages), source
    return installation


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program with nothing in its environment that leads back to the checkout; gives its output."""
    unwanted = ("PYTHON", "VIRTUAL_ENV", "UA_VP_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
