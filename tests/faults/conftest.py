"""What the fault tests stand on: the product of this checkout, with leases of a second."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kin import Kin
from tests.product import Product, lanes_table

LEASE = 1.0
ROGUE = "vp.rogue.primary"


def new_product(folder: Path, *lanes: str) -> Product:
    """A fresh home for these lanes; nothing runs yet."""
    program = Path(sys.executable).with_name("ua-vp")
    return Product(program, folder, lanes_table(*lanes, lease_seconds=LEASE), python=sys.executable)


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    """A fresh home; nothing runs yet."""
    with new_product(tmp_path / "product", "general", "coder") as product:
        yield product


@pytest.fixture
def rogue(tmp_path: Path) -> Iterator[Product]:
    """The product with one more lane, which does whatever a lane must not do."""
    with new_product(tmp_path / "product", "general", "rogue") as product:
        add_rogue(product)
        yield product


def add_rogue(product: Product) -> None:
    """Install `tests/faults/rogue.py` as a third party would."""
    packages = product.folder / "packages"
    packages.mkdir()
    shutil.copy(Path(__file__).with_name("rogue.py"), packages / "ua_vp_rogue.py")
    add_plugin(packages, "rogue", "ua_vp_rogue")
    product.environ["PYTHONPATH"] = str(packages)


def add_plugin(packages: Path, name: str, names: str) -> None:
    """Register the entry point `name` of a distribution `vp-<name>`; it `names` a module."""
    info = packages / f"vp_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vp-{name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[ua_vp]\n{name} = {names}\n", encoding="utf-8")


@pytest.fixture
def kin(request: pytest.FixtureRequest) -> Iterator[Kin]:
    """All processes that the product starts from now on, however they hide; those left at the end are killed."""
    product = request.getfixturevalue("rogue" if "rogue" in request.fixturenames else "product")
    with Kin(product) as kin:
        yield kin
