"""Who is asking, and what they may."""

from ua_vp.access.caller import Caller, Scope
from ua_vp.access.first import ensure_first_token
from ua_vp.access.tokens import LastUse, NewToken, authenticate, hash_secret, make_token

__all__ = [
    "Caller",
    "LastUse",
    "NewToken",
    "Scope",
    "authenticate",
    "ensure_first_token",
    "hash_secret",
    "make_token",
]
