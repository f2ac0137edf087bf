"""Bearer tokens: only the SHA-256 of a secret is stored. Instants are wall µs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from ua_vp.ledger.rows import text_of
from ua_vp.ledger.tables import tokens
from ua_vp.ledger.transaction import Row, Transaction, insert_all
from ua_vp.ports import MICROS

TOUCH_EVERY = 60 * MICROS
"""The last use is known to the minute: a write for each request would be too many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token without its secret. No `lanes` or `sources` means all of them."""

    token_id: str
    name: str
    scopes: frozenset[str]
    lanes: tuple[str, ...]
    sources: tuple[str, ...]
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    revoked_at: int | None


def add_token(tx: Transaction, token: Token, secret_sha256: str) -> None:
    """Record a token and the SHA-256 (hex) of its secret."""
    tx.run(
        INSERT,
        token_id=token.token_id,
        name=token.name,
        secret_sha256=secret_sha256,
        scopes=text_of(sorted(token.scopes)),
        lanes=text_of(list(token.lanes)),
        sources=text_of(list(token.sources)),
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
        revoked_at=token.revoked_at,
    )


def find_token(tx: Transaction, secret_sha256: str) -> Token | None:
    """The token with this secret; whether it expired or was revoked is the caller's to judge."""
    row = tx.first(BY_SECRET, secret_sha256=secret_sha256)
    return None if row is None else _token_of(row)


def list_tokens(tx: Transaction) -> list[Token]:
    """Every token that was ever made, newest first."""
    return [_token_of(row) for row in tx.rows(ALL)]


def revoke_token(tx: Transaction, token_id: str, now: int) -> Token | None:
    """Make a token invalid for good; one that is already stays as it is. None if there is none."""
    tx.run(REVOKE, token_id=token_id, new_revoked_at=now)
    row = tx.first(BY_ID, token_id=token_id)
    return None if row is None else _token_of(row)


def any_token(tx: Transaction) -> bool:
    """Whether any token was ever made."""
    return tx.first(ANY) is not None


def touch_token(tx: Transaction, token_id: str, now: int) -> None:
    """Record its use, at most once a minute."""
    tx.run(TOUCH, token_id=token_id, new_last_used_at=now, before=now - TOUCH_EVERY)


def _token_of(row: Row) -> Token:
    return Token(
        token_id=row["token_id"],
        name=row["name"],
        scopes=frozenset(json.loads(row["scopes"])),
        lanes=tuple(json.loads(row["lanes"])),
        sources=tuple(json.loads(row["sources"])),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )


INSERT = insert_all(tokens)
BY_SECRET = select(tokens).where(tokens.c.secret_sha256 == bindparam("secret_sha256"))
BY_ID = select(tokens).where(tokens.c.token_id == bindparam("token_id"))
ALL = select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.token_id.desc())
REVOKE = (
    tokens.update()
    .where(tokens.c.token_id == bindparam("token_id"), tokens.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("new_revoked_at"))
)
ANY = select(tokens.c.token_id).limit(1)
TOUCH = (
    tokens.update()
    .where(
        tokens.c.token_id == bindparam("token_id"),
        tokens.c.last_used_at.is_(None) | (tokens.c.last_used_at <= bindparam("before")),
    )
    .values(last_used_at=bindparam("new_last_used_at"))
)
