"""A small repository with faults in it, as the patches of its history, for the first mission of a fresh install.

It is `tally`, which adds up a ledger of working hours. Three of its tests fail by faults that `ruff check --fix` mends,
its formatting is untidy, and one finding is left that only a person can mend. `git am`, run in an empty repository with
the files of `patches()` in order, makes its history; with the same committer and `GIT_COMMITTER_DATE` always the same
commits.
"""

from pathlib import Path


def patches() -> list[Path]:
    """Give the patches in the order in which `git am` takes them."""
    return sorted(Path(__file__).parent.glob("*.patch"))
