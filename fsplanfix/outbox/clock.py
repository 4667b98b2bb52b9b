"""The database's clock, which all workers that share a store go by.

Their own clocks may differ. With 20 s between them, two workers sent every notice in flight twice,
as a lease of 12 s was over by one clock and not by the other (docs/delivery-rules.md, rule 8).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..errors import StoreError

JUMP = 2.0
"""Seconds by which a clock must be off before that counts as a jump."""

ASK_EVERY = 5.0
"""Seconds between two questions to the database."""

SLOW_ANSWER = 1.0
"""Seconds; an answer that took longer is not exact enough to set the clock by."""


SETTLES_IN = 12.0
"""Seconds after a jump in which a worker may still write times by the clock of before.

That is the longest transaction (Limits in time_limits.py).
"""


class database_now(FunctionElement[float]):  # noqa: N801 - a function in SQL
    """SQL for the time of the statement, in seconds since 1970, by the database's clock."""

    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:
    # 2440587.5 is the Julian day of 1970-01-01 00:00
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:
    # not now(): that is when the transaction began
    return "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


class Clock:
    """Seconds since 1970 by the database's clock.

    The database is asked now and then; between two answers a steady clock counts on.

    ask: returns the database's time; may raise StoreError. steady: a clock that never jumps, in
    seconds.
    """

    def __init__(
        self, ask: Callable[[], float], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._steady = steady
        self._ahead: float | None = None
        self._looked = 0.0
        self._has_jumped = False
        self._jumped_at: float | None = None
        self._has_settled = True

    def __call__(self) -> float:
        """Return the time. Raises StoreError only if the database has not answered once yet."""
        if self._ahead is None:
            self._look()
        elif self._steady() - self._looked > ASK_EVERY:
            with suppress(StoreError):
                self._look()

        return self._steady() + (self._ahead or 0.0)

    def has_jumped(self) -> bool:
        """Ask the database; tell whether its clock has jumped since the last call of this.

        Raises StoreError.
        """
        self._look()

        has_jumped, self._has_jumped = self._has_jumped, False
        return has_jumped

    def has_settled(self) -> bool:
        """Tell once, some time after a jump or the beginning, that nobody goes by the old time."""
        if self._has_settled or not self.steady_for(SETTLES_IN):
            return False

        self._has_settled = True
        return True

    def steady_for(self, seconds: float) -> bool:
        """Tell whether no jump was noticed within so many seconds."""
        return self._jumped_at is None or self._steady() - self._jumped_at > seconds

    def begin(self) -> None:
        """Begin like after a jump: one shortly before the first look cannot be seen."""
        self._jumped_at, self._has_settled = self._steady(), False

    def _look(self) -> None:
        """Ask the database for the time, and keep how far it is ahead of the steady clock."""
        begun = self._looked = self._steady()
        at = self._ask()
        ended = self._steady()

        # the database looked at its clock somewhere between question and answer
        before, ahead = self._ahead, at - (begun + ended) / 2
        unsure = (ended - begun) / 2
        if before is None or ended - begun <= SLOW_ANSWER:
            self._ahead, unsure = ahead, 0.0

        # What is larger than an answer is slow has happened all the same. On a busy machine, where
        # each answer took more than a second, a worker missed a jump of 300 s for 8 s.
        if before is not None and abs(ahead - before) > JUMP + unsure:
            self._ahead = ahead
            self._has_jumped = True
            self._jumped_at, self._has_settled = self._steady(), False
