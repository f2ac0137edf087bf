"""What the fault tests stand on: the product of this checkout, with leases of a second."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.product import Product, lanes_table

LEASE = 1.0


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    """A fresh home; nothing runs yet."""
    program = Path(sys.executable).with_name("ua-vp")
    config = lanes_table("general", "coder", lease_seconds=LEASE)
    with Product(program, tmp_path / "product", config, python=sys.executable) as product:
        yield product
