"""Reads a few rows while a call waits for them: within a time, and without a place in a queue."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
import structlog
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StoreError
from .prepared import driver_of
from .store import Store

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 50
"""Questions of a kind that wait for the store; one more is not asked."""


class QuickRead:
    """A question to the store. what: names it in the log. waiting: how many wait for an answer."""

    def __init__(self, store: Store, query: Select[Any], what: str) -> None:
        self._store = store
        self._query = query
        self._what = what
        self.waiting = 0
        compiled = query.compile(dialect=sqlite.dialect(paramstyle="named"))
        self._statement, self._values = str(compiled), dict(compiled.params)

    def rows(self, values: Mapping[str, Any], seconds: float) -> Sequence[Sequence[Any]]:
        """Return the rows, none if the store does not say within `seconds`. Never raises."""
        if self._store.engine.dialect.name == "sqlite":
            return self._read_file(values)
        if self.waiting >= MOST_AT_ONCE:
            return []

        asking = gevent.spawn(self._ask_server, values)
        asking.join(max(seconds, 0))
        # a question that is late ends by itself: one that is killed would break its connection
        return asking.value or []

    def _read_file(self, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        # in this process and without a transaction of its own: 0.05 ms at a million calls, while
        # Reader's thread takes 1.2 ms (docs/performance.md)
        try:
            with self._store.connection() as connection:
                rows: list[Any] = (
                    driver_of(connection)
                    .execute(self._statement, {**self._values, **values})
                    .fetchall()
                )
                return rows
        except (sqlite3.Error, SQLAlchemyError) as error:
            log.warning("not_read", what=self._what, problem=str(error)[:200])
            return []

    def _ask_server(self, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        self.waiting += 1
        try:
            with self._store.transaction() as connection:
                return [tuple(row) for row in connection.execute(self._query, dict(values))]
        except StoreError as error:
            log.warning("not_read", what=self._what, problem=str(error))
            return []
        finally:
            self.waiting -= 1
