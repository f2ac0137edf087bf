"""Run as a program, preloaded with the shim: does deeds, each in a fork of itself, in which the shim is armed.

Start-up of Python costs more than a deed, so it is done once. A request is a JSON line `{"deed", "root", "env"}` on
standard input, the answer one on standard output: `exit` (minus the signal that ended it), `said` (what the deed said)
and `error` (what the fork wrote to standard error).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import tempfile
import traceback
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.shim.deeds import DEEDS, checkpoint_often
from tests.faults.shim.mutants import MUTANTS
from ua_vp import telemetry
from ua_vp.errors import VpError
from ua_vp.runtime.clock import RealClock

REFUSED = 75
"""Exit status of a deed that ended with one of the product's own errors."""


def main() -> None:
    warm_up()
    for number in count(1):
        line = sys.stdin.readline()
        if not line:
            return
        print(json.dumps(fork(json.loads(line), f"boot-{os.getpid()}-{number}")), flush=True)


def warm_up() -> None:
    """Import and compile everything that deeds need, before the first fork; no thread and no connection is left."""
    checkpoint_often()
    os.environ["DEED_LEASE"] = "30"
    with tempfile.TemporaryDirectory() as folder:
        DEEDS["whole_life"](Path(folder), lambda _: None)
    gc.collect()
    gc.freeze()


def fork(request: dict[str, Any], boot: str) -> dict[str, Any]:
    said_read, said_write = os.pipe()
    with tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            os.close(said_read)
            os.dup2(errors.fileno(), 2)
            do(request, boot, said_write)
        os.close(said_write)
        with os.fdopen(said_read, encoding="utf-8") as said:
            lines = said.read().splitlines()
        _, status = os.waitpid(pid, 0)
        errors.seek(0)
        error = errors.read().decode("utf-8", "replace")
    return {"exit": os.waitstatus_to_exitcode(status), "said": lines, "error": error}


def do(request: dict[str, Any], boot: str, said: int) -> NoReturn:
    """The fork: arm the shim, do the deed, end."""
    os.environ.update(request["env"], UA_VP_BOOT_ID=boot)
    signal.alarm(int(os.environ["DEED_LIMIT"]))
    if mutant := os.environ.get("DEED_MUTANT"):
        MUTANTS[mutant]()
    shim = ctypes.CDLL(None)
    shim.shim_arm()

    def say(text: str) -> None:
        shim.shim_note(text.encode())
        os.write(said, text.encode() + b"\n")

    telemetry.set_up(sys.stderr, clock=RealClock(boot), json=False)
    status = 0
    try:
        DEEDS[request["deed"]](Path(request["root"]), say)
    except VpError as error:
        print(f"refused {error.code}: {error.detail}", file=sys.stderr)
        status = REFUSED
    except BaseException:  # the process ends here
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
