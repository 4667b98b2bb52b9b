"""A database whose own clock jumps."""

from __future__ import annotations

import sqlite3
import time

import psycopg
from sqlalchemy import event

from fsplanfix.outbox.store import Store


class DatabaseClock:
    """The clock of the database at an address, and the steady one of its workers.

    Both are moved at will. Workers that open the database before have the right time.
    """

    def __init__(self, store_url: str) -> None:
        self._url = store_url
        self._shift = 0.0
        self._passed = 0.0
        if store_url.startswith("postgresql"):
            prepare(store_url)

    def worker(self) -> Store:
        """Open the database as one more worker does."""
        store = Store(self._url)
        if store.engine.dialect.name == "sqlite":
            event.listen(store.engine, "connect", self._replace)
            store.engine.dispose()
            store.now._ask = lambda: time.time() + self._shift
        store.now._steady = lambda: time.monotonic() + self._passed
        return store

    def _replace(self, driver: sqlite3.Connection, _: object) -> None:
        driver.create_function("julianday", 1, self._julian_day)

    def _julian_day(self, _: str) -> float:
        return 2440587.5 + (time.time() + self._shift) / 86400

    def jump(self, seconds: float) -> None:
        """Let the database's clock jump."""
        self._shift += seconds
        if self._url.startswith("postgresql"):
            set_off(self._url, self._shift)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, for the database and its workers."""
        self._passed += seconds
        self.jump(seconds)


def prepare(address: str) -> None:
    """Have a PostgreSQL database ask a table how far off its clock is."""
    with psycopg.connect(address, autocommit=True) as connection:
        name = connection.info.dbname
        for statement in (
            "CREATE SCHEMA shifted",
            "CREATE TABLE shifted.clock (seconds double precision)",
            "INSERT INTO shifted.clock VALUES (0)",
            "CREATE FUNCTION shifted.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS "
            "'SELECT pg_catalog.statement_timestamp() + seconds * interval ''1 s'' FROM shifted.clock'",
        ):
            connection.execute(statement)
        # pg_catalog comes first unless it is named
        connection.execute(
            psycopg.sql.SQL(
                "ALTER DATABASE {} SET search_path = public, shifted, pg_catalog"
            ).format(psycopg.sql.Identifier(name))
        )


def set_off(address: str, seconds: float) -> None:
    """Set how far off the clock of a prepared database is."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("UPDATE shifted.clock SET seconds = %s", (seconds,))
