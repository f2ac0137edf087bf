"""What waits for the next tick; it stays until a tick was committed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ua_vp.ledger import FinishVerdict, RequeueVerdict
from ua_vp.worker.context import Progress
from ua_vp.worker.messages import Finish, Late, Message, Requeue, Settled


@dataclass(kw_only=True, slots=True)
class Outbox:
    """Used by the loop alone, so nothing arrives between reading it and clearing it."""

    finishes: list[Finish] = field(default_factory=list)
    requeues: list[Requeue] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)

    def put(self, message: Message) -> bool:
        """Keep the message if it is one for the ledger; returns whether it was."""
        match message:
            case Finish():
                self.finishes.append(message)
            case Requeue():
                self.requeues.append(message)
            case Progress():
                self.progress.append(message)
            case Settled():
                self.settled.append(message)
            case Late():
                self.late.append(message)
            case _:
                return False
        return True

    def answer(self, finishes: tuple[FinishVerdict, ...], requeues: tuple[RequeueVerdict, ...]) -> None:
        """The tick was committed: tell those who wait, and forget everything."""
        for finish, verdict in zip(self.finishes, finishes, strict=True):
            finish.reply.put(verdict)
        for requeue, requeued in zip(self.requeues, requeues, strict=True):
            requeue.reply.put(requeued)
        for kept in (self.finishes, self.requeues, self.progress, self.settled, self.late):
            kept.clear()

    def __bool__(self) -> bool:
        return bool(self.finishes or self.requeues or self.progress or self.settled or self.late)
