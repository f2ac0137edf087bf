"""One call to the API: sending it, sending it again where that is safe, and turning refusals into our own errors."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
import pydantic

from ua_vp import errors
from ua_vp.client.place import REMEDY, Place
from ua_vp.errors import FieldFault, LedgerBusyError, UnreachableError, VpError
from ua_vp.ports import MICROS, Clock
from ua_vp.wire import Problem

T = TypeVar("T", bound=pydantic.BaseModel)
Params = Mapping[str, "str | int | float | None"]

ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

CLASSES: tuple[type[VpError], ...] = (
    errors.ValidationError,
    errors.UnauthorizedError,
    errors.ForbiddenError,
    errors.NotFoundError,
    errors.MethodNotAllowedError,
    errors.NotAcceptableError,
    errors.IdempotencyConflictError,
    errors.AlreadyTerminalError,
    errors.InvalidStateError,
    errors.RetryLimitError,
    errors.PreconditionFailedError,
    errors.TooLargeError,
    errors.UnsupportedMediaTypeError,
    errors.GuardrailViolationError,
    errors.CursorExpiredError,
    errors.RateLimitedError,
    errors.HostRefusedError,
    errors.LaneUnavailableError,
    errors.LedgerBusyError,
    errors.LedgerGoneError,
    errors.DiskFullError,
)


class Transport:
    """A connection pool to one API; not for several threads at once. Times are seconds."""

    def __init__(self, place: Place, *, clock: Clock, user_agent: str) -> None:
        self.place = place
        self.clock = clock
        headers = {"User-Agent": user_agent}
        if place.token:
            headers["Authorization"] = f"Bearer {place.token}"
        self._http = httpx2.Client(
            base_url=place.base,
            headers=headers,
            transport=_plain(place) if place.is_here and place.base.startswith("http:") else None,
            trust_env=not place.is_here,  # proxies are for other machines
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        answer_within: float = ANSWER_SECONDS,
        again_for: float = 0.0,
        fine: Container[int] = range(200, 400),
    ) -> httpx2.Response:
        """The answer to one request.

        A call that got no answer, or found the ledger busy, is sent again for `again_for` seconds; only give that for
        calls that may happen twice. A status in `fine` is no error.

        Raises:
            VpError: the API refused, by the class of its code, in its own words.
            UnreachableError: it did not answer.
        """
        pauses = Pauses(self.clock, patience=again_for)
        timeout = httpx2.Timeout(answer_within, connect=CONNECT_SECONDS)
        more, query = dict(headers or {}), _given(params)
        while True:
            try:
                response = self._http.request(
                    method, path, params=query, content=content, headers=more, timeout=timeout
                )
                if response.status_code not in fine:
                    raise_for_problem(response, self.place.url)
                return response
            except httpx2.HTTPError as error:
                if not pauses.another():
                    raise self.unreachable(error) from error
            except (UnreachableError, LedgerBusyError):
                if not pauses.another():
                    raise

    @contextmanager
    def stream(
        self, path: str, *, params: Params | None = None, headers: Mapping[str, str], idle: float
    ) -> Iterator[httpx2.Response]:
        """An answer whose body is read as it comes; `idle` seconds without a byte end it with `httpx2.ReadTimeout`.

        Raises:
            VpError: the API refused.
            httpx2.HTTPError: the connection could not be made or broke.
        """
        timeout = httpx2.Timeout(idle, connect=CONNECT_SECONDS)
        with self._http.stream("GET", path, params=_given(params), headers=dict(headers), timeout=timeout) as response:
            if response.status_code >= 400:
                response.read()
            raise_for_problem(response, self.place.url)
            yield response

    def unreachable(self, error: Exception) -> UnreachableError:
        """The error that names the address and what to do."""
        reason = str(error) or type(error).__name__
        return UnreachableError(f"{self.place.url} does not answer ({reason}); {REMEDY}")

    def parse(self, model: type[T], response: httpx2.Response) -> T:
        """The body as `model`.

        Raises:
            UnreachableError: it is something else: whoever answered is no ua-vp API.
        """
        return self.parse_text(model, response.content, where=str(response.url))

    def parse_text(self, model: type[T], text: str | bytes, *, where: str) -> T:
        """As `parse`, for JSON that came in any other way."""
        try:
            return model.model_validate_json(text)
        except pydantic.ValidationError as error:
            raise UnreachableError(
                f"{where} answered, but not as a ua-vp API would ({error.error_count()} faults in its "
                f"{model.__name__}); check UA_VP_URL, and that both sides have the same major version"
            ) from error


def _plain(place: Place) -> httpx2.HTTPTransport:
    """A transport without TLS: reading the machine's certificates takes longer than the call."""
    return httpx2.HTTPTransport(uds=place.socket, verify=False)


class Pauses:
    """Growing pauses between tries, until `patience` seconds after the first are used up."""

    def __init__(self, clock: Clock, *, patience: float, first: float = FIRST_PAUSE) -> None:
        self._clock = clock
        self._patience = patience
        self._first = first
        self.reset()

    def reset(self) -> None:
        """Something worked: start over."""
        self._until: int | None = None
        self._pause = self._first

    def another(self) -> bool:
        """Pause before another try; False if the patience is used up."""
        now = self._clock.monotonic()
        if self._until is None:
            self._until = now + int(self._patience * MICROS)
        if now >= self._until:
            return False
        self._clock.sleep(min(self._pause, (self._until - now) / MICROS))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return True


def raise_for_problem(response: httpx2.Response, url: str) -> None:
    """Raise what the API's problem says, as the class of its code.

    Raises:
        VpError: the answer is an error.
    """
    if response.status_code < 400:
        return
    try:
        problem = Problem.model_validate_json(response.content)
    except pydantic.ValidationError:
        raise UnreachableError(
            f"{url} answered {response.status_code} without the problem details of a ua-vp API; check UA_VP_URL"
        ) from None
    faults = [FieldFault(pointer=fault.pointer, detail=fault.detail) for fault in problem.errors]
    raise _class_of(problem)(problem.detail, faults=faults, mission_id=problem.mission_id)


def _class_of(problem: Problem) -> type[VpError]:
    for known in CLASSES:
        if known.code == problem.code:
            return known
    newer: dict[str, Any] = {"code": problem.code, "retryable": problem.retryable, "__doc__": "A newer server's error."}
    return type("NewerError", (VpError,), newer)


def _given(params: Params | None) -> dict[str, str | int | float]:
    return {name: value for name, value in (params or {}).items() if value is not None}
