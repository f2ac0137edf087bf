"""The socket on which the API listens: an address of this machine, or a path."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path

from ua_vp.errors import ConfigurationError

UNIX = "unix:"
BACKLOG = 2048


def listen(bind: str) -> tuple[socket.socket, str]:
    """A listening socket for `HOST:PORT` (port 0: a free one) or `unix:PATH`, and the URL under which it is reached.

    A socket file that nobody listens on any more is replaced; one that is in use is not.

    Raises:
        ConfigurationError: no such address, it is in use, or not allowed; says what to change.
    """
    if bind.startswith(UNIX):
        path = Path(bind.removeprefix(UNIX))
        return _listen_at(path), f"{UNIX}{path.absolute()}"
    host, _, port = bind.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"[ops] bind = {bind!r} is neither HOST:PORT nor unix:PATH")
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server((bare, int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise _explained(error, bind) from error
    number = sock.getsockname()[1]
    return sock, f"http://{f'[{bare}]' if ':' in bare else bare}:{number}"


def _listen_at(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
        sock.bind(str(path))
        path.chmod(0o660)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _explained(error, f"{UNIX}{path}") from error
    return sock


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def _explained(error: OSError, bind: str) -> ConfigurationError:
    remedies = {
        errno.EADDRINUSE: "another program listens there; set UA_VP_OPS_BIND to a free port, or end that program",
        errno.EACCES: "this user may not listen there; choose a port from 1024 on, or a folder of its own",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.ENOENT: "its folder does not exist",
    }
    remedy = remedies.get(error.errno or 0, error.strerror or str(error))
    return ConfigurationError(f"the API cannot listen on {bind}: {remedy}")
