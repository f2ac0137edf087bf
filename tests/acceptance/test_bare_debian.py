"""The first two commands of the README, as a newcomer types them on a Debian 12 that has git and Python and no more."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = ("git", "python3", "ca-certificates")
SCRIPT = Path(__file__).with_name("bare_debian.sh")
MISSING = [need for need in ("mmdebstrap", "unshare") if not shutil.which(need)]
RAN = re.compile(
    r"^ran: exit (?P<code>\d+), (?P<seconds>[\d.]+) s, left running: (?P<left>.*?): (?P<command>.*)$", re.MULTILINE
)

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a root file system: run it as root"),
    pytest.mark.skipif(
        bool(MISSING), reason=f"not installed: {' '.join(MISSING)}; as root: apt-get install mmdebstrap util-linux"
    ),
]


@pytest.fixture(scope="session")
def bare_debian() -> Path:
    """A root file system with `PACKAGES`, made once per list of packages and never changed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ua-vp-tests"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"debian-12-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            subprocess.run([SCRIPT, "build", root, *PACKAGES], check=True)
    return root


def test_a_newcomer_sees_the_first_missions_complete_on_a_bare_debian(bare_debian: Path, repository: Path) -> None:
    """Tests HEAD: what is not committed, a newcomer does not get."""
    up, verify = "./dev up --once", "python3 tests/acceptance/verify_workspaces.py ~/.local/state/ua-vp"

    done = subprocess.run(
        [SCRIPT, "run", bare_debian, repository, up, up, verify], capture_output=True, text=True, check=False
    )

    print(done.stdout, done.stderr)
    runs = [match.groupdict() for match in RAN.finditer(done.stdout)]
    for name, run in zip(("from nothing", "warm"), runs, strict=False):
        print(f"figure: {up} on a bare Debian 12, {name}: {run['seconds']} s")
    assert [(run["code"], run["left"]) for run in runs] == [("0", "none")] * 3
    verified = set(re.findall(r"^verified: (\S+ \S+) [1-9]", done.stdout, re.MULTILINE))
    assert verified == {"vp.coder.primary completed", "vp.general.primary completed"}
