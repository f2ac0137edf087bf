"""Tokens of the API: `client.tokens`."""

from __future__ import annotations

from typing import Protocol, TypeVar
from urllib.parse import quote

import pydantic

from ua_vp.wire import NewTokenAnswer, TokenAnswer, TokenRequest, TokensAnswer, TokenView

T = TypeVar("T", bound=pydantic.BaseModel)
PATH = "/api/v1/ops/vp/tokens"


class Ask(Protocol):
    """One call of the API."""

    def __call__(self, model: type[T], method: str, path: str, *, body: pydantic.BaseModel | None = None) -> T:
        """Its answer, as `model`."""
        ...


class Tokens:
    """What the holder of a token with scope `admin` can do with tokens."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def create(self, request: TokenRequest) -> NewTokenAnswer:
        """Make a token; its secret is in this answer and nowhere else."""
        return self._ask(NewTokenAnswer, "POST", PATH, body=request)

    def list(self) -> list[TokenView]:
        """Every token, newest first."""
        return self._ask(TokensAnswer, "GET", PATH).tokens

    def revoke(self, token_id: str) -> TokenView:
        """Make a token invalid for good."""
        return self._ask(TokenAnswer, "DELETE", f"{PATH}/{quote(token_id, safe='')}").token
