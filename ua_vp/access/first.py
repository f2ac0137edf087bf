"""The server's own token: `credentials/ops.token`, made at the first start.

What holds at each start: the file is there, mode 0600, and the ledger knows its hash.
- No file: a new token with every scope is made. Tokens made before stay valid until they are revoked: copies of a
  lost file may be in use, and who can start the server can write the ledger anyway.
- A file whose hash the ledger knows is kept, whatever that token is by now; a revoked one stays revoked.
- A file that the ledger does not know (put there by a deployment, or the ledger is new) is taken in, with every scope.
"""

from __future__ import annotations

import stat
from pathlib import Path

from ua_vp.access.caller import Scope
from ua_vp.access.tokens import NewToken, hash_secret, make_token
from ua_vp.errors import ConfigurationError
from ua_vp.ledger import Ledger, Transaction, tokens
from ua_vp.ports import Ports

NAME = "ops"
SHORTEST = 32
"""Characters of a secret that a deployment may put into the file."""


def ensure_first_token(path: Path, *, ledger: Ledger, ports: Ports) -> bool:
    """See to it that `path` holds a token that the ledger knows; returns whether a new one was made.

    The file is written before the ledger: a crash in between leaves a file that the next start takes in.

    Raises:
        ConfigurationError: the file is readable by others, or holds no token.
        VpError: the ledger did not take it.
    """
    secret = _read(path)
    made = secret is None
    new = make_token(NAME, scopes=list(Scope), ids=ports.ids, now=ports.clock.now(), secret=secret)
    if made:
        ports.files.make_folder(path.parent, mode=0o700)
        ports.files.write(path, new.secret.encode() + b"\n", mode=0o600)
    ledger.run(lambda tx: _take_in(tx, new))
    return made


def _take_in(tx: Transaction, new: NewToken) -> None:
    if tokens.find_token(tx, hash_secret(new.secret)) is None:
        tokens.add_token(tx, new.token, new.sha256)


def _read(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}; remove it, a new one is made at start") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}): remove it, a new one is made at start, "
            f"or, if nobody has read it, `chmod 600 {path}`"
        )
    secret = text.strip()
    if len(secret) < SHORTEST or not secret.isascii() or any(c.isspace() for c in secret):
        raise ConfigurationError(
            f"{path} holds no token (at least {SHORTEST} characters, no white space); remove it, a new one is made at start"
        )
    return secret
