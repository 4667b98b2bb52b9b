"""Reads a store for people, beside the work: no reading holds up a call.

SQLite would read in this process and stop every greenlet meanwhile, so it reads in a thread, with a
connection of its own that only reads: it neither waits for writers nor keeps them waiting.
PostgreSQL reads in its server, and only this greenlet waits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import gevent
from gevent.threadpool import ThreadPool
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from ..errors import StoreError
from .store import Store
from .texts import clean

LOOK_EVERY = 0.2
"""Seconds between two looks whether somebody still waits for what is read."""

NOBODY_WAITS = "Nobody waits for this any more."

IsWanted = Callable[[], bool]
"""Tells whether somebody still waits for what is read."""


class Reader:
    """Reads a store. One reading at a time: however many ask, one core at most is busy with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # not gevent's own pool: there, names of hosts are looked up for requests to Planfix
        self._pool = ThreadPool(1)

    def rows(self, query: Select[Any], is_wanted: IsWanted = lambda: True) -> Sequence[Any]:
        """Return the rows of a query; their values are attributes, named as the columns.

        is_wanted: asked while the database reads; once it returns False, the reading ends. Raises
        StoreError.
        """
        engine = self._store.engine
        file = engine.url.database or ""
        if engine.dialect.name == "sqlite" and file not in ("", ":memory:"):
            return self._read_file(Path(file).absolute(), query, is_wanted)
        return self._ask_server(query, is_wanted)

    def _read_file(self, path: Path, query: Select[Any], is_wanted: IsWanted) -> Sequence[Any]:
        compiled = query.compile(
            dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
        )
        values = {
            name: clean(value) if isinstance(value, str) else value
            for name, value in compiled.params.items()
        }
        reading = _Reading(path, str(compiled), values)
        job = self._pool.spawn(reading.run)
        while not job.ready():
            job.wait(LOOK_EVERY)
            if not job.ready() and not is_wanted():
                reading.stop()

        return _rows(query, job.get() or ())

    def _ask_server(self, query: Select[Any], is_wanted: IsWanted) -> Sequence[Any]:
        stop: list[Callable[[], None]] = []

        def ask() -> Sequence[Any]:
            with self._store.transaction() as connection:
                driver: Any = connection.connection.driver_connection
                if hasattr(driver, "cancel_safe"):
                    stop.append(driver.cancel_safe)
                return connection.execute(query).all()

        asking = gevent.spawn(ask)
        while not asking.ready():
            asking.join(LOOK_EVERY)
            if not asking.ready() and stop and not is_wanted():
                stop.pop()()
        return _rows(query, asking.get())


def _rows(query: Select[Any], found: Sequence[Any]) -> Sequence[Any]:
    names = [str(column.key) for column in query.selected_columns]
    return [_Row(names, row) for row in found]


class _Row:
    """A row, with its values as attributes."""

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        self.__dict__.update(zip(names, values, strict=True))


class _Reading:
    """A query that is run in a thread of its own."""

    def __init__(self, path: Path, statement: str, values: dict[str, Any]) -> None:
        self._path = path
        self._statement = statement
        self._values = values
        self._connection: sqlite3.Connection | None = None
        self._is_stopped = False

    def run(self) -> list[Any]:
        """Return the rows. Raises StoreError. To be called in a thread."""
        try:
            # check_same_thread: `stop` is called in another one
            with closing(
                sqlite3.connect(
                    f"{self._path.as_uri()}?mode=ro", timeout=1, uri=True, check_same_thread=False
                )
            ) as self._connection:
                if self._is_stopped:
                    raise StoreError(NOBODY_WAITS)
                return self._connection.execute(self._statement, self._values).fetchall()
        except sqlite3.Error as error:
            if self._is_stopped:
                raise StoreError(NOBODY_WAITS) from None
            raise StoreError(f"The database does not answer as it should: {error}.") from None
        finally:
            self._connection = None

    def stop(self) -> None:
        """End the reading, now or before it begins."""
        self._is_stopped = True
        connection = self._connection
        if connection is not None:
            # it may just have been closed
            with suppress(sqlite3.Error):
                connection.interrupt()
