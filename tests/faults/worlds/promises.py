"""What must hold in every world."""

from enum import StrEnum


class Promise(StrEnum):
    """A promise of the product; the last six are looked at when the faults are over, the others at every step."""

    ANSWER = "every call ends in an answer, or an error of the product"
    KEY = "a key has one mission, that of its first request"
    SEQ = "seq grows in the order of commits"
    LIFECYCLE = "the events of a mission follow its lifecycle, and one attempt ends it"
    TOGETHER = "a state and its event commit together"
    FROZEN = "an ended mission never changes"
    HELD = "what runs, or waits for its marker, is held at its attempt"
    TAKEN = "only a dead claim is taken, and nobody takes its own"
    ONCE = "an attempt runs once"
    STOPPED = "a worker that lost its lease stops its lanes"
    TRIES = "tries are the attempts that were lost, and have a limit"
    CANCEL = "a cancel that was committed first wins"
    QUEUE = "the queue keeps its order, whatever the clock says"
    FENCE = "only the attempt that ended its mission is published, and only then"
    MARKER = "a marker means a complete, hash-right workspace"
    STAMPS = "stamps follow the files"
    RUNS = "no thread ends in an error, none waits for ever"
    LIVE = "all comes to its end once the faults are over"
    HEARD = "an idle worker hears of a dispatch at once"
    ACKNOWLEDGED = "what was acknowledged is there"
    CLEAN = "nothing is left behind"
    SOUND = "rows and workspaces are what was written"

    @property
    def cost(self) -> str:
        """What it costs when it is broken, in the words of `tests.figures`."""
        if self in {Promise.ACKNOWLEDGED, Promise.LIVE, Promise.HEARD, Promise.ANSWER, Promise.RUNS, Promise.SOUND}:
            return "lost"
        return "orphaned" if self is Promise.CLEAN else "double"


class BrokenError(AssertionError):
    """A promise that a world broke."""

    def __init__(self, promise: Promise, detail: str) -> None:
        super().__init__(f"{promise}: {detail}")
        self.promise = promise
