"""The ledger's suite is written once and run on every store: one more `param` is one more store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.ledger.places import Place, Worker
from tests.postgres import Cluster
from ua_vp.ledger import Ledger

STORES = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that wants a place gets one on each store, but for those of modules named after one store."""
    if "place" in metafunc.fixturenames:
        own = [store for store in STORES if f"test_{store}" in metafunc.module.__name__]
        marks = {"sqlite": (), "postgresql": (pytest.mark.postgresql,)}
        params = [pytest.param(store, marks=marks[store]) for store in own or STORES]
        metafunc.parametrize("place", params, indirect=True)


@pytest.fixture(scope="session")
def database(cluster: Cluster) -> str:
    """The URL of a database of this run's; `place` empties it for each test."""
    return cluster.create()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store with nothing in it yet."""
    path = tmp_path / "vp_state.db"
    if request.param == "postgresql":
        place = Place(path, url=request.getfixturevalue("database"))
        with place.raw() as server:
            server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    else:
        place = Place(path)
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
