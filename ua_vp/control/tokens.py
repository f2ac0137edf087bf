"""Tokens: made, listed, revoked. Nobody can give away more than their own token allows."""

from __future__ import annotations

from ua_vp import wire
from ua_vp.access import Caller, NewToken, Scope, make_token
from ua_vp.control.asking import Asking, refuse
from ua_vp.control.constraints import no_lane
from ua_vp.errors import ForbiddenError, InvalidStateError, NotFoundError
from ua_vp.ledger import Token, lanes, tokens
from ua_vp.wire import TokenRequest, from_iso, to_iso


def create(asking: Asking, request: TokenRequest) -> NewToken:
    """Make a token; returns after it is durable. Its secret is in the answer and nowhere else.

    Raises:
        ValidationError: a scope that there is not, or an end that is over.
        NotFoundError: a lane or source that does not exist for this caller.
        ForbiddenError: it would allow more than the caller's own.
        LedgerBusyError, LedgerGoneError, DiskFullError, OutcomeUnknownError: as of the ledger.
    """
    caller, now = asking.caller, asking.clock.now()
    scopes = _scopes(caller, request)
    _check_bounds(asking, request)
    expires_at = from_iso(request.expires_at) if request.expires_at is not None else None
    if expires_at is not None and expires_at <= now:
        raise refuse("#/expires_at", f"{request.expires_at} is over; give an instant to come")
    new = make_token(
        request.name,
        scopes=scopes,
        ids=asking.ids,
        now=now,
        lanes=tuple(request.lanes) or caller.lanes,
        sources=tuple(request.sources) or caller.sources,
        expires_at=expires_at,
    )
    asking.ledger.run(lambda tx: tokens.add_token(tx, new.token, new.sha256))
    return new


def list_all(asking: Asking) -> wire.TokensAnswer:
    """Every token within the caller's bounds, newest first."""
    found = asking.ledger.read(tokens.list_tokens)
    now = asking.clock.now()
    return wire.TokensAnswer(tokens=[view(token, now) for token in found if _within(asking.caller, token)])


def revoke(asking: Asking, token_id: str) -> Token:
    """Make a token invalid, from the next request on; again, it changes nothing.

    Raises:
        NotFoundError: no such token within the caller's bounds.
        InvalidStateError: it is the caller's own: whoever has no other could not come back.
        LedgerBusyError, LedgerGoneError, DiskFullError, OutcomeUnknownError: as of the ledger.
    """
    known = [token for token in asking.ledger.read(tokens.list_tokens) if token.token_id == token_id]
    if not known or not _within(asking.caller, known[0]):
        raise NotFoundError(f"no token {token_id[:100]!r}; `ua-vp token ls` lists them")
    if token_id == asking.caller.token_id:
        raise InvalidStateError("this is the token that you ask with; make another one, and revoke this one with that")
    now = asking.clock.now()
    revoked = asking.ledger.run(lambda tx: tokens.revoke_token(tx, token_id, now))
    assert revoked is not None, "tokens are never deleted"
    return revoked


def view(token: Token, now: int) -> wire.TokenView:
    """A token as everybody may see it."""
    expired = token.expires_at is not None and token.expires_at <= now
    return wire.TokenView(
        token_id=token.token_id,
        name=token.name,
        state="revoked" if token.revoked_at is not None else "expired" if expired else "active",
        scopes=sorted(token.scopes),
        lanes=list(token.lanes),
        sources=list(token.sources),
        created_at=to_iso(token.created_at),
        expires_at=None if token.expires_at is None else to_iso(token.expires_at),
        last_used_at=None if token.last_used_at is None else to_iso(token.last_used_at),
        revoked_at=None if token.revoked_at is None else to_iso(token.revoked_at),
    )


def _scopes(caller: Caller, request: TokenRequest) -> list[Scope]:
    known = {scope.value: scope for scope in Scope}
    for number, scope in enumerate(request.scopes):
        if scope not in known:
            raise refuse(f"#/scopes/{number}", f"there is no scope {scope!r}; there are {', '.join(known)}")
    lacking = sorted(set(request.scopes) - {scope.value for scope in map(Scope, caller.scopes)})
    if lacking:
        raise ForbiddenError(f"a token cannot allow more than the one that makes it, which lacks {', '.join(lacking)}")
    return [known[scope] for scope in request.scopes]


def _check_bounds(asking: Asking, request: TokenRequest) -> None:
    caller = asking.caller
    there = [lane.manifest.info.vp_id for lane in asking.ledger.read(lanes.list_lanes)]
    seen = [vp_id for vp_id in there if caller.sees_lane(vp_id)]
    for vp_id in request.lanes:
        if vp_id not in seen:
            raise no_lane(vp_id, seen)
    for source in request.sources:
        if not caller.sees_source(source):
            raise NotFoundError(f"no source session {source[:100]!r}")


def _within(caller: Caller, token: Token) -> bool:
    """Whether all that the token reaches is within the caller's bounds."""
    lanes_seen = not caller.lanes or (bool(token.lanes) and set(token.lanes) <= set(caller.lanes))
    return lanes_seen and (not caller.sources or (bool(token.sources) and set(token.sources) <= set(caller.sources)))
