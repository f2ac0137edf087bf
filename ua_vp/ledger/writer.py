"""The one writer of a process: a thread that takes every waiting Step into one transaction (group commit)."""

from __future__ import annotations

from typing import Generic, TypeVar

from sqlalchemy import Connection

from ua_vp.errors import LedgerBusyError, LedgerGoneError, OutcomeUnknownError, VpError
from ua_vp.ledger.engine import Pauses, Store, Trouble, driver_of, explain, let_go, wait_for_write_lock
from ua_vp.ledger.transaction import LedgerIdentity, Statements, Step, Transaction
from ua_vp.ports import Ports, Queue, Signal

T = TypeVar("T")

CLOSED = "the ledger was closed; open it again"
BATCH = 512
"""At most so many Steps in one transaction."""


class Job(Generic[T]):
    """A Step that waits for its answer."""

    def __init__(self, step: Step[T], done: Signal) -> None:
        self._step = step
        self._done = done
        self._result: list[T] = []
        self._error: BaseException | None = None

    def attempt(self, tx: Transaction) -> None:
        """Run the Step and keep what it gives; on the writer's thread."""
        self._result = [self._step(tx)]

    def answer(self, error: BaseException | None) -> None:
        """Let the caller go on, with its result or with `error`."""
        self._error = error
        self._done.set()

    def wait(self) -> T:
        """The result of the Step, once it is durable; on the caller's thread."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result[0]


class Stop:
    """What closing puts behind the last Job."""


class TransactionLostError(Exception):
    """An error, its cause, ended the transaction of all; nothing of it was recorded."""


class ConnectionLostError(Exception):
    """The store went away before COMMIT was sent; nothing was recorded."""


class Writer:
    """Runs Steps for any number of threads; one thread of its own holds the connection."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        statements: Statements,
        identity: LedgerIdentity,
        ports: Ports,
        *,
        busy_seconds: float,
    ) -> None:
        self._connection = connection
        self._driver = driver_of(connection)
        self._store = store
        self._statements = statements
        self._identity = identity
        self._ports = ports
        self._busy_seconds = busy_seconds
        self._jobs: Queue[Job[object] | Stop] = ports.threads.queue()
        self._gate = ports.threads.lock()
        self._closed = False
        self._stopping = False
        self._broken: str | None = None
        self.batches = 0
        """Transactions committed so far."""
        self._thread = ports.threads.start("ledger-writer", self._work)

    def run(self, step: Step[T]) -> T:
        """Run `step`; returns when its changes are durable, or raises what it raised."""
        job = Job(step, self._ports.threads.signal())
        with self._gate:
            if self._closed:
                raise LedgerGoneError(CLOSED)
            self._jobs.put(job)  # type: ignore[arg-type]  # the queue does not care what a Step gives
        return job.wait()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(Stop())
        self._thread.join()

    def _work(self) -> None:
        """The thread: batch after batch, until closed."""
        try:
            while batch := self._next_batch():
                self._run_batch(batch)
        finally:
            let_go(self._connection, alive=self._store.alive(self._driver))
            self._store.close()

    def _next_batch(self) -> list[Job[object]]:
        """Everything that waits, at least one; empty when closed and done."""
        batch: list[Job[object]] = []
        while not self._stopping and len(batch) < BATCH:
            job = self._jobs.get(0 if batch else None)
            if isinstance(job, Stop):
                self._stopping = True
            elif job is None:
                break
            else:
                batch.append(job)
        return batch

    def _run_batch(self, batch: list[Job[object]]) -> LedgerBusyError | None:
        """Run it and answer its callers; the error is given back if the store let nobody in."""
        try:
            self.check()  # each time: what is away may come back, a mount, a folder that somebody renamed
            self._commit(batch)
            self._store.verify()
        except TransactionLostError as lost:
            self._run_alone(batch, lost)
        except LedgerBusyError as busy:
            self._answer(batch, busy)
            return busy
        except VpError as error:
            self._answer(batch, error)
        else:
            self.batches += 1
            self._store.announce()
            self._answer(batch, None)
            self._tidy()
        return None

    def check(self) -> None:
        """Whether Steps can be taken at all, without waiting for anything; on any thread.

        Raises:
            LedgerGoneError: the store is away or another one, or its disk cannot be trusted.
        """
        self._refuse_if_broken()
        self._store.verify()

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise LedgerGoneError(self._broken)

    def _answer(self, batch: list[Job[object]], error: VpError | None) -> None:
        """Each caller raises an error of its own."""
        for job in batch:
            job.answer(type(error)(error.detail) if error else None)

    def _run_alone(self, batch: list[Job[object]], lost: TransactionLostError) -> None:
        """Each Step again, in a transaction of its own: whoever is at fault hears of it, and nobody else."""
        if len(batch) == 1:
            assert lost.__cause__ is not None
            batch[0].answer(self._as_ours(lost.__cause__))
            return
        for number, job in enumerate(batch, 1):
            busy = self._run_batch([job])
            if busy is not None:  # the others have waited as long as it
                self._answer(batch[number:], busy)
                break

    def _commit(self, batch: list[Job[object]]) -> None:
        """One transaction for the whole batch; a connection lost before its COMMIT is made again, and so is the batch.

        Raises:
            VpError: nothing of it was recorded, or (OutcomeUnknownError) nobody knows.
            TransactionLostError: nothing of it was recorded; each Step may do better alone.
        """
        pauses = Pauses(self._ports, limit=self._busy_seconds)
        while True:
            try:
                return self._commit_once(batch)
            except ConnectionLostError as lost:
                if not pauses.take(Trouble.AWAY):
                    cause = lost.__cause__ or lost
                    raise explain(Trouble.AWAY, cause) or cause from cause

    def _commit_once(self, batch: list[Job[object]]) -> None:
        self._begin()
        tx = Transaction(self._connection, self._statements, self._identity)
        try:
            for job in batch:
                job.attempt(tx)
            tx.send()
        except BaseException as error:
            self._roll_back()
            raise (TransactionLostError if self._store.alive(self._driver) else ConnectionLostError) from error
        self._finish()

    def _begin(self) -> None:
        try:
            if not self._store.alive(self._driver):
                let_go(self._connection, alive=False)
                self._connection = self._store.open_writer()
                self._driver = driver_of(self._connection)
            wait_for_write_lock(lambda: self._store.begin_writing(self._driver), self._ports, limit=self._busy_seconds)
        except self._store.errors as error:
            trouble = self._store.trouble(error)
            if trouble is Trouble.AWAY:
                raise ConnectionLostError from error
            raise explain(trouble, error) or error from error

    def _as_ours(self, error: BaseException) -> BaseException:
        ours = explain(self._store.trouble(error), error)
        if ours is not None:
            ours.__cause__ = error
        return ours or error

    def _finish(self) -> None:
        """COMMIT; if it fails, say whether that is certain."""
        try:
            self._store.commit(self._driver)
        except self._store.errors as error:
            certain, alive = self._store.certain(self._driver, error), self._store.alive(self._driver)
            self._roll_back()
            if certain and not alive:
                raise ConnectionLostError from error
            if certain:
                raise TransactionLostError from error
            if alive:
                self._broken = f"a commit failed ({error}): the disk cannot be trusted; see to it, then start again"
            raise OutcomeUnknownError(
                f"whether it was recorded is unknown ({error}); read again by key before doing it again"
            ) from error

    def _roll_back(self) -> None:
        """Undo what is open; a connection that is lost meanwhile undoes it too."""
        try:
            if self._store.in_transaction(self._driver):
                self._driver.execute("ROLLBACK")
        except self._store.errors:
            if self._store.alive(self._driver):
                raise

    def _tidy(self) -> None:
        """After the answers: a checkpoint that fails costs nobody anything, the log only stays longer."""
        try:
            self._store.tidy(self._driver)
        except self._store.errors as error:
            if explain(self._store.trouble(error), error) is None:
                raise
