"""The machine's clocks and its randomness."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ua_vp import ports
from ua_vp.errors import ConfigurationError

PROC = Path("/proc")


def boot_key(environ: Mapping[str, str], proc: Path = PROC) -> str:
    """Name the boot and time namespace under which CLOCK_BOOTTIME may be compared between processes.

    `UA_VP_BOOT_ID` wins (units set it to `%b`); else the kernel's boot id and the inode of the time namespace, in
    which containers may have another offset; a kernel without time namespaces: the boot id alone.

    Raises:
        ConfigurationError: neither is there; the text says what to set.
    """
    if given := environ.get("UA_VP_BOOT_ID", "").strip():
        return given
    path = proc / "sys/kernel/random/boot_id"
    try:
        boot = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "set UA_VP_BOOT_ID to a value that changes with each boot (in a systemd unit: UA_VP_BOOT_ID=%b)"
        raise ConfigurationError(f"the boot cannot be named, as {path} cannot be read ({error}): {remedy}") from error
    try:
        namespace = (proc / "self/ns/time").readlink().name
    except OSError:
        return boot
    return f"{boot}:{namespace.removeprefix('time:[').removesuffix(']')}"


class RealClock:
    """`ports.Clock` on the kernel's clocks."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id

    @property
    def boot_id(self) -> str:
        """Names the boot (and time namespace) under which `boot()` may be compared."""
        return self._boot_id

    def now(self) -> int:
        """CLOCK_REALTIME, µs."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1000

    def boot(self) -> int:
        """CLOCK_BOOTTIME, µs."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def monotonic(self) -> int:
        """CLOCK_MONOTONIC, µs."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        time.sleep(seconds)


def format_uuid7(instant: int, random: int) -> str:
    """A UUIDv7 (RFC 9562, 5.7) as 32 hex digits.

    `instant` is milliseconds since the epoch in steps of 1/4096 (6.2, method 3: 60 bits), `random` at least 62 bits.
    """
    milliseconds, fraction = instant >> 12, instant & 0xFFF
    low = random & 0x3FFF_FFFF_FFFF_FFFF
    return f"{(milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | low:032x}"


class RealIds:
    """`ports.Ids` on the kernel's randomness; `uuid7` grows from call to call within a process, whatever the clock does."""

    def __init__(self, clock: ports.Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._random = secrets.SystemRandom()

    def uuid7(self) -> str:
        """A UUIDv7 as 32 hex digits, greater than the one before."""
        instant = self._clock.now() * 4096 // 1000
        with self._lock:
            self._last = instant = max(instant, self._last + 1)
        return format_uuid7(instant, secrets.randbits(62))

    def token(self) -> str:
        """A secret of 256 bits, URL-safe."""
        return secrets.token_urlsafe(32)

    def fraction(self) -> float:
        """Uniform in [0, 1)."""
        return self._random.random()
