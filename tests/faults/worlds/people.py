"""Those who dispatch and cancel through the API's code, ask again when no answer came, and hold it to its answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tests.faults.worlds.ground import LANES
from tests.faults.worlds.lane import BUDGETS, ENDLESS, KINDS
from tests.faults.worlds.promises import Promise
from tests.faults.worlds.witness import Witness
from ua_vp.access import Caller
from ua_vp.control.asking import Asking
from ua_vp.control.cancel import cancel
from ua_vp.control.dispatch import Dispatched, dispatch
from ua_vp.errors import (
    AlreadyTerminalError,
    IdempotencyConflictError,
    LedgerGoneError,
    OutcomeUnknownError,
    VpError,
)
from ua_vp.ledger import Ledger
from ua_vp.mission import Actor
from ua_vp.ports import MICROS, Ports, Thread
from ua_vp.testing import World
from ua_vp.wire import to_iso

T = TypeVar("T")

SOMEBODY = Caller(token_id="t", actor=Actor(name="somebody", via="test"), scopes=frozenset())


@dataclass(frozen=True, kw_only=True)
class Request:
    """A dispatch; with a key it is asked until it is answered."""

    key: str | None
    vp_id: str
    objective: str
    priority: int = 100
    max_tries: int = 3
    delay: float | None = None
    """Seconds from the first time it is asked to its `not_before`."""

    def body(self, not_before: str | None) -> dict[str, Any]:
        """As JSON."""
        body: dict[str, Any] = {
            "vp_id": self.vp_id,
            "objective": self.objective,
            "priority": self.priority,
            "max_tries": self.max_tries,
        }
        budget = BUDGETS.get(self.objective.split()[0])
        if budget is not None:
            body["budget"] = budget.to_json()
        if not_before is not None:
            body["not_before"] = not_before
        return body


def requests_of(chance: random.Random, lanes: tuple[str, ...], count: int) -> list[Request]:
    """What one world is asked: some twice, some with another's key."""
    kinds = ["slow", "late", "deaf", *chance.sample([*KINDS, *ENDLESS, "mixed"], 4)]
    made: list[Request] = []
    for number in range(count):
        request = Request(
            key=f"key-{number}" if chance.random() < 0.7 else None,
            vp_id=chance.choice(lanes),
            objective=f"{chance.choice(kinds)} {number}",
            priority=chance.choice((0, 100, 100, 101)),
            max_tries=chance.choice((1, 2, 3, 3)),
            delay=chance.uniform(0.5, 6.0) if chance.random() < 0.15 else None,
        )
        made.append(request)
        if request.key and chance.random() < 0.25:
            made.append(request if request.delay is None else replace(request, key=f"other-{number}"))
        if request.key and chance.random() < 0.25:
            made.append(replace(request, objective=f"quick {number}, another", delay=None))
    return made


@dataclass
class Api:
    """The API's process as people see it: there, or between two lives."""

    world: World
    witness: Witness
    ports: Ports | None = None
    ledger: Ledger | None = None
    gone: bool = False
    """Its ledger is gone to it for good; somebody has to start the next."""
    asked: int = 0

    def call(self, verb: Callable[[Asking], T]) -> T | VpError | None:
        """What `verb` answers, on a thread of the API's process; None if the answer was lost with the process."""
        return self.calls(verb, 1)[0]

    def calls(self, verb: Callable[[Asking], T], times: int) -> list[T | VpError | None]:
        """The same call `times` times at once."""
        started = [self._start(verb) for _ in range(times)]
        for thread, _ in started:
            if thread is not None:
                thread.join()
        return [answer[0] if answer else None for _, answer in started]

    def _start(self, verb: Callable[[Asking], T]) -> tuple[Thread | None, list[T | VpError]]:
        ports, ledger, answer = self.ports, self.ledger, list[T | VpError]()
        if ports is None or ledger is None:
            return None, answer
        asking = Asking(ledger=ledger, clock=ports.clock, ids=ports.ids, caller=SOMEBODY)

        def ask() -> None:
            try:
                answer.append(verb(asking))
            except VpError as error:
                self.gone = self.gone or isinstance(error, LedgerGoneError)
                answer.append(error)

        self.asked += 1
        return ports.threads.start(f"request {self.asked}", ask), answer


