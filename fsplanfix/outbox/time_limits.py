"""How long a database may keep us waiting: every wait has an end, and stops nobody else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import gevent
from sqlalchemy import Connection

T = TypeVar("T")

SHORTEST_LOCK_PAUSE, LONGEST_LOCK_PAUSE = 0.001, 0.05
"""Seconds between two tries to get SQLite's lock."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. A path to PostgreSQL that is frozen must be noticed within 15 s.

    connect: to open a connection. statement: the server ends one that takes longer, or waits longer
    for a lock. unanswered: what is sent and not acknowledged ends the connection. transaction: our
    own limit, for a middlebox that acknowledges what it does not forward. look: how often a
    connection that only listens is tried. lock: how long we try to get SQLite's lock.
    """

    connect: int = 5
    statement: float = 10.0
    unanswered: float = 10.0
    transaction: float = 12.0
    look: float = 10.0
    lock: float = 3.0


def connection_settings(limits: Limits, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return libpq's settings that end a wait; those `given` in STORE_URL stay as they are."""
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
    """Have PostgreSQL end what takes too long on a new connection.

    Also a transaction of ours that says nothing more: the way from us may have frozen, and what it
    has locked would stop every other worker until TCP gives up, two hours by its defaults.
    """
    milliseconds = int(limits.statement * 1000)
    connection.autocommit = True
    for what in ("statement", "lock", "idle_in_transaction_session"):
        connection.execute(f"SET {what}_timeout = {milliseconds}")
    connection.autocommit = False


def comes_of(error: BaseException, first: BaseException) -> bool:
    """Tell whether an error is another one, or was met while that one was dealt with."""
    found: BaseException | None = error
    while found is not None and found is not first:
        found = found.__cause__ or found.__context__
    return found is first


def prepare_sqlite(connection: Any, limits: Limits) -> None:
    """Write ahead, and sync at every commit: what was committed survives a power cut.

    8 MB of pages stay in memory. SQLite itself waits for no lock: it would stop every greenlet.
    """
    connection.isolation_level = None  # SQLAlchemy begins transactions itself
    for pragma in ("busy_timeout=0", "journal_mode=WAL", "synchronous=FULL", "cache_size=-8000"):
        _patiently(lambda: connection.execute(f"PRAGMA {pragma}"), limits.lock)  # noqa: B023


def begin_sqlite(connection: Connection, limits: Limits) -> None:
    """Begin a transaction that may write; while another process does, others here go on."""
    driver: Any = connection.connection.driver_connection
    try:
        _patiently(lambda: driver.execute("BEGIN IMMEDIATE"), limits.lock)
    except sqlite3.Error:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises what SQLAlchemy's users expect


def _patiently(do: Callable[[], T], seconds: float) -> T:
    """Do something that needs SQLite's lock, again and again while another process holds it."""
    ends, pause = time.monotonic() + seconds, SHORTEST_LOCK_PAUSE
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
