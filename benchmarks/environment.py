"""What the contenders run in: the peers' own environment, River's program, a PostgreSQL; each only if it is to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
TOOLS = ROOT / ".tools" / "bench"
PYTHON = Path(sys.executable)
PEERS_PYTHON = TOOLS / "venv" / "bin" / "python"
RIVER = TOOLS / "river"


def make_peers() -> list[str]:
    """Fill `.tools/bench`; returns what could not be had, and why.

    The peers never meet the product's packages: they have a lock and an environment of their own. Needs `uv` on PATH,
    as `./dev` puts it there.
    """
    TOOLS.mkdir(parents=True, exist_ok=True)
    return [*_make_python_peers(), *_make_river()]


def _make_python_peers() -> list[str]:
    lock, installed = HERE / "requirements.lock", TOOLS / "installed"
    if not (PEERS_PYTHON.exists() and installed.exists() and installed.read_bytes() == lock.read_bytes()):
        commands = [
            ["uv", "-q", "venv", "--clear", "--python", sys.executable, str(TOOLS / "venv")],
            ["uv", "-q", "pip", "sync", "--python", str(PEERS_PYTHON), str(lock)],
        ]
        for command in commands:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                return [f"the Python peers could not be installed: {done.stderr.strip().splitlines()[-1]}"]
        shutil.copy(lock, installed)
    return []


def _make_river() -> list[str]:
    if not shutil.which("go"):
        return ["River: there is no go"]
    command = ["go", "build", "-mod=readonly", "-o", str(RIVER), "."]
    done = subprocess.run(command, cwd=HERE / "peers" / "river", capture_output=True, text=True, check=False)
    return [f"River could not be built: {done.stderr.strip().splitlines()[-1]}"] if done.returncode else []


def clean_environment() -> dict[str, str]:
    """What contenders get to see."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
