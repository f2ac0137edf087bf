"""The ledger's suite is written once and run on every store: one more `param` is one more store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.ledger.places import Place, Worker
from ua_vp.ledger import Ledger


@pytest.fixture(params=["sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store with nothing in it yet."""
    assert request.param == "sqlite"
    place = Place(tmp_path / "vp_state.db")
    yield place
    place.close()


@pytest.fixture
def ledger(place: Place) -> Ledger:
    """A ledger with nothing in it yet."""
    return place.open()


@pytest.fixture
def worker(ledger: Ledger) -> Callable[[str], Worker]:
    """Starts workers by session id."""
    return lambda session_id: Worker(ledger, session_id).start()
