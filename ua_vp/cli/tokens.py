"""`ua-vp token create`, `ls`, `revoke`."""

from __future__ import annotations

import re
from typing import Annotated

from cyclopts import Parameter

from ua_vp.cli import lanes, tables, text, words
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.dispatch import checked
from ua_vp.cli.exits import Exit
from ua_vp.errors import ValidationError
from ua_vp.ports import MICROS
from ua_vp.wire import TokenRequest, TokenView, from_iso, to_iso

SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def create(
    *,
    scope: Annotated[tuple[str, ...], Parameter(negative=())],
    name: str | None = None,
    lane: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    source: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    expires: str | None = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Make a token and print its secret, this once. Needs a token with scope `admin`.

    Args:
        scope: What it allows (missions:read, missions:dispatch, …); may be given more than once.
        name: Who acts with it, as events will say; default: your user name.
        lane: Only for this lane, by id, name or alias; may be given more than once.
        source: Only for this source session; may be given more than once.
        expires: When it ends: 30d, 12h, 90m, 2w, or an instant such as 2027-01-31T00:00:00Z.
    """
    who = name or console.environ.get("USER") or "token"
    fields = {"name": who, "scopes": list(scope), "sources": list(source) or None}
    fields |= {"expires_at": None if expires is None else end_of(expires, console)}
    with console.client() as client:
        fields |= {"lanes": [lanes.resolve(client, one).vp_id for one in lane] or None}
        made = client.tokens.create(checked(TokenRequest, fields))
    if as_json:
        console.json(made)
        return Exit.DONE
    console.data(made.secret)
    reach = ", ".join((*made.token.lanes, *made.token.sources)) or "everything"
    until = f", until {made.token.expires_at}" if made.token.expires_at else ""
    console.say(f"{made.token.token_id} for {made.token.name}: {', '.join(made.token.scopes)} on {reach}{until}")
    console.say("keep it now; it cannot be shown again. In use: UA_VP_TOKEN")
    return Exit.DONE


def ls(*, as_json: AsJson = False, console: Here) -> int:
    """List tokens: what each allows, and when it was last used. Needs a token with scope `admin`."""
    with console.client() as client:
        found = client.tokens.list()
    if as_json:
        console.json({"tokens": [token.model_dump(mode="json") for token in found]})
        return Exit.DONE
    headings = ("token", "name", "state", "last used", "made", "scopes", "only for")
    now = console.clock.now()
    for line in tables.columns(headings, [_row(token, now) for token in found], width=console.width()):
        console.data(line)
    return Exit.DONE


def revoke(token_id: Annotated[str, Parameter(name="ID")], /, *, as_json: AsJson = False, console: Here) -> int:
    """Revoke a token, from the next request on. Needs another token with scope `admin`."""
    with console.client() as client:
        token = client.tokens.revoke(token_id)
    if as_json:
        console.json({"token": token.model_dump(mode="json")})
    else:
        console.data(f"{text.line(token.token_id)}  {text.line(token.state)}")
    return Exit.DONE


def end_of(expires: str, console: Console) -> str:
    """The instant at which a token ends, in ISO 8601.

    Raises:
        ValidationError: it is neither a span nor an instant.
    """
    span = re.fullmatch(r"(\d{1,6})([mhdw])", expires.strip())
    if span is not None:
        return to_iso(console.clock.now() + int(span[1]) * SECONDS[span[2]] * MICROS)
    try:
        from_iso(expires)
    except ValueError as error:
        raise ValidationError(f"--expires {expires!r}: write 30d, 12h, 90m, 2w, or an instant; {error}") from error
    return expires


def _row(token: TokenView, now: int) -> tuple[str, ...]:
    used = words.ago(token.last_used_at, now) if token.last_used_at else "never"
    bounds = " ".join((*token.lanes, *token.sources)) or "-"
    return (
        token.token_id,
        token.name,
        token.state,
        used,
        words.ago(token.created_at, now),
        " ".join(token.scopes),
        bounds,
    )
