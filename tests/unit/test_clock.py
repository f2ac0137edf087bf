"""Naming the boot, reading the clocks, making ids."""

import re
from pathlib import Path

import pytest

from ua_vp.errors import ConfigurationError
from ua_vp.ports import MICROS
from ua_vp.runtime import real_ports
from ua_vp.runtime.clock import RealClock, RealIds, boot_key, format_uuid7


class StoppedClock(RealClock):
    """Stands at `wall` (µs)."""

    def __init__(self, wall: int) -> None:
        super().__init__("test")
        self.wall = wall

    def now(self) -> int:
        return self.wall


def proc_of(folder: Path, *, namespace: str | None) -> Path:
    (folder / "sys/kernel/random").mkdir(parents=True)
    (folder / "sys/kernel/random/boot_id").write_text("0f-boot\n")
    (folder / "self/ns").mkdir(parents=True)
    if namespace:
        (folder / "self/ns/time").symlink_to(namespace)
    return folder


def test_the_environment_names_the_boot_before_the_kernel_does(tmp_path: Path) -> None:
    assert boot_key({"UA_VP_BOOT_ID": "from-unit"}, proc_of(tmp_path, namespace="time:[42]")) == "from-unit"


def test_a_boot_is_named_with_its_time_namespace(tmp_path: Path) -> None:
    assert boot_key({}, proc_of(tmp_path, namespace="time:[42]")) == "0f-boot:42"


def test_a_kernel_without_time_namespaces_gives_the_boot_alone(tmp_path: Path) -> None:
    assert boot_key({"UA_VP_BOOT_ID": " "}, proc_of(tmp_path, namespace=None)) == "0f-boot"


def test_a_boot_without_a_name_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set UA_VP_BOOT_ID"):
        boot_key({}, tmp_path)


def test_the_clocks_give_microseconds_and_go_forward() -> None:
    clock = real_ports({}).clock
    assert clock.boot() >= clock.monotonic() - MICROS
    assert clock.now() > 1_700_000_000 * MICROS
    first = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() - first >= 1000


def test_a_uuid7_has_version_variant_and_time_where_the_standard_puts_them() -> None:
    instant = 0x0123_4567_89AB << 12 | 0xDEF
    assert format_uuid7(instant, (1 << 70) - 1) == "0123456789ab7defbfffffffffffffff"


def test_ids_grow_even_when_the_clock_stands_or_goes_back() -> None:
    clock = StoppedClock(1_767_225_600 * MICROS)
    ids = RealIds(clock)
    made = [ids.uuid7() for _ in range(10_000)]
    clock.wall -= 3600 * MICROS
    made += [ids.uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert int(made[0][:12], 16) == clock.wall // 1000 + 3_600_000


def test_secrets_are_long_and_fractions_lie_between_0_and_1() -> None:
    ids = real_ports({}).ids
    assert re.fullmatch(r"[\w-]{43}", ids.token())
    assert ids.token() != ids.token()
    assert all(0 <= ids.fraction() < 1 for _ in range(100))
