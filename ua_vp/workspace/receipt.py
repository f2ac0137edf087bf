"""The receipt: written once, by the attempt that won; says what was done, by whom, and what was handed over."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from typing import Any

from ua_vp.errors import NotFoundError, WorkspaceError
from ua_vp.mission import Artifact, Category, Claim, Ending, FailureMode, JsonObject, ReplyMode, Status
from ua_vp.wire.times import from_iso, to_iso
from ua_vp.workspace.layout import RECEIPT, LaidInput, Workspace
from ua_vp.workspace.openat2 import open_beneath
from ua_vp.workspace.walk import LeftOut

VERSION = 1
"""Version of the receipt's shape; a later one only adds fields."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxUse:
    """The walls the attempt ran in: backend (`none` without walls), network, and the named gaps of that backend."""

    backend: str = "none"
    network: str = "host"
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorUse:
    """What did the work."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CredentialUse:
    """A credential that was handed in; the fingerprint is a keyed hash."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What `mission_receipt.json` holds (contract, section 4). Instants are wall µs; in the file they are ISO 8601."""

    mission_id: str
    vp_id: str
    status: Status
    mission_type: str
    objective: str
    attempt: int
    worker_id: str | None
    host: str | None
    build: str | None
    result_ref: str
    source_session_id: str | None
    source_turn_id: str | None
    reply_mode: ReplyMode
    created_at: int
    started_at: int | None
    completed_at: int
    summary: str | None
    failure_mode: FailureMode | None
    cancel_reason: str | None
    sandbox: SandboxUse | None = None
    """None if nothing was run."""
    executor: ExecutorUse | None = None
    """None if nothing was run."""
    credentials: tuple[CredentialUse, ...] = ()
    inputs: tuple[LaidInput, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    version: int = VERSION
    read_sha256: str | None = field(default=None, compare=False, repr=False)
    """SHA-256 of the file that it was read from, which may hold more than we know of."""

    def to_bytes(self) -> bytes:
        """The file: UTF-8, one byte sequence per value; a lone surrogate in a text is written as its escape."""
        value = asdict(self)
        del value["read_sha256"]
        for name in ("created_at", "started_at", "completed_at"):
            value[name] = None if value[name] is None else to_iso(value[name])
        ordered = {"version": value.pop("version"), **value}
        return (json.dumps(ordered, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "backslashreplace")

    @property
    def sha256(self) -> str:
        """SHA-256 of the file: as it was read, or as it will be written."""
        return self.read_sha256 or hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Receipt:
        """The inverse of `to_bytes`; fields that a newer version added are passed over.

        Raises:
            WorkspaceError: not a receipt.
        """
        try:
            return _parse(json.loads(data), hashlib.sha256(data).hexdigest())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WorkspaceError(f"{RECEIPT} is not a receipt: {type(error).__name__}: {error}") from error


def receipt_for(
    claim: Claim,
    ending: Ending,
    *,
    completed_at: int,
    host: str,
    build: str,
    result_ref: str,
    sandbox: SandboxUse | None = None,
    executor: ExecutorUse | None = None,
    credentials: tuple[CredentialUse, ...] = (),
    inputs: tuple[LaidInput, ...] = (),
    left_out: tuple[LeftOut, ...] = (),
) -> Receipt:
    """The receipt of `claim`'s attempt, ending as `ending`."""
    mission, cancelled = claim.mission, ending.status is Status.CANCELLED
    return Receipt(
        **{name: getattr(mission, name) for name in _OF_THE_MISSION},
        status=ending.status,
        attempt=claim.attempt,
        worker_id=claim.worker_id,
        host=host,
        build=build,
        result_ref=result_ref,
        completed_at=completed_at,
        summary=ending.summary,
        failure_mode=ending.failure_mode,
        cancel_reason=(ending.cancel_reason or mission.cancel_reason or "requested") if cancelled else None,
        sandbox=sandbox,
        executor=executor,
        credentials=credentials,
        inputs=inputs,
        artifacts=ending.artifacts,
        left_out=left_out,
    )


def read_receipt(ws: Workspace, attempt: int) -> Receipt | None:
    """The receipt of committed `attempt`, from its final place, else from the attempt's staging; None if neither has it.

    Raises:
        WorkspaceError: the workspace holds the receipt of another attempt, or what is there is no receipt.
    """
    data = read_receipt_bytes(ws, attempt)
    return None if data is None else Receipt.from_bytes(data)


def read_receipt_bytes(ws: Workspace, attempt: int) -> bytes | None:
    """Like `read_receipt`, the file's bytes."""
    # The final place is looked at again last: publishing may have moved the receipt between the looks.
    for place in (RECEIPT, ws.staged(attempt, RECEIPT), RECEIPT):
        data = read_beneath(ws, place)
        if data is not None:
            _refuse_other(Receipt.from_bytes(data), ws, attempt)
            return data
    return None


def published_receipt(ws: Workspace) -> Receipt | None:
    """The receipt in its final place, whatever attempt wrote it; None if nothing is published yet.

    Raises:
        WorkspaceError: what is there is no receipt.
    """
    data = read_beneath(ws, RECEIPT)
    return None if data is None else Receipt.from_bytes(data)


def read_beneath(ws: Workspace, relative: str) -> bytes | None:
    """All bytes of a regular file in the workspace; None if it is not there.

    Raises:
        WorkspaceError: it is a link, or not a regular file with one link.
    """
    try:
        fd = open_beneath(ws.root, relative)
    except NotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read()


def receipt_schema() -> JsonObject:
    """The JSON Schema (2020-12) of `mission_receipt.json`."""
    return _schema("mission_receipt.schema.json")


def sync_ready_schema() -> JsonObject:
    """The JSON Schema (2020-12) of `sync_ready.json`."""
    return _schema("sync_ready.schema.json")


def _schema(name: str) -> JsonObject:
    schema: JsonObject = json.loads(resources.files(__package__).joinpath(name).read_bytes())
    return schema


def _refuse_other(receipt: Receipt, ws: Workspace, attempt: int) -> None:
    if receipt.attempt != attempt:
        raise WorkspaceError(
            f"{ws.root} holds the receipt of attempt {receipt.attempt}, not of attempt {attempt}: "
            "compare it with the ledger (`ua-vp show`) before anything is moved"
        )


def _parse(value: Mapping[str, Any], sha256: str) -> Receipt:
    executor, sandbox = value["executor"], value["sandbox"]
    return Receipt(
        version=int(value["version"]),
        read_sha256=sha256,
        status=Status(value["status"]),
        reply_mode=ReplyMode(value["reply_mode"]),
        attempt=int(value["attempt"]),
        created_at=from_iso(value["created_at"]),
        started_at=None if value["started_at"] is None else from_iso(value["started_at"]),
        completed_at=from_iso(value["completed_at"]),
        failure_mode=None if value["failure_mode"] is None else FailureMode(value["failure_mode"]),
        sandbox=None
        if sandbox is None
        else SandboxUse(**{**_known(SandboxUse, sandbox), "gaps": tuple(sandbox["gaps"])}),
        executor=None if executor is None else ExecutorUse(**_known(ExecutorUse, executor)),
        credentials=tuple(CredentialUse(**_known(CredentialUse, entry)) for entry in value["credentials"]),
        inputs=tuple(LaidInput(**_known(LaidInput, entry)) for entry in value["inputs"]),
        artifacts=tuple(
            Artifact(**{**_known(Artifact, entry), "category": Category(entry["category"])})
            for entry in value["artifacts"]
        ),
        left_out=tuple(LeftOut(**_known(LeftOut, entry)) for entry in value.get("left_out", ())),
        **{name: value[name] for name in _TEXTS},
    )


def _known(kind: type[Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `entry` that `kind` has: a newer version may have added some."""
    return {each.name: entry[each.name] for each in fields(kind)}


_OF_THE_MISSION = (
    *("mission_id", "vp_id", "mission_type", "objective", "source_session_id", "source_turn_id", "reply_mode"),
    *("created_at", "started_at"),
)
"""Fields that are those of the mission."""
_TEXTS = (
    *("mission_id", "vp_id", "mission_type", "objective", "worker_id", "host", "build", "result_ref"),
    *("source_session_id", "source_turn_id", "summary", "cancel_reason"),
)
"""Fields that stand in the file as they are."""
