"""How long a database may keep us waiting: every wait has an end, and stops no other greenlet."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import gevent
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DisconnectionError

from .prepared import driver_of

T = TypeVar("T")

SHORTEST_LOCK_PAUSE, LONGEST_LOCK_PAUSE = 0.001, 0.05
"""Seconds between two tries to get SQLite's lock."""


TRUSTED = 1.0
"""Seconds after its last use for which a connection to PostgreSQL is not tested."""

LAZILY, _SYNCHRONOUS, _USED = "lazily", "synchronous", "used"
"""What a connection's `info` tells.

How its next transaction is committed (Store.transaction), how SQLite committed its last one, and
when it was used last (monotonic seconds).
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds. A frozen path to PostgreSQL must be noticed within 15 s.

    connect: for opening a connection.
    statement: the server ends a statement that takes, or waits for a lock, longer.
    unanswered: a connection ends if what was sent is not acknowledged.
    transaction: our own limit, for a middlebox that acknowledges what it does not forward.
    renewal: the same for the renewal of leases, which must be tried again before they end.
    look: how often a connection that only listens is tested.
    lock: how long we try to get SQLite's lock.
    """

    connect: int = 5
    statement: float = 10.0
    unanswered: float = 10.0
    transaction: float = 12.0
    renewal: float = 4.0
    look: float = 10.0
    lock: float = 3.0


def connection_settings(limits: Limits, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return libpq's settings that end a wait, without those `given` in STORE_URL."""
    # keepalives end an idle connection after 5 + 3 * 2 s; tcp_user_timeout (milliseconds) one on
    # which something was sent. Linux alone would take hours.
    settings = {
        "connect_timeout": limits.connect,
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": int(limits.unanswered * 1000),
    }
    return {name: value for name, value in settings.items() if name not in given}


def limit_statements(connection: Any, limits: Limits) -> None:
    """Set PostgreSQL's own time limits on a new connection."""
    # idle_in_transaction_session: if the path from us freezes within a transaction, its locks would
    # stop every other worker until TCP gives up, two hours by its defaults
    milliseconds = int(limits.statement * 1000)
    connection.autocommit = True
    for what in ("statement", "lock", "idle_in_transaction_session"):
        connection.execute(f"SET {what}_timeout = {milliseconds}")
    connection.autocommit = False


def is_caused_by(error: BaseException, first: BaseException) -> bool:
    """Tell whether an error is `first`, or was raised while `first` was handled."""
    found: BaseException | None = error
    while found is not None and found is not first:
        found = found.__cause__ or found.__context__
    return found is first


def prepare_sqlite(connection: Any, limits: Limits) -> None:
    """Set up a new connection to SQLite: write-ahead log, synced at every commit.

    What was committed survives a power cut.
    """
    # busy_timeout=0: SQLite's own wait sleeps in C; a backup that held the lock for 30 s stopped
    # every greenlet for 3 s at a time.
    # cache_size: 8 MB. With the default of 2 MB an event cost 1.11 times the CPU at 10,000 open
    # calls, with 8 MB 1.04 times (docs/performance.md).
    connection.isolation_level = None  # SQLAlchemy begins transactions itself
    for pragma in ("busy_timeout=0", "journal_mode=WAL", "synchronous=FULL", "cache_size=-8000"):
        _patiently(lambda: connection.execute(f"PRAGMA {pragma}"), limits.lock)  # noqa: B023


def begin_sqlite(connection: Connection, limits: Limits) -> None:
    """Begin a transaction that may write. While another process writes, other greenlets run."""
    driver = driver_of(connection)
    level = "NORMAL" if connection.info.get(LAZILY) else "FULL"
    try:
        if connection.info.get(_SYNCHRONOUS) != level:
            driver.execute(f"PRAGMA synchronous={level}")
            connection.info[_SYNCHRONOUS] = level
        _patiently(lambda: driver.execute("BEGIN IMMEDIATE"), limits.lock)
    except sqlite3.Error:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises what SQLAlchemy's users expect


def note_use(_: Any, record: Any) -> None:
    """Note when a connection to PostgreSQL was used last."""
    # it is None of a connection that was given up
    if record is not None:
        record.info[_USED] = time.monotonic()


def ping_after_a_rest(engine: Engine, driver: Any, record: Any, _: Any) -> None:
    """Ask PostgreSQL for a sign of life, unless the connection was used a moment ago.

    The pool makes a new connection when this raises DisconnectionError.
    """
    if time.monotonic() - record.info.get(_USED, 0.0) < TRUSTED:
        return
    try:
        engine.dialect.do_ping(driver)
    except engine.dialect.loaded_dbapi.Error:
        raise DisconnectionError from None


def _patiently(do: Callable[[], T], seconds: float) -> T:
    """Call `do`, which needs SQLite's lock, again while another process holds the lock.

    Raises sqlite3.OperationalError if the lock is not free within `seconds`.
    """
    ends = time.monotonic() + seconds
    pause = SHORTEST_LOCK_PAUSE
    while True:
        try:
            return do()
        except sqlite3.OperationalError as error:
            code = error.sqlite_errorcode & 0xFF
            is_locked = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_locked or time.monotonic() > ends:
                raise

        gevent.sleep(pause)
        pause = min(pause * 2, LONGEST_LOCK_PAUSE)
