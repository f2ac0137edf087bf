"""Walks the reference and the real ledger side by side: one at a time, many in one transaction, several at once."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from tests.faults.model.checking import (
    DifferenceError,
    about,
    check_all,
    check_mission,
    check_missions,
    differ,
    read_events,
)
from tests.faults.model.choosing import Chooser
from tests.faults.model.real import Given, Real
from tests.faults.model.reference import Reference
from tests.faults.model.steps import FOLDER, Moment, Names, Row, Step
from ua_vp.lane import Availability, LaneInfo, Manifest
from ua_vp.ledger import Ledger, Transaction, lanes
from ua_vp.ledger.rows import text_of
from ua_vp.ports import MICROS

CLOCKS = frozenset({"pass_time", "set_wall", "reboot"})
"""Steps that move the clocks and nothing else."""
BATCHES = (1, 24, 3, 64, 8)
"""How many steps share a transaction, in turn, unless a commit comes first."""
WHOLE = 100
"""After so many steps everything is compared."""
START = 1_800_000_000 * MICROS
APART = 100 * 86_400 * MICROS
"""Between the beginnings of two runs on one ledger, so that none takes the other's missions for newer."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One step, and what must be so behind it."""

    step: Step
    moment: Moment
    verdict: Any
    rows: dict[str, Row]
    told: int
    """How many events there are by then."""


