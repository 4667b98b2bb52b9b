"""The database's clock: the one that all workers who share a store go by."""

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
"""Seconds."""

SLOW_ANSWER = 1.0
"""Seconds; an answer that took longer says too little about the time."""


class database_now(FunctionElement[float]):
    """When the statement is carried out, in seconds since 1970, by the database's clock."""

    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


class Clock:
    """Seconds since 1970 by the database's clock; between two looks at it, time passes steadily.

    ask: returns the database's time; may raise StoreError. steady: a clock that never jumps.
    """

    def __init__(
        self, ask: Callable[[], float], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._steady = steady
        self._ahead: float | None = None
        self._looked = 0.0
        self._has_jumped = False

    def __call__(self) -> float:
        """Return the time. Raises StoreError only if it was never known."""
        if self._ahead is None:
            self._look()
        elif self._steady() - self._looked > ASK_EVERY:
            with suppress(StoreError):
                self._look()
        return self._steady() + (self._ahead or 0.0)

    def has_jumped(self) -> bool:
        """Look at the clock; tell whether it has jumped since this was last asked.

        Raises StoreError.
        """
        self._look()
        has_jumped, self._has_jumped = self._has_jumped, False
        return has_jumped

    def _look(self) -> None:
        begun = self._looked = self._steady()
        at = self._ask()
        ended = self._steady()
        before = self._ahead
        if before is not None and ended - begun > SLOW_ANSWER:
            return
        self._ahead = at - (begun + ended) / 2
        if before is not None and abs(self._ahead - before) > JUMP:
            self._has_jumped = True
