"""Which step comes next: three small numbers, read in the light of what the reference knows.

Every triple is a step in every state, so that what shrinks stays a walk; zeros are a rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from tests.faults.model.reference import Reference
from tests.faults.model.state import CANCELLED, COMPLETED, ENDED, FAILED, QUEUED, RUNNING
from tests.faults.model.steps import LEASE, Held, Row, Step
from ua_vp.ports import MICROS

T = TypeVar("T")
Subject: TypeAlias = "Mapping[str, Any] | None"

WAITS = (LEASE + 1, 1, 5 * MICROS, LEASE // 3, LEASE, LEASE + 1, 601 * MICROS)
"""How long nothing happens: to just at a deadline, and just behind it."""
JUMPS = (-3600 * MICROS, 3600 * MICROS, -1, -700 * MICROS)
"""How far the wall clock is set."""


RACES: tuple[tuple[str, ...], ...] = (
    *(("dispatch", "dispatch", "dispatch"), ("claim", "claim", "claim"), ("finish", "cancel"), ("finish", "requeue")),
    *(("reconcile", "reconcile"), ("reconcile", "renew"), ("reconcile", "finish"), ("claim", "cancel", "claim")),
    *(
        ("finish", "operator_fail"),
        ("requeue", "operator_requeue"),
        ("mark", "block"),
        ("mark", "mark"),
        ("retry", "retry"),
    ),
    *(("finish", "finish", "finish"), ("cancel", "cancel"), ("steer", "claim"), ("publish", "reconcile", "mark")),
)
"""What may be done at once, by several threads and two writers."""


class Numbers:
    """Choices out of a number: each takes what it needs and leaves the rest."""

    def __init__(self, number: int) -> None:
        self._left = number

    def of(self, choices: Sequence[T]) -> T:
        """One of them."""
        self._left, index = divmod(self._left, len(choices))
        return choices[index]


class Chooser:
    """Makes steps for one reference."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._numbers = Numbers(0)
        self._made = 0

    def step(self, verb: int, which: int, how: int) -> Step:
        """The step that these numbers stand for now; a rest where there is nothing to do it to."""
        name = VERBS[verb % len(VERBS)]
        return self.named(name, which, how)

    def named(self, name: str, which: int, how: int) -> Step:
        """A step with this verb; `which` picks what it is done to, `how` the rest."""
        self._numbers = Numbers(which)
        subject = SUBJECTS.get(name, Chooser.lane)(self)
        self._numbers = Numbers(how)
        if subject is None:
            return Step("rest")
        values = WAYS[name](self) if name in WAYS else {}
        return Step(name, {**subject, **values})

    def together(self, verbs: Sequence[str], which: int, how: int) -> list[Step]:
        """What several do at once, to the same mission, for the same key; nothing if one has nothing to do it to."""
        steps = [self.named(verb, which + n, how + n) for n, verb in enumerate(verbs)]
        if Step("rest") in steps:
            return []
        first = steps[0].values
        held = first.get("held")
        same = {
            "held": held,
            "mission": held.mission if held else first.get("mission"),
            "retry_of": first.get("retry_of"),
        }
        return [Step(step.verb, {**step.values, **_shared(step, same)}) for step in steps]

    # What it is done to.

    def lane(self) -> Subject:
        one, two = self.reference.lanes
        return {"lane": self._numbers.of((one, one, one, two))}

    def nothing(self) -> Subject:
        return {}

    def mission(self) -> Subject:
        """Mostly one of the last, now and then any, rarely none that is there."""
        known = [*self.reference.missions]
        return self._mostly("mission", known[-8:], [*known, "vp-mission-unknown"])

    def running(self) -> Subject:
        """Mostly the claim on a mission that runs, else any that was ever given."""
        return self._held(lambda it, claim: it["status"] == RUNNING and not claim["closing"])

    def closing(self) -> Subject:
        """Mostly the claim on a mission that has ended, or is only to be ended."""
        return self._held(lambda it, claim: it["status"] in ENDED or claim["closing"])

    def recent(self) -> Subject:
        """Mostly one of the last claims, whatever became of it."""
        return self._mostly("held", self.reference.held[-3:], self.reference.held)

    def session(self) -> Subject:
        """Mostly one of the last that is not closed."""
        known = self.reference.sessions
        return self._mostly("session", [it for it in known if known[it]["closed_at"] is None][-4:], [*known])

    def seat(self) -> Subject:
        """A session and its lane."""
        found = self.session()
        return found and {**found, "lane": self.reference.sessions[found["session"]]["vp_id"]}

    def newcomer(self) -> Subject:
        found = self.lane()
        return found and {**found, "session": self.reference.names.session(len(self.reference.sessions))}

    def repeated(self) -> Subject:
        """Something that ended: mostly a retry itself, so that chains grow."""
        retries = self._numbers.of((True, True, False))
        found = self._that(lambda it: it["status"] in ENDED and not (retries and it["retry_of"] is None))
        return found and {"retry_of": found["mission"]}

    def at_work(self) -> Subject:
        return self._that(lambda it: it["status"] == RUNNING)

    def blocked(self) -> Subject:
        return self._that(lambda it: it["blocked_at"] is not None and it["released_at"] is None)

    def marked(self) -> Subject:
        return self._that(lambda it: it["marked_at"] is not None)

    def mirrored(self) -> Subject:
        """What a mirror has of a mission: mostly the attempt that ended it."""
        found = self.marked()
        row = self.reference.missions.get(found["mission"]) if found else None
        return found and {**found, "attempt": (row["attempt"] if row else 1) + self._numbers.of((0, 0, 0, 1))}

    def _that(self, fits: Callable[[Row], bool]) -> Subject:
        """Mostly one of the last missions like that."""
        known = self.reference.missions
        return self._mostly("mission", [it for it in known if fits(known[it])][-6:], [*known, "vp-mission-unknown"])

    def _held(self, fits: Callable[[Row, Row], bool]) -> Subject:
        reference = self.reference
        live = [
            Held(mission, claim["attempt"], claim["session_id"])
            for mission, claim in reference.claims.items()
            if fits(reference.missions[mission], claim)
        ]
        return self._mostly("held", live, reference.held)

    def _mostly(self, name: str, these: Sequence[Any], any_of: Sequence[Any]) -> Subject:
        """Three times out of four one of these, if there are any."""
        pool = self._numbers.of((these, these, these, any_of)) or any_of
        return {name: self._numbers.of(pool)} if pool else None

    # How.

    def request(self) -> Mapping[str, Any]:
        """What is asked for; four keys a lane, two objectives: replays and conflicts are common."""
        of, now = self._numbers.of, self.reference.moment.now
        self._made += 1
        return {
            "mission": self.reference.names.mission(self._made),
            "key": of((*[None] * 6, *"abcd")),
            "priority": of((100, 100, 0, 200, 99, -1)),
            "objective": of(("this", "this", "this", "that")),
            "max_tries": of((3, 3, 1, 2)),
            "not_before": of((*[None] * 6, now + 7 * MICROS, now - 1)),
            "source": of((None, "session-1")),
        }

    def of(self, **choices: Sequence[Any]) -> Mapping[str, Any]:
        """One of each."""
        return {name: self._numbers.of(values) for name, values in choices.items()}

    def back(self) -> Mapping[str, Any]:
        reason = self._numbers.of(("retryable", "drained", "provider_hold", "lease_lost"))
        return {"reason": reason, "backoff": self._numbers.of((0, 5 * MICROS))}

    def behind(self) -> Mapping[str, Any]:
        known = [*self.reference.missions]
        statuses = self._numbers.of(((), (QUEUED,), (RUNNING, QUEUED), (FAILED, CANCELLED), (COMPLETED, RUNNING)))
        return {
            "statuses": statuses,
            "before": self._numbers.of([None, *known]),
            "limit": self._numbers.of((3, 1, 100)),
        }

    def cursor(self) -> Mapping[str, Any]:
        seen = len(self.reference.events)
        of = self._numbers.of
        after = of((None, of(range(seen + 1)), max(0, seen - 3)))
        mission = of((None, *[*self.reference.missions][-4:]))
        return {"mission": mission, "after": after, "ends": of((False, False, True)), "limit": of((5, 1, 100))}


