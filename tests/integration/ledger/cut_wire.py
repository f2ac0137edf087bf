"""A wire between the product and PostgreSQL that can be cut at the worst moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

COMMIT = b"; COMMIT\0"
"""The end of what the ledger sends to commit."""


class Cut(Enum):
    """When the wire is cut, once."""

    BEFORE = "before"
    """COMMIT never reaches the server: nothing is recorded."""
    AFTER = "after"
    """The server has answered, the answer is lost: it is recorded."""


class Wire:
    """Forwards a port of its own to `target` on loopback."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = [self._listener]
        self._deaf: set[socket.socket] = set()
        self.cut: Cut | None = None
        """Set it to have the next COMMIT cut; None again once that was done."""
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Cut every connection."""
        _hang_up(*self._ends)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._ends += [client, server]
            for pump in (self._to_server, self._to_client):
                self._threads.append(threading.Thread(target=pump, args=(client, server)))
                self._threads[-1].start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        """What the product sends."""
        while data := _read(client):
            cut = self.cut if COMMIT in data else None
            if cut is not None:
                self.cut = None
            if cut is Cut.BEFORE:
                break
            if cut is Cut.AFTER:
                self._deaf.add(client)
            _send(server, data)
        _hang_up(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        """What the server answers."""
        while data := _read(server):
            if client in self._deaf:
                break
            _send(client, data)
        _hang_up(client, server)


def _read(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _send(end: socket.socket, data: bytes) -> None:
    try:
        end.sendall(data)
    except OSError:
        return


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire for as long as the block lasts."""
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()
