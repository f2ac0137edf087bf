"""Those who ask: an answer that is lost on its way after the commit, and readers of the stream who do not read."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.faults.test_killed_api import BODY
from tests.figures import Figures, Rounds
from tests.product import OPS, Process, Product

pytestmark = pytest.mark.timeout(120)

READERS = 50
LOST = 3
"""Answers of each dispatch that are lost before one arrives."""


class Cutter:
    """A proxy that hands each request on, and cuts the connection when the answer comes: in its first bytes, or before."""

    def __init__(self, product: Product) -> None:
        self._port = product.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:  # closed
                return
            with caller, socket.create_connection(("127.0.0.1", self._port)) as api:
                api.sendall(request_of(caller))
                answer = api.recv(65_536)  # the commit is behind us
                if self.cuts % 2:
                    caller.sendall(answer[: len(answer) // 2])
                self.cuts += 1


def request_of(caller: socket.socket) -> bytes:
    """One whole request, as it came."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += caller.recv(65_536)
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:"))
    while len(head.partition(b"\r\n\r\n")[2]) < length:
        head += caller.recv(65_536)
    return head


def test_a_dispatch_whose_answer_was_lost_after_the_commit_is_one_mission_when_asked_again(
    product: Product, rounds: Rounds, figures: Figures
) -> None:
    times, lost, double = rounds(ci=5, soak=5_000), 0, 0
    product.serve()
    cutter = Cutter(product)
    headers = {"Authorization": f"Bearer {product.token}"}
    with cutter.at_work():
        for number in range(times):
            body = {**BODY, "idempotency_key": f"lost-{number}"}
            for _ in range(LOST):
                with pytest.raises(httpx2.TransportError):
                    httpx2.post(f"{cutter.url}{OPS}/missions/dispatch", json=body, headers=headers, trust_env=False)
            answer = product.post(f"{OPS}/missions/dispatch", body)
            lost += answer.status_code != 200 or answer.headers.get("Idempotent-Replayed") != "true"
    (there,) = product.rows("SELECT count(*) FROM vp_missions")[0]
    double += there - times
    figures(
        "reply lost after the commit", tried=cutter.cuts, lost=lost, double=double, note=f"{times} keys asked again"
    )


def test_readers_of_the_stream_who_never_read_cost_little_and_delay_nobody(
    product: Product, figures: Figures, rounds: Rounds
) -> None:
    events, api = rounds(ci=100, soak=20_000), product.serve()
    fill_log(product, events // 2)
    before = memory(api)
    with slow_readers(product) as readers:
        fill_log(product, events - events // 2)
        assert product.get("/livez").is_success
        grown = (memory(api) - before) / READERS
        seqs = [event["seq"] for event in product.events()]
        lost = sum(len({*seqs} - read_all(reader, seqs[-1])) for reader in readers[:2])
    assert grown < 1 << 20, f"{grown / 1024:.0f} KiB a reader"
    assert api.end() == 0
    note = f"{len(seqs)} events, {grown / 1024:.0f} KiB of memory a reader; two who read in the end missed none"
    figures("stream readers who do not read", tried=READERS, lost=lost, note=note)


def fill_log(product: Product, number: int) -> None:
    """That many dispatches, each an event."""
    for _ in range(number):
        assert product.post(f"{OPS}/missions/dispatch", {**BODY, "objective": "x" * 2_000}).is_success


@contextmanager
def slow_readers(product: Product) -> Iterator[list[socket.socket]]:
    """Connections that asked for every event, and do not look at the answer; their buffers are as small as can be."""
    readers = []
    request = (
        f"GET {OPS}/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {product.token}\r\n\r\n"
    )
    for _ in range(READERS):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        reader.connect(("127.0.0.1", product.port))
        reader.sendall(request.encode())
        readers.append(reader)
    try:
        yield readers
    finally:
        for reader in readers:
            reader.close()


def read_all(reader: socket.socket, last: int) -> set[int]:
    """Read at last, up to the event `last`; every `seq` that came."""
    reader.settimeout(30)
    read = bytearray()
    while f"id: {last}\r\n".encode() not in read:
        more = reader.recv(65_536)
        assert more, "the stream ended"
        read += more
    return {int(line.split(b":")[1]) for line in read.splitlines() if line.startswith(b"id:")}


def memory(process: Process) -> int:
    """Resident bytes that are its own."""
    fields = Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()
    return (int(fields[1]) - int(fields[2])) * 4096
