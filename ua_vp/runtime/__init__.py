"""The real ports: this machine's clocks, threads, timers, processes, files and bells."""

from __future__ import annotations

from collections.abc import Mapping

from ua_vp.ports import Ports
from ua_vp.runtime.bells import DatagramBells
from ua_vp.runtime.clock import RealClock, RealIds, boot_key
from ua_vp.runtime.files import DurableFiles
from ua_vp.runtime.processes import RealProcesses
from ua_vp.runtime.threads import RealThreads


def real_ports(environ: Mapping[str, str]) -> Ports:
    """The machine's own ports; of `environ` only UA_VP_BOOT_ID is read.

    Raises:
        ConfigurationError: the boot cannot be named; the text says what to set.
    """
    clock, threads = RealClock(boot_key(environ)), RealThreads()
    return Ports(
        clock=clock,
        ids=RealIds(clock),
        threads=threads,
        files=DurableFiles(),
        processes=RealProcesses(threads),
        bells=DatagramBells(),
    )
