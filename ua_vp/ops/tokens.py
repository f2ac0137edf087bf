"""Routes of tokens."""

from __future__ import annotations

from starlette.responses import Response

from ua_vp import errors, wire
from ua_vp.access import Scope
from ua_vp.control import tokens
from ua_vp.control.parsing import parse_object, validated
from ua_vp.ops.missions import ROOT
from ua_vp.ops.routes import Call, Route, answer


def create_token(call: Call) -> Response:
    """Make a token; its secret is told this once."""
    new = tokens.create(call.asking, validated(wire.TokenRequest, parse_object(call.body)))
    made = wire.NewTokenAnswer(token=tokens.view(new.token, new.token.created_at), secret=new.secret)
    return answer(made, status=201, headers={"Cache-Control": "no-store"})


def list_tokens(call: Call) -> Response:
    """Every token, without its secret."""
    return answer(tokens.list_all(call.asking))


def revoke_token(call: Call) -> Response:
    """Make a token invalid for good."""
    revoked = tokens.revoke(call.asking, str(call.request.path_params["token_id"]))
    return answer(wire.TokenAnswer(token=tokens.view(revoked, call.asking.clock.now())))


ROUTES = (
    Route(
        method="POST",
        path=f"{ROOT}/tokens",
        summary="Make a token",
        endpoint=create_token,
        scope=Scope.ADMIN,
        request=wire.TokenRequest,
        answer=wire.NewTokenAnswer,
        status=201,
        codes=(errors.NotFoundError, errors.DiskFullError),
    ),
    Route(
        method="GET",
        path=f"{ROOT}/tokens",
        summary="Tokens, and when they were last used",
        endpoint=list_tokens,
        scope=Scope.ADMIN,
        answer=wire.TokensAnswer,
    ),
    Route(
        method="DELETE",
        path=f"{ROOT}/tokens/{{token_id}}",
        summary="Revoke a token",
        endpoint=revoke_token,
        scope=Scope.ADMIN,
        answer=wire.TokenAnswer,
        codes=(errors.NotFoundError, errors.InvalidStateError, errors.DiskFullError),
    ),
)
