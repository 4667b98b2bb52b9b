"""Reads a store for people, beside the work: no reading holds up a call.

SQLite reads where it is called, and Python runs one thread at a time, so another process reads
(reading.py), with a connection that neither waits for writers nor keeps them waiting. In a thread
of this process the worst delay of a call's first request was 40 ms longer (docs/performance.md).
PostgreSQL reads in its server, and only this greenlet waits.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import gevent
from gevent import subprocess
from gevent.lock import BoundedSemaphore
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from ..errors import StoreError
from .prepared import driver_of
from .store import Store
from .texts import clean

PROGRAM = Path(__file__).with_name("reading.py")

LOOK_EVERY = 0.2
"""Seconds between two looks whether somebody still waits for what is read."""

IDLE = 60.0
"""Seconds without a question after which the other process is ended."""

MOST_AT_ONCE = 0.001
"""Seconds that rows are read before events, notices and answers get their turn."""

HIGHEST_PRIORITY = 2
"""An idle watcher at this priority runs after one poll of sockets and timers, even under load."""

NOBODY_WAITS = "Nobody waits for this any more."

IsWanted = Callable[[], bool]
"""Tells whether somebody still waits for what is read."""


class Reader:
    """Reads a store. One reading at a time: however many ask, one core at most is busy with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._other = _OtherProcess()

    def rows(
        self,
        query: Select[Any],
        values: Mapping[str, Any] | None = None,
        is_wanted: IsWanted = lambda: True,
    ) -> Sequence[Any]:
        """Return the rows of a query; their values are attributes, named as the columns.

        query: one that is made once and kept, with parameters that `values` names: to compile one
        holds everything up for 2 ms. is_wanted: asked while the database reads; once it returns
        False, the reading ends. Raises StoreError.
        """
        engine = self._store.engine
        file = engine.url.database or ""
        if engine.dialect.name == "sqlite" and file not in ("", ":memory:"):
            return self._read_file(Path(file).absolute(), query, values or {}, is_wanted)
        return self._ask_server(query, values or {}, is_wanted)

    def close(self) -> None:
        """End the other process; the next question starts another."""
        self._other.end()

    def _read_file(
        self, path: Path, query: Select[Any], values: Mapping[str, Any], is_wanted: IsWanted
    ) -> Sequence[Any]:
        statement, own = _compiled(query)
        given = {**own, **values}
        for name, value in given.items():
            if isinstance(value, str):
                given[name] = clean(value)

        asked = {"file": path.as_uri(), "statement": statement, "values": given}
        return _rows(query, self._other.ask(asked, is_wanted))

    def _ask_server(
        self, query: Select[Any], values: Mapping[str, Any], is_wanted: IsWanted
    ) -> Sequence[Any]:
        stop: list[Callable[[], None]] = []

        def ask() -> Sequence[Any]:
            with self._store.transaction() as connection:
                driver = driver_of(connection)
                if hasattr(driver, "cancel_safe"):
                    stop.append(driver.cancel_safe)
                return connection.execute(query, values).all()

        asking = gevent.spawn(_caught, ask)
        while not asking.ready():
            asking.join(LOOK_EVERY)
            if not asking.ready() and stop and not is_wanted():
                stop.pop()()
        return _rows(query, _found(asking))


def _caught(work: Callable[[], Sequence[Any]]) -> Sequence[Any] | StoreError:
    """Return what `work` returns, or its error: gevent prints one that ends a greenlet."""
    try:
        return work()
    except StoreError as error:
        return error


def _found(work: gevent.Greenlet[..., Sequence[Any] | StoreError]) -> Sequence[Any]:
    """Return what a greenlet has found. Raises the StoreError that it met."""
    found = work.get()
    if isinstance(found, StoreError):
        raise found
    return found


@lru_cache(maxsize=256)
def _compiled(query: Select[Any]) -> tuple[str, Mapping[str, Any]]:
    """Return a query for SQLite, and the values that are its own."""
    compiled = query.compile(dialect=sqlite.dialect(paramstyle="named"))
    return str(compiled), dict(compiled.params)


def _rows(query: Select[Any], found: Sequence[Any]) -> Sequence[Any]:
    names = [str(column.key) for column in query.selected_columns]
    return [_Row(names, row) for row in found]


class _Row:
    """A row, with its values as attributes."""

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        self.__dict__.update(zip(names, values, strict=True))


class _OtherProcess:
    """The process that reads an SQLite file. It is started when it is needed."""

    def __init__(self) -> None:
        self._process: Any = None
        self._lock = BoundedSemaphore()
        self._ender: gevent.Greenlet[..., None] | None = None

    def ask(self, asked: Mapping[str, Any], is_wanted: IsWanted) -> list[Any]:
        """Return the rows of a query. Raises StoreError."""
        with self._lock:
            if not is_wanted():
                raise StoreError(NOBODY_WAITS)

            if self._ender is not None:
                self._ender.kill(block=False)
            reading = gevent.spawn(_caught, lambda: self._read(json.dumps(asked)))
            try:
                while not reading.ready():
                    reading.join(LOOK_EVERY)
                    if not reading.ready() and not is_wanted():
                        raise StoreError(NOBODY_WAITS)
            except BaseException:
                # what it would still answer belongs to nobody
                reading.kill()
                self.end()
                raise

            self._ender = gevent.spawn_later(IDLE, self.end)
            return list(_found(reading))

    def _read(self, line: str) -> list[Any]:
        """Send a question and return the rows of the answer. Other greenlets run meanwhile."""
        try:
            if self._process is None or self._process.poll() is not None:
                self._start()
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            head = json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            self.end()
            raise StoreError(f"The database cannot be read: {error}.") from None
        if "error" in head:
            raise StoreError(f"The database does not answer as it should: {head['error']}.")

        rows = []
        begun = time.perf_counter()
        for _ in range(head["rows"]):
            rows.append(json.loads(self._process.stdout.readline()))
            if time.perf_counter() - begun > MOST_AT_ONCE:
                gevent.idle(HIGHEST_PRIORITY)
                begun = time.perf_counter()
        return rows

    def _start(self) -> None:
        # -I -S: nothing of the environment and no packages
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def end(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                process.kill()
            # what was not sent yet cannot be sent to a process that somebody has killed
            with suppress(OSError):
                process.stdin.close()
            process.stdout.close()
            process.wait()
