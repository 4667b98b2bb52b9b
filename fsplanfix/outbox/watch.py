"""Notices that another process has written to the store: at once on PostgreSQL, soon on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StoreError
from .waits import Limits

LOOK_EVERY = 0.1
"""Seconds between two looks at SQLite's data_version.

Every commit of another connection raises that counter.
"""


@contextmanager
def _connected(engine: Engine, limits: Limits, late: StoreError) -> Iterator[Connection]:
    """Give a connection that is thrown away if it failed: no word is waited for at its end."""
    with gevent.Timeout(limits.transaction, late):
        connection = engine.connect()
    try:
        yield connection
    except BaseException:
        connection.invalidate()
        raise
    finally:
        connection.close()


def changes(engine: Engine, channel: str, limits: Limits) -> Iterator[None]:
    """Yield for each change, for ever. Raises StoreError when the database is gone."""
    late = StoreError("The database does not answer in time.")
    try:
        with _connected(engine, limits, late) as connection:
            if engine.dialect.name == "postgresql":
                driver = connection.execution_options(
                    isolation_level="AUTOCOMMIT"
                ).connection.driver_connection
                assert driver is not None  # noqa: S101 - for the type checker
                with gevent.Timeout(limits.transaction, late):
                    connection.execute(text(f"LISTEN {channel}"))
                while True:
                    for _ in driver.notifies(timeout=limits.look):
                        yield
                    # a frozen path looks like a quiet one
                    with gevent.Timeout(limits.transaction, late):
                        driver.execute("SELECT 1")
            driver, seen = connection.connection.driver_connection, -1
            while driver is not None:
                (version,) = driver.execute("PRAGMA data_version").fetchone()
                if version != seen:
                    seen = version
                    yield
                gevent.sleep(LOOK_EVERY)
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(f"The database is gone ({type(error).__name__}).") from None
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("psycopg", "sqlite3"):
            raise StoreError(f"The database is gone ({type(error).__name__}).") from None
        raise
