"""Checking a mission's work products against its receipt, and the receipt against what the ledger recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ua_vp.errors import NotFoundError, VpError

RECEIPT, MARKER = "mission_receipt.json", "sync_ready.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that is not as the receipt says; `path` is relative to the workspace."""

    path: str
    detail: str


def differences(
    mission_id: str, *, read: Callable[[str], Iterator[bytes]], recorded_sha256: str | None
) -> Iterator[Difference]:
    """Every difference between receipt, marker, ledger and files; none means sound.

    `read` gives a file's bytes in chunks; `recorded_sha256` is the receipt's hash in the ledger's event `ready`.
    """
    receipt, fault = _json(RECEIPT, read)
    if fault:
        yield fault
        return
    sha256 = hashlib.sha256(receipt).hexdigest()
    content = json.loads(receipt)
    if content.get("mission_id") != mission_id:
        yield Difference(path=RECEIPT, detail=f"is of another mission: {content.get('mission_id')}")
    if recorded_sha256 is None:
        yield Difference(path=RECEIPT, detail="the ledger has recorded no hash of it: the mission is not ready")
    elif recorded_sha256 != sha256:
        yield Difference(path=RECEIPT, detail=f"hash {sha256}, the ledger recorded {recorded_sha256}")
    marker, fault = _json(MARKER, read)
    if fault:
        yield fault
    elif json.loads(marker).get("receipt_sha256") != sha256:
        yield Difference(path=MARKER, detail="names another receipt")
    for artifact in content.get("artifacts", []):
        yield from _compare(artifact["path"], artifact["bytes"], artifact["sha256"], read)


def _json(path: str, read: Callable[[str], Iterator[bytes]]) -> tuple[bytes, Difference | None]:
    """The bytes of a JSON object, or what is wrong with it."""
    try:
        data = b"".join(read(path))
        if isinstance(json.loads(data), dict):
            return data, None
    except NotFoundError:
        return b"", Difference(path=path, detail="is missing")
    except VpError as error:
        return b"", _damaged(path, error)
    except ValueError:
        pass
    return b"", Difference(path=path, detail="is no JSON object")


def _damaged(path: str, error: VpError) -> Difference:
    """What the API says of a file that it cannot read as it should be; any other refusal is raised on."""
    if error.code != VpError.code:
        raise error
    return Difference(path=path, detail=error.detail)


def _compare(path: str, size: int, sha256: str, read: Callable[[str], Iterator[bytes]]) -> Iterator[Difference]:
    digest, count = hashlib.sha256(), 0
    try:
        for chunk in read(path):
            digest.update(chunk)
            count += len(chunk)
    except NotFoundError:
        yield Difference(path=path, detail="is missing")
        return
    except VpError as error:
        yield _damaged(path, error)
        return
    if count != size:
        yield Difference(path=path, detail=f"has {count} bytes, the receipt says {size}")
    elif digest.hexdigest() != sha256:
        yield Difference(path=path, detail=f"hash {digest.hexdigest()}, the receipt says {sha256}")
