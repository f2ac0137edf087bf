"""`python -m ua_vp_codie.sample TARGET`: make the sample repository at TARGET, which must not exist yet."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ua_vp_codie.sample import patches

IDENTITY = {
    "GIT_AUTHOR_NAME": "First Mission",
    "GIT_AUTHOR_EMAIL": "first-mission@ua-vp.invalid",
    "GIT_COMMITTER_NAME": "First Mission",
    "GIT_COMMITTER_EMAIL": "first-mission@ua-vp.invalid",
    "GIT_CONFIG_NOSYSTEM": "1",  # nobody's own settings: no signing, no hooks
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def main() -> None:
    """Make the repository whole or not at all, and print its path."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m ua_vp_codie.sample TARGET (given: {sys.argv[1:]})")
    target = Path(sys.argv[1]).absolute()
    if target.exists():
        sys.exit(f"{target} is there already; name a folder that does not exist")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".making-") as folder:
        repository = Path(folder, "repository")
        _git("init", "--quiet", "--initial-branch=main", str(repository))
        _git("-C", str(repository), "am", "--quiet", "--committer-date-is-author-date", *map(str, patches()))
        repository.rename(target)
    sys.stdout.write(f"{target}\n")


def _git(*arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        subprocess.run(["git", *arguments], env={**environment, **IDENTITY}, stdin=subprocess.DEVNULL, check=True)
    except FileNotFoundError:
        sys.exit("git is not installed; on Debian and Ubuntu: apt-get install git")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
