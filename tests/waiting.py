"""The one place where tests wait: for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, within: float, why: str) -> T:
    """Give the first true value of `condition`, asked every 20 ms.

    Raises:
        AssertionError: it was not true `within` so many seconds; says `why` it should have been.
    """
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {why}; last seen: {value!r}")
        time.sleep(0.02)
    return value
