"""Notices that another process has written to the store: at once on PostgreSQL, soon on SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StoreError

LOOK_EVERY = 0.1
"""Seconds between two looks at SQLite's data_version.

Every commit of another connection raises that counter.
"""


def changes(engine: Engine, channel: str) -> Iterator[None]:
    """Yield for each change, for ever. Raises StoreError when the database is gone."""
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                driver = connection.execution_options(
                    isolation_level="AUTOCOMMIT"
                ).connection.driver_connection
                assert driver is not None  # noqa: S101 - for the type checker
                connection.execute(text(f"LISTEN {channel}"))
                for _ in driver.notifies():
                    yield
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
