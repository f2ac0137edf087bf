"""The ledger on PostgreSQL: one database that several machines share, through connections that may be lost at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Dialect, make_url

from ua_vp.errors import ConfigurationError, LedgerGoneError, VpError
from ua_vp.ledger.engine import Driver, Trouble
from ua_vp.ports import Bell, Clock

try:
    import psycopg
except ModuleNotFoundError as missing:
    raise ConfigurationError(
        "a ledger on PostgreSQL needs the driver psycopg: pip install 'ua-vp[postgresql]'"
    ) from missing

OLDEST = 15
"""The oldest server that is taken."""
CHANNEL = "ua_vp"
"""What commits are told on."""
WRITE_LOCK = 0x7561_7670
"""Key of the advisory lock that whoever writes to a ledger holds until its commit: "uavp"."""
LOCK_PATIENCE = "500ms"
"""How long one try at a lock may wait in the server's queue."""

NETWORK: dict[str, Any] = {
    "application_name": "ua-vp",
    "client_encoding": "utf8",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",
}
"""A server that is gone without a word is found out in about ten seconds, and a standby is passed over; the URL may say
otherwise."""
SESSION = f"""
SET lock_timeout = '{LOCK_PATIENCE}';
SET idle_in_transaction_session_timeout = '5s';
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
SELECT current_setting('server_encoding'), current_setting('server_version_num')::int, to_regclass('vp_ledger')::text"""
"""A writer that was stopped with the lock in its hand is cut off, and what was acknowledged survives a power cut.

Rows are reached by an index, always: a plan that is kept from when the tables were small would read all of them later.
"""

AWAY = ("08", "57P", "53", "25P03", "25006")
"""Beginnings of SQLSTATEs: the server cannot be used now, cut us off, or takes no writes."""
BUSY = ("40", "55P03", "57014")
FULL = ("53100",)
GONE = ("42P01", "3D", "58", "XX")


