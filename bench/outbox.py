"""What it costs to claim the next notice from a store that holds 100,000 undelivered ones, or 100.

Two states: Planfix has just come back and everything is due, each turn settles a notice and claims
the next; or an outage goes on, all of it is due later, and each turn finds nothing. SQLite works in
this process: its CPU time is taken. PostgreSQL works elsewhere: the time until it has answered is
taken.
"""

from __future__ import annotations

import time
from dataclasses import replace

import psycopg
from sqlalchemy import func, update

from fsplanfix.calls.model import Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Outcome, Places, Queued
from fsplanfix.outbox.schema import State, notices
from fsplanfix.outbox.store import Store

from . import traffic

FEW, MANY = 100, 100_000
TURNS = 80
OWNER = "bench"
BEGUN = 1_800_000_000.0


class Full:
    """A store with so many undelivered notices of group calls."""

    def __init__(self, url: str, count: int, outage: bool) -> None:
        self._clock = time.perf_counter if url.startswith("postgresql") else time.process_time
        self._outage = outage
        self._store = Store(url)
        self._queue = Queue(self._store)
        self._claimed: list[Queued] = []
        self._calls = 0
        self._now = BEGUN
        tracker = Tracker(Rules())
        self._call = [
            n
            for _, body in traffic.recorded(traffic.GROUP)
            for n in tracker.feed(SwitchEvent(body))
        ]
        self._add(count)
        if outage:
            later = self._now + 200 + func.abs(notices.c.id % 100)
            with self._store.transaction() as connection:
                connection.execute(update(notices).values(due=later, attempts=9))
        if url.startswith("postgresql"):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE notices")  # as autovacuum does within a minute

    def _add(self, count: int) -> None:
        for _ in range(0, count, 40 * len(self._call)):
            calls = range(self._calls, self._calls + min(40, -(-count // len(self._call))))
            self._calls, self._now = calls.stop, self._now + 1
            some = [replace(notice, callid=f"call-{n}") for n in calls for notice in self._call]
            self._store.save(some, {}, "bench", self._now)

    def turns(self) -> float:
        """Return the seconds one turn takes, the mean of TURNS.

        As many notices as were claimed are added before each.
        """
        if not self._outage:
            self._add(TURNS)
        begun = self._clock()
        for _ in range(TURNS):
            outcomes = [Outcome(queued, State.DONE) for queued in self._claimed]
            self._claimed = self._queue.settle_and_claim(
                outcomes, Places(1), self._now, OWNER
            ).claimed
            if bool(self._claimed) == self._outage:
                raise RuntimeError(f"{len(self._claimed)} claimed")
        return (self._clock() - begun) / TURNS

    def close(self) -> None:
        """Close the store."""
        self._store.close()
