"""Run as a program: opens ledgers in forks of itself, killed at their n-th statement, or many at once.

`forked_openings.py killed FOLDER` makes FOLDER/<n>.db for n = 1, 2, … until one is not killed any more, and prints how
many were; `forked_openings.py together FOLDER COUNT` opens FOLDER/one.db in COUNT forks at once and prints their ids.
"""

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from ua_vp.ledger import open_ledger
from ua_vp.ledger.sqlite import SqliteStore
from ua_vp.runtime import real_ports

EVERY = 1


def forked(act: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 3)
    return child


def open_counted(path: Path, last: int) -> None:
    """Open, and die by SIGKILL at the `last`-th statement."""
    connect, count = SqliteStore._connect, 0

    def see(_: str) -> None:
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(store: SqliteStore) -> sqlite3.Connection:
        connection = connect(store)
        connection.set_trace_callback(see)
        return connection

    SqliteStore._connect = traced  # type: ignore[method-assign, assignment]
    open_ledger(path, ports=real_ports(os.environ)).close()


def killed(folder: Path) -> None:
    number, kills = 0, 0
    while True:
        number += EVERY
        _, status = os.waitpid(forked(lambda n=number: open_counted(folder / f"{n}.db", n)), 0)  # type: ignore[misc]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            kills += 1
        else:
            assert os.WEXITSTATUS(status) == 0
            print(json.dumps(kills))
            return


def together(folder: Path, number: int) -> None:
    go_read, go_write = os.pipe()
    told_read, told_write = os.pipe()

    def open_one() -> None:
        os.close(go_write)
        os.read(go_read, 1)  # until all are there
        ledger = open_ledger(folder / "one.db", ports=real_ports(os.environ), busy_seconds=30)
        os.write(told_write, ledger.identity.ledger_id.encode() + b"\n")
        ledger.close()

    children = [forked(open_one) for _ in range(number)]
    os.close(go_write)
    os.close(go_read)
    ends = [os.waitpid(child, 0)[1] for child in children]
    os.close(told_write)
    assert ends == [0] * number, ends
    print(json.dumps(os.read(told_read, 1 << 16).decode().split()))


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        killed(Path(sys.argv[2]))
    else:
        together(Path(sys.argv[2]), int(sys.argv[3]))