@dataclass
class Person:
    """Asks for each of `requests` in turn, and cancels now and then."""

    name: str
    api: Api
    ports: Ports
    chance: random.Random
    requests: list[Request]
    known: dict[tuple[str, str], str]
    """The mission of each key, by lane and key, as all people were told."""
    acknowledged: dict[str, Request]
    """What was acknowledged, by mission, for all people."""
    cancelled: set[str]
    """Whose cancel was acknowledged, for all people."""
    done: bool = False
    patience: float = field(default=0.5)

    def live(self) -> None:
        """On a thread of the world's main process."""
        for request in self.requests:
            self.ports.clock.sleep(self.chance.choice((0, 0, self.chance.uniform(0, 3.0))))
            self.ask(request)
            if self.acknowledged and self.chance.random() < 0.35:
                self.cancel(self.chance.choice(sorted(self.acknowledged)))
        self.done = True

    def ask(self, request: Request) -> None:
        """Ask for it until there is an answer; without a key only while it is certain that nothing was taken."""
        not_before = None
        if request.delay is not None:
            not_before = to_iso(self.ports.clock.now() + int(request.delay * MICROS))
        settled = False
        while not settled:
            times = 2 if request.key and self.chance.random() < 0.3 else 1
            answers = self.api.calls(
                lambda asking: dispatch(asking, request.body(not_before), header_key=request.key), times
            )
            settled = True in [self._heard(request, answer) for answer in answers]
            if not settled:
                self.ports.clock.sleep(self.patience)

    def _heard(self, request: Request, answer: Dispatched | VpError | None) -> bool:
        """Take an answer in; returns whether it is one."""
        self.api.world.tell(f"{self.name} asked for {request.objective}, key {request.key}: {_short(answer)}")
        if isinstance(answer, IdempotencyConflictError):
            self._conflict(request, answer)
            return True
        if isinstance(answer, Dispatched):
            self._taken(request, answer.mission.mission_id, answer.mission.objective)
            return True
        if answer is None or isinstance(answer, OutcomeUnknownError | LedgerGoneError):
            return request.key is None  # it may have been taken or not, and without a key nobody can ask
        if not answer.retryable:
            self.api.witness.blame(Promise.ANSWER, f"{request.objective}: {answer!r}")
        return False

    def cancel(self, mission_id: str) -> None:
        """Ask for it until there is an answer."""
        name = self.acknowledged[mission_id].objective
        while True:
            answer = self.api.call(lambda asking: cancel(asking, mission_id, reason="enough"))
            self.api.world.tell(f"{self.name} cancelled {name}: {_short(answer)}")
            if isinstance(answer, AlreadyTerminalError):
                return
            if answer is not None and not isinstance(answer, VpError):
                self.cancelled.add(mission_id)
                return
            self.ports.clock.sleep(self.patience)

    def _taken(self, request: Request, mission_id: str, objective: str) -> None:
        if objective != request.objective:
            self.api.witness.blame(Promise.KEY, f"{request.objective} was answered with {objective}")
        if request.key is not None:
            first = self.known.setdefault((request.vp_id, request.key), mission_id)
            if first != mission_id:
                self.api.witness.blame(Promise.KEY, f"{request.objective} has two missions under {request.key}")
        self.acknowledged.setdefault(mission_id, request)

    def _conflict(self, request: Request, error: IdempotencyConflictError) -> None:
        life = self.api.witness.lives.get(error.mission_id or "")
        if life is None or life.name == request.objective:
            self.api.witness.blame(Promise.KEY, f"{request.objective} is refused for {life}")


def _short(answer: object) -> str:
    return "no answer" if answer is None else answer.code if isinstance(answer, VpError) else "taken"


__all__ = ["LANES", "Api", "Person", "Request", "requests_of"]