class PostgresStore:
    """The database at `url`; see `Store` for the promises."""

    def __init__(self, url: URL, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._place = f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}"
        self._identity: tuple[str, int] | None = None
        self._is_another = False
        """Whether the newest connection found another ledger."""
        self._engine = sqlalchemy.create_engine(
            url,
            creator=self._connect,
            poolclass=sqlalchemy.pool.NullPool,
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
        )

    @property
    def dialect(self) -> Dialect:
        """PostgreSQL's, with psycopg's parameters."""
        return self._engine.dialect

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The driver's, and SQLAlchemy's around them."""
        return psycopg.Error, sqlalchemy.exc.DBAPIError

    @property
    def takes_arrays(self) -> bool:
        """Yes."""
        return True

    @property
    def own_clock(self) -> bool:
        """Yes: several machines share it."""
        return True

    def open_writer(self) -> Connection:
        """A connection that may write."""
        return self._engine.connect()

    def open_reader(self) -> Connection:
        """A connection; its transactions are begun as READ ONLY."""
        return self._engine.connect()

    def begin_writing(self, driver: Driver) -> bool:
        """BEGIN, and the one write lock of the ledger: who has it sees all that was committed before, as on SQLite.

        So `seq` grows in the order of commits. False if somebody else kept it for LOCK_PATIENCE, or somebody with a
        shell had us wait no longer.
        """
        try:
            driver.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({WRITE_LOCK})")
        except psycopg.Error as error:
            if self.in_transaction(driver):
                driver.execute("ROLLBACK")
            if self.trouble(error) is Trouble.BUSY:
                return False
            raise
        return True

    def begin_reading(self, driver: Driver) -> None:
        """BEGIN; the snapshot is that of the first read."""
        driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def begin_migrating(self, driver: Driver) -> bool:
        """As `begin_writing`: nobody writes meanwhile."""
        return self.begin_writing(driver)

    def check_migrated(self, driver: Driver) -> None:
        """Nothing to do: references are checked as rows are written."""

    def end_migrating(self, driver: Driver) -> None:
        """Nothing to do."""

    def commit(self, driver: Driver) -> None:
        """NOTIFY, which everybody hears after the commit, and COMMIT; returns when the server's log is on the disk."""
        driver.execute(f"NOTIFY {CHANNEL}; COMMIT")

    def certain(self, driver: Driver, error: BaseException) -> bool:
        """Whether a commit that failed recorded nothing: if the connection lived to say so, or was cut for idling before."""
        return self.alive(driver) or isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout)

    def in_transaction(self, driver: Driver) -> bool:
        """Whether a transaction is open, failed or not."""
        status = _ours(driver).info.transaction_status
        return status in {psycopg.pq.TransactionStatus.INTRANS, psycopg.pq.TransactionStatus.INERROR}

    def alive(self, driver: Driver) -> bool:
        """Whether the connection was not lost."""
        return not _ours(driver).closed

    def trouble(self, error: BaseException) -> Trouble | None:
        """By SQLSTATE; an error of the driver's without one is a connection that was lost."""
        cause = getattr(error, "orig", None) or error
        if not isinstance(cause, psycopg.Error):
            return None
        if cause.sqlstate is None:
            return Trouble.AWAY if isinstance(cause, psycopg.OperationalError) else Trouble.STATEMENT
        kinds = {Trouble.FULL: FULL, Trouble.AWAY: AWAY, Trouble.BUSY: BUSY, Trouble.GONE: GONE}
        return next((kind for kind, codes in kinds.items() if cause.sqlstate.startswith(codes)), Trouble.STATEMENT)

    def keep_to(self, ledger_id: str, epoch: int) -> None:
        """Take no other ledger from now on; looked at with each new connection."""
        self._identity = ledger_id, epoch

    def verify(self) -> None:
        """Whether the newest connection found the ledger that was opened; see `keep_to`."""
        if self._is_another:
            raise LedgerGoneError(f"another ledger stands at {self._place} now; nothing was acknowledged; restart")

    def tidy(self, driver: Driver) -> None:
        """Nothing to do: the server looks after its log."""

    def changes(self, driver: Driver) -> int:
        """The newest `seq`: whatever others wait for is reported by an event."""
        (newest,) = driver.execute("SELECT max(seq) FROM vp_events").fetchone()
        return int(newest or 0)

    def listen(self) -> Bell:
        """A bell that NOTIFY rings."""
        return PostgresBell(self._connect, self._clock)

    def announce(self) -> None:
        """Nothing to do: NOTIFY was part of the transaction."""

    def close(self) -> None:
        """Nothing to do."""

    def _connect(self) -> psycopg.Connection[Any]:
        """A connection, in autocommit: transactions are begun by hand.

        Raises:
            ConfigurationError: the URL is wrong, the server is too old, or its encoding cannot hold every text.
            LedgerGoneError: another ledger stands there now.
        """
        (_, given) = self.dialect.create_connect_args(self._url)
        try:
            connection = psycopg.connect(**{**NETWORK, **given}, autocommit=True)
        except psycopg.ProgrammingError as wrong:
            raise ConfigurationError(f"the database's URL cannot be used: {str(wrong).strip()}") from None
        ready = False
        try:
            self._check(connection)
            ready = True
            return connection
        finally:
            if not ready:
                connection.close()

    def _check(self, connection: psycopg.Connection[Any]) -> None:
        cursor = connection.execute(SESSION)
        while cursor.nextset():
            continue
        encoding, version, table = cursor.fetchone() or ("", 0, None)
        if version < OLDEST * 10_000:
            raise ConfigurationError(
                f"{self._place} runs PostgreSQL {version // 10_000}; a ledger needs {OLDEST} or newer"
            )
        if encoding != "UTF8":
            raise ConfigurationError(f"{self._place} is encoded in {encoding}; make the database with UTF8")
        if self._identity is None:
            return
        found = connection.execute("SELECT ledger_id, epoch FROM vp_ledger").fetchone() if table else None
        self._is_another = found != self._identity
        self.verify()


class PostgresBell:
    """LISTEN on a connection of its own; one that was lost is made again, and counts as a ring."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._hang()

    def wait(self, timeout: float) -> bool:
        """Wait for a NOTIFY, or for the server to be there again."""
        try:
            if self._connection is None:
                return self._hang()
            return any(True for _ in self._connection.notifies(timeout=timeout, stop_after=1))
        except (psycopg.Error, VpError) as error:
            self.close()
            self._clock.sleep(timeout)
            return isinstance(error, VpError)  # for good: whoever looks finds out

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _hang(self) -> bool:
        self._connection = self._connect()
        self._connection.execute(f"LISTEN {CHANNEL}")
        return True


def open_database(url: str, clock: Clock) -> PostgresStore:
    """The store in the database at `url`.

    Raises:
        ConfigurationError: it is no such URL; its text is not repeated, for it may hold a password.
    """
    try:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
        store = PostgresStore(parsed, clock) if parsed.database else None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        store = None
    if store is None:
        raise ConfigurationError("the database's URL must read postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE")
    return store


def _ours(driver: Driver) -> psycopg.Connection[Any]:
    assert isinstance(driver, psycopg.Connection)
    return driver