class Walk:
    """One run; `ledgers` are doors to the same store, each with a writer of its own.

    `closely`: rows and events are compared behind each step, not only behind each transaction. Verdicts always are.
    """

    def __init__(self, ledgers: Sequence[Ledger], threads: Executor, run: int, *, closely: bool) -> None:
        self.steps = 0
        """Transitions taken, clocks set included."""
        self.races = 0
        self.story: list[str] = []
        """What was done so far, for those who have to repeat it."""
        self._ledgers = ledgers
        self._threads = threads
        self._run = run
        self._closely = closely
        self._earliest = START + run * APART
        start = Moment(now=self._earliest, boot=f"boot-{run}-0", boot_now=1000 * MICROS)
        self._reference = Reference(Names(run=run), start)
        self._chooser = Chooser(self._reference)
        self._given: Given = {}
        self._seqs: list[int] = []
        self._pending: list[Expected] = []
        self._final: dict[str, Row] = {}
        self._moments = {start.now}
        self._batches = self._boots = self._compared = 0

    def __call__(self, numbers: Iterable[tuple[int, ...]]) -> None:
        """Take one step for each three numbers, then compare everything.

        Raises:
            DifferenceError: with all that was done up to there.
        """
        try:
            self._ledgers[0].run(lambda tx: register(tx, *self._reference.lanes))
            for session in (0, 1):
                self._take(self._chooser.named("open", session, 0))
            for verb, which, how in numbers:
                self._take(self._chooser.step(verb, which, how))
            self._compare_all()
        except Exception as error:  # whatever it is, it needs its story
            raise DifferenceError(f"{type(error).__name__}: {error}\nafter these steps:\n{self._told()}") from error

    def _take(self, step: Step) -> None:
        if step.verb in CLOCKS:
            self._set_clocks(step)
        elif step.verb == "commit":
            self._commit()
        elif step.verb == "race":
            self._race(self._chooser.together(step.values["verbs"], step.values["which"], step.values["how"]))
        elif step.verb != "rest":
            self._note(str(step))
            self._tick()
            self._pending.append(expect(self._reference, step))
        if len(self._pending) >= BATCHES[self._batches % len(BATCHES)]:
            self._commit()
        if self.steps >= self._compared + WHOLE:
            self._compare_all()

    def _note(self, line: str, steps: int = 1) -> None:
        self.steps += steps
        self.story.append(line)

    def _set_clocks(self, step: Step) -> None:
        self._note(str(step))
        at = self._reference.moment
        if step.verb == "pass_time":
            at = at.later(step.values["micros"])
        elif step.verb == "set_wall":
            at = replace(at, now=max(self._earliest, at.now + step.values["micros"]))
        else:
            self._boots += 1
            at = replace(at, boot=f"boot-{self._run}-{self._boots}", boot_now=5 * MICROS)
        self._reference.moment = at

    def _tick(self) -> None:
        """No two steps happen at one instant: what is ordered by instants has one order."""
        now = self._reference.moment.now
        while now in self._moments:
            now += 1
        self._moments.add(now)
        self._reference.moment = replace(self._reference.moment, now=now)

    def _commit(self) -> None:
        """Take what is pending on the real ledger, in one transaction, comparing on the way."""
        batch, self._pending = self._pending, []
        if not batch:
            return

        def steps(tx: Transaction) -> list[int]:
            seqs = list(self._seqs)
            for expected in batch:
                self._check(tx, expected, seqs)
            check_missions(tx, self._reference.lanes, {name: row for it in batch for name, row in it.rows.items()})
            self._check_events(tx, seqs, batch[-1].told)
            return seqs

        self._batches += 1
        self._seqs = self._ledgers[self._batches % len(self._ledgers)].run(steps)

    def _check(self, tx: Transaction, expected: Expected, seqs: list[int]) -> None:
        step = expected.step
        if step.verb == "log":
            self._check_events(tx, seqs, expected.told)
        verdict = Real(tx, expected.moment, self._given, seqs).run(step)
        differ(f"the verdict of {step}", expected.verdict, verdict)
        if self._closely:
            for mission, known in expected.rows.items():
                check_mission(tx, mission, known)
            self._check_events(tx, seqs, expected.told)

    def _check_events(self, tx: Transaction, seqs: list[int], until: int) -> None:
        """Compare the events that came since, up to the `until`-th."""
        new, told = read_events(tx, self._reference.lanes, seqs[-1] if seqs else 0)
        differ("the events", self._reference.events[len(seqs) : until], told)
        seqs += new

    def _race(self, steps: Sequence[Step]) -> None:
        """Take several steps at once; there must be an order in which the reference gives all that was found."""
        if not steps:
            return
        self._commit()
        self._note("at once: " + " | ".join(map(str, steps)), len(steps))
        self.races += 1
        moments = []
        for _ in steps:
            self._tick()
            moments.append(self._reference.moment)
        before = pickle.dumps(self._reference)
        verdicts = [*self._threads.map(self._at_once, range(len(steps)), steps, moments)]
        differences = []
        for order in permutations(range(len(steps))):
            reference: Reference = pickle.loads(before)
            done = {}
            for index in order:
                reference.moment = moments[index]
                done[index] = expect(reference, steps[index]).verdict
            reference.moment = moments[-1]
            try:
                differ("the verdicts", [done[index] for index in range(len(steps))], verdicts)
                self._ledgers[0].read(lambda tx: self._adopt(tx, reference))  # noqa: B023  # it is run here
            except DifferenceError as difference:
                differences.append(f"{order}: {difference}")
            else:
                return
        raise DifferenceError("no order explains it\n" + "\n".join(differences))

    def _at_once(self, index: int, step: Step, moment: Moment) -> Any:
        """One step of a race, on a thread of its own."""
        ledger = self._ledgers[index % len(self._ledgers)]
        return ledger.run(lambda tx: Real(tx, moment, self._given, self._seqs).run(step))

    def _adopt(self, tx: Transaction, reference: Reference) -> None:
        """Go on from what a race came to, if the reference says so too."""
        seqs, _ = read_events(tx, reference.lanes, 0)
        check_all(tx, reference, seqs, self._final)
        differ("what was told before", self._seqs, seqs[: len(self._seqs)])
        self._seqs = seqs
        self._reference = self._chooser.reference = reference

    def _compare_all(self) -> None:
        self._commit()
        self._compared = self.steps
        self._ledgers[-1].read(lambda tx: check_all(tx, self._reference, self._seqs, self._final))

    def _told(self) -> str:
        lines = "\n".join(f"  {number:3} {line}" for number, line in enumerate(self.story, start=1))
        return re.sub(r"vp-mission-[0-9a-f]{16}0*([0-9a-f]+)", r"m\1", lines)


def expect(reference: Reference, step: Step) -> Expected:
    """Take a step on the reference."""
    reference.touched.clear()
    verdict = getattr(reference, step.verb)(**step.values)
    rows = {mission: about(reference, mission) for mission in reference.touched}
    return Expected(step, reference.moment, verdict, rows, len(reference.events))


def register(tx: Transaction, *vp_ids: str) -> None:
    """Lanes as a probe would record them, without the probe of all others and its events."""
    available = text_of({"available": True, "reason": "", "remedy": "", "types": {}})
    for vp_id in vp_ids:
        manifest = Manifest(
            info=LaneInfo(vp_id=vp_id, display_name="A lane", aliases=(), mission_types={}),
            availability=Availability(),
            distribution="ua-vp-model",
            version="1.0",
            workspace_base=f"workspace://{FOLDER}",
            sandbox="none",
        )
        tx.run(
            lanes.INSERT_LANE, vp_id=vp_id, entry_point="model", manifest=text_of(manifest.to_json()),
            availability=available, registered_at=0, updated_at=0, paused=False, draining=False,
        )  # fmt: skip
