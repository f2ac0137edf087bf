"""Small decisions of the ledger that need no store."""

import pytest

from ua_vp.ledger.checkpoint import corrupts_on_checkpoint


@pytest.mark.parametrize(
    ("version", "corrupts"),
    [
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_the_versions_that_can_corrupt_are_known(version: tuple[int, ...], corrupts: bool) -> None:
    assert corrupts_on_checkpoint(version) is corrupts