def _shared(step: Step, same: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a step of a race has in common with the first one."""
    if "key" in step.values:
        return {"key": "a", **{name: same[name] for name in ("retry_of",) if name in step.values}}
    return {name: value for name, value in same.items() if name in step.values and value is not None}


SUBJECTS: Mapping[str, Callable[[Chooser], Subject]] = {
    **dict.fromkeys(("rest", "commit", "race", "pass_time", "set_wall", "reboot"), Chooser.nothing),
    **dict.fromkeys(("claim", "reconcile"), Chooser.seat),
    "open": Chooser.newcomer,
    **dict.fromkeys(("renew", "holding", "close"), Chooser.session),
    **dict.fromkeys(("progress", "finish", "requeue", "supersede"), Chooser.running),
    "late": Chooser.recent,
    **dict.fromkeys(("publish", "mark", "block"), Chooser.closing),
    **dict.fromkeys(("operator_requeue", "operator_fail"), Chooser.at_work),
    **dict.fromkeys(("cancel", "get", "attempts_of"), Chooser.mission),
    "release": Chooser.blocked,
    "purge": Chooser.marked,
    "retry": Chooser.repeated,
    "acknowledge": Chooser.mirrored,
}
"""What each verb is done to; those that are not named, to a lane."""

WAYS: Mapping[str, Callable[[Chooser], Mapping[str, Any]]] = {
    "dispatch": Chooser.request,
    "retry": lambda it: {**it.request(), **it.of(limit=(10, 1, 2))},
    "cancel": lambda it: it.of(reason=("not needed", "again")),
    "claim": lambda it: it.of(limit=(1, 1, 2, 3, 100, 0)),
    "progress": lambda it: it.of(
        summary=(None, "half way"), usage=(None, {"tokens": 7}, {}), engaged=(True, True, False)
    ),
    "finish": lambda it: it.of(status=ENDED, usage=(None, {"tokens": 9}), made=(0, 1, 0, 51)),
    "requeue": Chooser.back,
    "late": lambda it: it.of(outcome=({"summary": "first"}, {"summary": "second"})),
    "reconcile": lambda it: it.of(limit=(100, 100, 1, 2)),
    "steer": lambda it: it.of(paused=(False, False, None, True), draining=(False, False, None, False, True)),
    "by_key": lambda it: it.of(key="abcd"),
    "page": Chooser.behind,
    "log": Chooser.cursor,
    "pass_time": lambda it: it.of(micros=WAITS),
    "set_wall": lambda it: it.of(micros=JUMPS),
    "race": lambda it: it.of(verbs=RACES, which=range(50), how=range(200)),
}

_WEIGHTS = {
    "rest": 1, "dispatch": 46, "claim": 26, "finish": 16, "renew": 8, "progress": 9, "requeue": 12, "cancel": 8,
    "reconcile": 22, "publish": 8, "mark": 18, "late": 7, "supersede": 5, "retry": 11, "operator_requeue": 5,
    "operator_fail": 4, "block": 6, "release": 5, "acknowledge": 5, "purge": 3, "steer": 5, "open": 6, "close": 1,
    "pass_time": 20, "set_wall": 3, "reboot": 2, "commit": 8, "race": 5, "get": 3, "by_key": 2, "page": 4, "log": 4,
    "has_due": 2, "next_due": 2, "holding": 2, "counts": 3, "attempts_of": 2, "sessions_of": 2,
}  # fmt: skip
VERBS = tuple(verb for verb, weight in _WEIGHTS.items() for _ in range(weight))
"""Each verb as often as its weight; the first is the rest."""
