"""Wakes a courier when another process writes notices: at once on PostgreSQL, soon on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import gevent
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StoreError
from .due import OUTLOOK_OF_MANY
from .prepared import driver_of
from .schema import CHANNEL
from .store import Store

POLL_EVERY = 0.1
"""Seconds between two queries of SQLite's data_version, a counter of others' commits."""

TRY_AGAIN_AFTER = 1.0
"""Seconds between two tries to connect to a database that is gone."""


def keep_waking(store: Store, on_change: Callable[[], None]) -> None:
    """Call `on_change` for each change by another process, for ever."""
    while True:
        try:
            for _ in changes(store):
                on_change()
        except StoreError:
            gevent.sleep(TRY_AGAIN_AFTER)


def changes(store: Store) -> Iterator[None]:
    """Yield for each change that may matter to a courier.

    Raises StoreError when the database is gone.
    """
    # both loops read through the driver itself, whose errors SQLAlchemy does not wrap
    gone = (SQLAlchemyError, OSError, store.engine.dialect.loaded_dbapi.Error)
    try:
        if store.engine.dialect.name == "postgresql":
            with _connected(store) as connection:
                yield from _on_postgresql(connection, store)
        else:
            yield from _on_sqlite(store)
    except gone as error:
        raise StoreError(f"The database is gone ({type(error).__name__}).") from None


@contextmanager
def _connected(store: Store) -> Iterator[Connection]:
    """Give a connection, and throw it away if it failed instead of waiting for a ROLLBACK."""
    with _in_time(store):
        connection = store.engine.connect()

    try:
        yield connection
    except BaseException:
        connection.invalidate()
        raise
    finally:
        connection.close()


def _in_time(store: Store) -> gevent.Timeout:
    late = StoreError("The database does not answer in time.")
    return gevent.Timeout(store.limits.transaction, late)


def _on_postgresql(connection: Connection, store: Store) -> Iterator[None]:
    """Yield for each NOTIFY of another process."""
    driver = driver_of(connection.execution_options(isolation_level="AUTOCOMMIT"))
    with _in_time(store):
        connection.execute(text(f"LISTEN {CHANNEL}"))

    while True:
        for _ in driver.notifies(timeout=store.limits.look):
            yield
        # a frozen path looks like a quiet one (docs/delivery-rules.md, rule 8: 15 s)
        with _in_time(store):
            driver.execute("SELECT 1")


def _on_sqlite(store: Store) -> Iterator[None]:
    """Yield whenever another process has committed, and something waits to be sent."""
    # The number is a connection's own, and counts what others commit. So it is asked of those that
    # write here: one of its own would count our commits as well, and each would wake the courier.
    seen: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()
    while True:
        with store.connection() as connection:
            (version,) = driver_of(connection).execute("PRAGMA data_version").fetchone()
            is_news = seen.get(connection) != version and _is_something_waiting(connection, store)
            seen[connection] = version

        if is_news:
            yield
        gevent.sleep(POLL_EVERY)


def _is_something_waiting(connection: Connection, store: Store) -> bool:
    # its writer's clock may be a little ahead of ours
    soon = {"now": store.now() + 1}
    ((_, waits),) = OUTLOOK_OF_MANY.run(connection, soon).fetchall()
    return bool(waits)
