"""Bearer tokens: made once, kept as SHA-256, found by it.

A secret has at least 256 random bits, so a plain hash of it cannot be guessed back, and finding it by its hash tells
nobody anything by its timing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ua_vp.access.caller import Caller, Scope
from ua_vp.errors import UnauthorizedError
from ua_vp.ledger import Ledger, Token, tokens
from ua_vp.mission import Actor
from ua_vp.ports import MICROS, Ids, Lock

PREFIX = "uavp_"
"""Begins every secret, so that scanners can find leaked ones."""
USE_SECONDS = 60
"""How exact `last_used_at` is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewToken:
    """A token just made: `secret` is shown once, the ledger gets `sha256`."""

    token: Token
    secret: str = field(repr=False)

    @property
    def sha256(self) -> str:
        """What the ledger holds of the secret."""
        return hash_secret(self.secret)


def hash_secret(secret: str) -> str:
    """SHA-256 of the secret, hex."""
    return hashlib.sha256(secret.encode("utf-8", errors="replace")).hexdigest()


def make_token(
    name: str,
    *,
    scopes: Sequence[Scope],
    ids: Ids,
    now: int,
    lanes: Sequence[str] = (),
    sources: Sequence[str] = (),
    expires_at: int | None = None,
    secret: str | None = None,
) -> NewToken:
    """A token that is not in the ledger yet; `secret` is made unless it is given. Instants are wall µs."""
    return NewToken(
        token=Token(
            token_id=f"token-{ids.uuid7()}",
            name=name,
            scopes=frozenset(scopes),
            lanes=tuple(lanes),
            sources=tuple(sources),
            created_at=now,
            expires_at=expires_at,
            last_used_at=None,
            revoked_at=None,
        ),
        secret=secret or PREFIX + ids.token(),
    )


def authenticate(authorization: str | None, *, ledger: Ledger, now: int, via: str) -> Caller:
    """Who holds the bearer token in the header `Authorization`.

    Raises:
        UnauthorizedError: none, or one that nobody issued, or one that expired or was revoked.
    """
    scheme, _, secret = (authorization or "").strip().partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise UnauthorizedError(
            "a token is needed: send `Authorization: Bearer …`; the server's own lies in credentials/ops.token of its home"
        )
    token = ledger.read(lambda tx: tokens.find_token(tx, hash_secret(secret)))
    if token is None or token.revoked_at is not None:
        raise UnauthorizedError("the token is not known here, or was revoked")
    if token.expires_at is not None and token.expires_at <= now:
        raise UnauthorizedError(f"token {token.name!r} has expired; ask for a new one")
    return Caller(
        token_id=token.token_id,
        actor=Actor(name=token.name, via=via),
        scopes=token.scopes,
        lanes=token.lanes,
        sources=token.sources,
    )


class LastUse:
    """Remembers which tokens were used, and writes it down at most once a minute each, off the path of any request."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}

    def note(self, token_id: str, now: int) -> None:
        """Token used at `now` (wall µs); any thread, never waits for the ledger."""
        with self._lock:
            if now - self._written.get(token_id, 0) >= USE_SECONDS * MICROS:
                self._used[token_id] = now

    def write(self, ledger: Ledger) -> None:
        """Put what was noted into the ledger.

        Raises:
            VpError: the ledger did not take it; it is noted still.
        """
        with self._lock:
            used = dict(self._used)
        for token_id, at in used.items():
            ledger.run(lambda tx, token_id=token_id, at=at: tokens.touch_token(tx, token_id, at))  # type: ignore[misc]
            with self._lock:
                self._written[token_id] = at
                self._used.pop(token_id, None)
