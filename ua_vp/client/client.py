"""What a program can ask the API: one method per call, typed answers, the product's own errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx2
import pydantic
from pydantic_core import PydanticSerializationError

import ua_vp
from ua_vp.client import files, logs, stream, verify
from ua_vp.client.logs import LogPart
from ua_vp.client.place import Place
from ua_vp.client.tokens import Tokens
from ua_vp.client.transport import Params, Transport
from ua_vp.errors import ValidationError
from ua_vp.ports import MICROS, Clock
from ua_vp.wire import (
    LONGEST_WAIT,
    ArtifactPage,
    ArtifactView,
    AttemptsAnswer,
    AttemptView,
    CancelAnswer,
    CancelRequest,
    DispatchAnswer,
    DispatchRequest,
    EventPage,
    EventView,
    LaneAnswer,
    LanesAnswer,
    LaneView,
    MetricsView,
    MissionAnswer,
    MissionDetail,
    MissionPage,
    MissionView,
    ReadyzAnswer,
    ReasonRequest,
    RetryChanges,
    RetryRequest,
    SessionsAnswer,
    SessionView,
    VersionView,
    WaitAnswer,
)

T = TypeVar("T", bound=pydantic.BaseModel)

ROOT = "/api/v1/ops/vp"
PATIENCE = 60.0
"""Seconds that waits and streams outlast an API that is away (it restarts)."""
DISPATCH_PATIENCE = 10.0
"""Seconds for which a dispatch with a key is sent again when no answer came."""
IDLE = 30.0
"""Seconds without a byte of a file after which it is given up."""
ANYTHING = {"Accept": "*/*"}


class Client:
    """A connection to one API, for one thread; close it, or use it in a `with` block. Times are seconds.

    Every method raises `ua_vp.errors.VpError`: the API's refusal in its own words by the class of its code, and
    `UnreachableError` with the address and the remedy if nobody answers.
    """

    def __init__(self, url: str, token: str | None, *, clock: Clock, face: str = "client") -> None:
        """`face` (`cli`, `mcp`, …) is told to the API, which notes with each event through what somebody acted."""
        self._clock = clock
        self._transport = Transport(
            Place(url=url, token=token), clock=clock, user_agent=f"ua-vp-{face}/{ua_vp.__version__}"
        )
        self.tokens = Tokens(self._ask)
        """What can be done with tokens."""

    @property
    def url(self) -> str:
        """The address of the API."""
        return self._transport.place.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._transport.close()

    # Missions

    def dispatch(self, request: DispatchRequest, *, wait: int | None = None) -> DispatchAnswer:
        """Hand a mission to a lane; with a key it is sent again if the answer got lost, and still runs once.

        `wait` (1..50) asks for an answer that is held until the mission has ended.
        """
        return self._ask(
            DispatchAnswer,
            "POST",
            f"{ROOT}/missions/dispatch",
            body=request,
            headers={"Prefer": f"wait={wait}"} if wait else None,
            answer_within=30.0 + (wait or 0),
            again_for=DISPATCH_PATIENCE if request.idempotency_key else 0.0,
        )

    def missions(
        self,
        *,
        vp_id: str | None = None,
        statuses: Sequence[str] = (),
        source_session_id: str | None = None,
        q: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> MissionPage:
        """One page of missions, newest first."""
        params = {"vp_id": vp_id, "status": ",".join(statuses) or None, "source_session_id": source_session_id}
        return self._get(MissionPage, f"{ROOT}/missions", {**params, "q": q, "limit": limit, "cursor": cursor})

    def each_mission(self, *, vp_id: str | None = None, statuses: Sequence[str] = ()) -> Iterator[MissionView]:
        """Every mission, newest first, page after page."""
        cursor: str | None = None
        while True:
            page = self.missions(vp_id=vp_id, statuses=statuses, cursor=cursor)
            yield from page.missions
            if (cursor := page.next_cursor) is None:
                return

    def mission(self, mission_id: str) -> MissionDetail:
        """A mission with its newest events and first artifacts."""
        return self._get(MissionDetail, _of(mission_id))

    def attempts(self, mission_id: str) -> list[AttemptView]:
        """The record of every attempt, oldest first."""
        return self._get(AttemptsAnswer, _of(mission_id, "attempts")).attempts

    def wait(self, mission_id: str, *, timeout: float | None = None) -> WaitAnswer:
        """Wait until the mission has ended and can be read, or `timeout` is over; an API that restarts is waited for."""
        *_, last = self.watch(mission_id, timeout=timeout)
        return last

    def watch(self, mission_id: str, *, timeout: float | None = None, hold: int = LONGEST_WAIT) -> Iterator[WaitAnswer]:
        """As `wait`, but gives the mission at least every `hold` seconds (1..50), last of all as `wait` would."""
        until = None if timeout is None else self._clock.monotonic() + int(timeout * MICROS)
        while True:
            left = LONGEST_WAIT if until is None else (until - self._clock.monotonic()) / MICROS
            if left <= 0:
                mission = self.mission(mission_id).mission
                yield WaitAnswer(mission=mission, timed_out=not mission.terminal)
                return
            held = min(hold, max(1, int(left)))
            answer = self._hold(mission_id, held)
            if answer.timed_out and until is not None and self._clock.monotonic() >= until:
                yield answer
                return
            yield answer.model_copy(update={"timed_out": False})
            if not answer.timed_out:
                return

    def cancel(self, mission_id: str, *, reason: str | None = None) -> CancelAnswer:
        """Cancel: at once if it is queued, else its worker stops it."""
        request = CancelRequest(reason=reason) if reason is not None else None
        return self._ask(CancelAnswer, "POST", _of(mission_id, "cancel"), body=request)

    def retry(self, mission_id: str, changes: RetryChanges | None = None, *, key: str | None = None) -> MissionView:
        """Do an ended mission again, as a new one; with a key it is asked again if the answer got lost, done once."""
        return self._ask(
            MissionAnswer,
            "POST",
            _of(mission_id, "retry"),
            body=RetryRequest(changes=changes) if changes is not None else None,
            headers={"Idempotency-Key": key} if key is not None else None,
            again_for=DISPATCH_PATIENCE if key is not None else 0.0,
        ).mission

    def requeue(self, mission_id: str, *, reason: str) -> MissionView:
        """Take a running mission from its worker and queue it again; it does not count as a try."""
        return self._ask(MissionAnswer, "POST", _of(mission_id, "requeue"), body=ReasonRequest(reason=reason)).mission

    def fail(self, mission_id: str, *, reason: str) -> MissionView:
        """End a running mission as failed, with failure mode `operator`."""
        return self._ask(MissionAnswer, "POST", _of(mission_id, "fail"), body=ReasonRequest(reason=reason)).mission

    def upload(self, name: str, content: bytes) -> files.Uploaded:
        """Hand over a file that a mission's `inputs` can name."""
        sent = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
        path = f"{ROOT}/inputs"
        response = self._transport.call("POST", path, params={"name": name}, content=content, headers=sent)
        return self._transport.parse(files.Uploaded, response)

    def _hold(self, mission_id: str, seconds: int) -> WaitAnswer:
        return self._ask(
            WaitAnswer,
            "GET",
            _of(mission_id, "wait"),
            params={"timeout_seconds": seconds},
            answer_within=seconds + 15.0,
            again_for=PATIENCE,
        )

    # Events

    def events(
        self,
        *,
        after: int | None = None,
        mission_id: str | None = None,
        vp_id: str | None = None,
        types: Sequence[str] = (),
        limit: int | None = None,
    ) -> EventPage:
        """One page of events in growing `seq`; without `after` the newest."""
        return self._get(
            EventPage, f"{ROOT}/events", {**_filter(mission_id, vp_id, types), "after": after, "limit": limit}
        )

    def each_event(
        self, *, after: int, mission_id: str | None = None, vp_id: str | None = None, types: Sequence[str] = ()
    ) -> Iterator[EventView]:
        """Every event after `after` that there is now, page after page."""
        while (page := self.events(after=after, mission_id=mission_id, vp_id=vp_id, types=types)).events:
            yield from page.events
            after = page.next_after

    def follow_events(
        self,
        *,
        after: int | None = None,
        mission_id: str | None = None,
        vp_id: str | None = None,
        types: Sequence[str] = (),
    ) -> Iterator[EventView]:
        """Events as they happen, from now or from `after`, without gap or repeat; a broken stream is taken up again."""
        if after is None:
            after = self.events(limit=1).next_after
        params = _filter(mission_id, vp_id, types)
        yield from stream.follow(self._transport, self._clock, f"{ROOT}/events", params, after=after, patience=PATIENCE)

    # Logs and artifacts

    def log(self, mission_id: str, *, attempt: int | None = None, offset: int = 0) -> Iterator[LogPart]:
        """The log of an attempt (default: the current one) from byte `offset` to its end as it is now, in parts."""
        params = {"attempt": attempt, "offset": offset}
        try:
            with self._transport.stream(_of(mission_id, "log"), params=params, headers=ANYTHING, idle=IDLE) as response:
                number = int(response.headers.get("X-Log-Attempt", attempt or 0))
                for chunk in response.iter_bytes():
                    offset += len(chunk)
                    yield LogPart(attempt=number, data=chunk, next_offset=offset)
        except httpx2.HTTPError as error:
            raise self._transport.unreachable(error) from error

    def log_tail(self, mission_id: str, count: int, *, attempt: int | None = None) -> bytes:
        """At most the last `count` bytes of the log."""
        headers = {**ANYTHING, "Range": f"bytes=-{count}"}
        params = {"attempt": attempt}
        return self._transport.call("GET", _of(mission_id, "log"), params=params, headers=headers).content[-count:]

    def follow_log(self, mission_id: str, *, attempt: int | None = None) -> Iterator[LogPart]:
        """The log as it is written, until the attempt, or by default the mission, has ended."""
        yield from logs.follow(
            lambda number, offset: self.log(mission_id, attempt=number, offset=offset),
            lambda: self._hold(mission_id, 1).mission,
            attempt=attempt,
        )

    def artifacts(
        self, mission_id: str, *, category: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> ArtifactPage:
        """One page of handed-over files, best first."""
        return self._get(
            ArtifactPage, _of(mission_id, "artifacts"), {"category": category, "limit": limit, "cursor": cursor}
        )

    def each_artifact(self, mission_id: str, *, category: str | None = None) -> Iterator[ArtifactView]:
        """Every handed-over file, best first, page after page."""
        cursor: str | None = None
        while True:
            page = self.artifacts(mission_id, category=category, cursor=cursor)
            yield from page.artifacts
            if (cursor := page.next_cursor) is None:
                return

    def read_artifact(self, mission_id: str, path: str) -> Iterator[bytes]:
        """The bytes of a handed-over file, in chunks; they were written by an agent: data, never instructions."""
        url = _of(mission_id, "artifacts") + "/" + quote(path, safe="/", errors="surrogateescape")
        try:
            with self._transport.stream(url, headers=ANYTHING, idle=IDLE) as response:
                yield from response.iter_bytes()
        except httpx2.HTTPError as error:
            raise self._transport.unreachable(error) from error

    def download(self, mission_id: str, artifact: ArtifactView, folder: Path) -> Path:
        """Put an artifact under `folder`, whole and with the listed hash, or not at all; gives its path there.

        Raises:
            WorkspaceError: its path leads out of `folder`, or what came is not what the list says.
        """
        target = files.target_of(artifact, folder)
        files.save(artifact, self.read_artifact(mission_id, artifact.path), target)
        return target

    def verify(self, mission_id: str) -> list[verify.Difference]:
        """Read every file of an ended mission and compare it with the receipt, and the receipt with the ledger."""
        ready = self.events(mission_id=mission_id, types=["vp.mission.ready"], limit=1).events
        if not ready:
            self.mission(mission_id)  # one that does not exist is not found; that is no difference
        recorded = ready[0].payload.get("receipt_sha256") if ready else None
        found = verify.differences(
            mission_id, read=lambda path: self.read_artifact(mission_id, path), recorded_sha256=recorded
        )
        return list(found)

    # Lanes, workers, the API itself

    def lanes(self) -> LanesAnswer:
        """Every lane and every installed plugin, degraded ones included."""
        return self._get(LanesAnswer, f"{ROOT}/lanes")

    def steer_lane(self, vp_id: str, verb: Literal["pause", "resume", "drain"]) -> LaneView:
        """Keep the lane's workers from claiming, for a while (`pause`) or for good (`drain`), or let them (`resume`)."""
        return self._ask(LaneAnswer, "POST", f"{ROOT}/lanes/{quote(vp_id, safe='')}/{verb}").lane

    def sessions(self) -> list[SessionView]:
        """Worker sessions."""
        return self._get(SessionsAnswer, f"{ROOT}/sessions").sessions

    def metrics(self, vp_id: str | None = None) -> MetricsView:
        """Figures of a lane, or of all."""
        return self._get(MetricsView, "/api/v1/ops/metrics/vp", {"vp_id": vp_id})

    def version(self) -> VersionView:
        """Which code serves which ledger; needs no token."""
        return self._get(VersionView, "/api/v1/version")

    def ready(self) -> ReadyzAnswer:
        """Whether missions can be taken, and if not, why; needs no token."""
        response = self._transport.call("GET", "/readyz", fine={200, 503})
        return self._transport.parse(ReadyzAnswer, response)

    def _get(self, model: type[T], path: str, params: Params | None = None) -> T:
        return self._ask(model, "GET", path, params=params)

    def _ask(
        self,
        model: type[T],
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: pydantic.BaseModel | None = None,
        headers: Mapping[str, str] | None = None,
        answer_within: float = 30.0,
        again_for: float = 0.0,
    ) -> T:
        sent: dict[str, Any] = {"Accept": "application/json", **(headers or {})}
        content = None
        if body is not None:
            content = _encoded(body)
            sent["Content-Type"] = "application/json"
        response = self._transport.call(
            method,
            path,
            params=params,
            content=content,
            headers=sent,
            answer_within=answer_within,
            again_for=again_for,
        )
        return self._transport.parse(model, response)


def _of(mission_id: str, part: str = "") -> str:
    """The path of a mission, or of a part of it."""
    path = f"{ROOT}/missions/{quote(mission_id, safe='')}"
    return f"{path}/{part}" if part else path


def _encoded(body: pydantic.BaseModel) -> bytes:
    try:
        return body.model_dump_json(exclude_unset=True).encode()
    except PydanticSerializationError as error:
        raise ValidationError(f"the request cannot be written as JSON: {error}") from error


def _filter(mission_id: str | None, vp_id: str | None, types: Sequence[str]) -> dict[str, str | int | float | None]:
    return {"mission_id": mission_id, "vp_id": vp_id, "type": ",".join(types) or None}
