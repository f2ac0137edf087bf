"""What the acceptance tests stand on: installed wheels, and the product run from them in folders of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.installed import Installation, build_wheels, install
from tests.family import Family
from tests.product import Product, lanes_table


@pytest.fixture(scope="session")
def wheels(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_wheels(repository, tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def installation(wheels: list[Path], repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("installed") / "venv", wheels, repository)


@pytest.fixture
def product(installation: Installation, tmp_path: Path) -> Iterator[Product]:
    """A fresh home with every shipped lane and echo; nothing runs yet."""
    config = lanes_table("general", "coder", "echo")
    with Product(installation.program, tmp_path / "product", config, python=installation.python) as product:
        yield product


@pytest.fixture(scope="session")
def serving(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """An API without workers that many tests share: what they dispatch stays queued."""
    config = lanes_table("general", "coder", "echo")
    folder = tmp_path_factory.mktemp("serving") / "product"
    with Product(installation.program, folder, config, python=installation.python) as product:
        product.serve()
        yield product


@pytest.fixture(scope="session")
def working(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """An API and a worker of General that many tests share; nobody works for the other lanes."""
    config = lanes_table("general", "coder", "echo")
    folder = tmp_path_factory.mktemp("working") / "product"
    with Product(installation.program, folder, config, python=installation.python) as product:
        product.serve()
        product.worker()
        yield product


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    with Family(tmp_path / "family") as family:
        yield family


Keys = Callable[[], str]


@pytest.fixture
def new_key(request: pytest.FixtureRequest) -> Keys:
    """Idempotency keys that no other test uses."""
    numbers = iter(range(1000))
    return lambda: f"{request.node.nodeid}-{next(numbers)}"[-190:]
