"""Where the API is, and the token for it."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ua_vp.errors import ConfigurationError, UnauthorizedError, UnreachableError

UNIX = "unix:"
REMEDY = "start it with `ua-vp up` or `ua-vp serve`, or point UA_VP_URL at one that runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """`url` is `http(s)://…` or `unix:PATH`; without a `token` only the open routes answer."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def socket(self) -> str | None:
        """The path of the Unix socket, if it is one."""
        return self.url.removeprefix(UNIX) if self.url.startswith(UNIX) else None

    @property
    def base(self) -> str:
        """What paths are appended to."""
        return "http://localhost" if self.socket else self.url.rstrip("/")

    @property
    def is_here(self) -> bool:
        """Whether it can only be on this machine: a Unix socket or a loopback address."""
        host = urlsplit(self.base).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def find(*, url: str | None, token: str | None, ops_file: Path, token_file: Path) -> Place:
    """The API to talk to: `url` and `token` if given, else what the running API wrote into its home.

    The home's own token is sent to this machine alone, never to another host that `url` names.

    Raises:
        ConfigurationError: `url` is no address of an API.
        UnreachableError: no `url`, and no API runs from this home.
        UnauthorizedError: the home's token file is there but may not be read.
    """
    place = Place(url=_checked(url) if url else _running(ops_file), token=token)
    if place.token is None and place.is_here:
        return Place(url=place.url, token=_read_token(token_file))
    return place


def _checked(url: str) -> str:
    if url.startswith(UNIX) and len(url) > len(UNIX):
        return url
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.username or parts.query or parts.fragment:
        raise ConfigurationError(f"UA_VP_URL is {url!r}; it must be http://HOST:PORT, https://HOST or unix:PATH")
    return url


def _running(ops_file: Path) -> str:
    try:
        url = json.loads(ops_file.read_text(encoding="utf-8"))["url"]
    except FileNotFoundError:
        raise UnreachableError(f"no API runs from {ops_file.parent} (there is no {ops_file.name}); {REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{ops_file} does not say where the API is ({error}); {REMEDY}") from error
    return str(url)


def _read_token(token_file: Path) -> str | None:
    try:
        return token_file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        detail = f"the token in {token_file} cannot be read ({error}); run this as the account that owns it, or set"
        raise UnauthorizedError(f"{detail} UA_VP_TOKEN") from error
