"""How long a call waits until our own history says who talked with its client last.

A store of a million calls of thirty days, of 40,000 clients, three in four answered by one of two
employees. PostgreSQL works in other processes; SQLite in this one.
"""

from __future__ import annotations

import random
import statistics
import time

import psycopg
from sqlalchemy import text

from fsplanfix.outbox.last_talk import DAY, LastTalk
from fsplanfix.outbox.store import Store

CALLS = 1_000_000
CLIENTS = 40_000
DAYS = 30
AT_ONCE = 20_000
"""Calls that are written at a time."""

TURNS = 500
FIRST_CLIENT = 79160000000
PATIENCE = 5.0
"""Seconds after which an answer would be none."""

_NUMBERED = """
WITH RECURSIVE numbered(n) AS (
    SELECT CAST(:first AS INTEGER) UNION ALL SELECT n + 1 FROM numbered WHERE n < :last
)
"""
_CALLS = f"""
INSERT INTO calls (callid, began, direction, phone, line, name, name_folded, result, answered_by,
                   waited, talked, recordings, closed)
{_NUMBERED}
SELECT 'bench-' || n, :began + n * :apart, 'in', CAST({FIRST_CLIENT} + n % {CLIENTS} AS TEXT),
       '74950000001', '', '', 'answered', '101', 8, 60, 1, :began + n * :apart + 68
FROM numbered
"""  # noqa: S608 - made of our own constants
_SHARES = f"""
INSERT INTO shares (callid, ext, place, began, direction, status, talked)
{_NUMBERED}
SELECT 'bench-' || n, :ext, :place, :began + n * :apart, 'in',
       CASE WHEN n % 4 = 3 OR :place > 0 THEN :other ELSE 'Success' END, 60
FROM numbered
"""  # noqa: S608 - made of our own constants


class Million:
    """A store with so many calls."""

    def __init__(self, url: str, count: int = CALLS) -> None:
        self._random = random.Random(1)  # noqa: S311 - the same clients each time
        self._clients = min(CLIENTS, count)
        self._store = Store(url)
        self._last_talk = LastTalk(self._store, DAYS)
        span = DAYS * DAY
        values = {"began": time.time() - span, "apart": span / count, "other": "Canceled"}
        # a statement must end within the store's time limits
        for first in range(0, count, AT_ONCE):
            values |= {"first": first, "last": min(first + AT_ONCE, count) - 1}
            with self._store.transaction() as connection:
                connection.execute(text(_CALLS), values)
                for place, ext in enumerate(("101", "102")):
                    connection.execute(text(_SHARES), {**values, "place": place, "ext": ext})
        if url.startswith("postgresql"):
            with psycopg.connect(url, autocommit=True) as server:
                server.execute("VACUUM ANALYZE")  # as autovacuum does within a minute

    def find(self) -> float:
        """Return the seconds an answer takes, the median of TURNS clients.

        Raises RuntimeError if somebody is found who did not talk with them.
        """
        taken, found = [], set()
        for _ in range(TURNS):
            phone = str(FIRST_CLIENT + self._random.randrange(self._clients))
            begun = time.perf_counter()
            found.add(self._last_talk.find(phone, PATIENCE))
            taken.append(time.perf_counter() - begun)
        # a client who was never answered has nobody
        if not {"101"} <= found <= {"101", ""}:
            raise RuntimeError(f"found {found}")
        return statistics.median(taken)

    def close(self) -> None:
        """Close the store."""
        self._store.close()
