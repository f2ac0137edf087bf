"""A real API: one per test, and one per module for tests that leave nothing behind that others mind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.serving import Api, serving


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A running API over a fresh home."""
    with serving(tmp_path / "home") as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One API for a whole module; the missions of other tests are in it."""
    with serving(tmp_path_factory.mktemp("shared") / "home") as running:
        yield running
