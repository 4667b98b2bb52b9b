"""Whether the service does its work: asked by load balancers (`/health/ready`) and by systemd."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import gevent

from ..errors import StoreError
from ..outbox.store import Store
from ..planfix.courier import Courier
from .pipeline import Pipeline

PROVE_EVERY = 4.0
"""Seconds between two writes that prove the store: a full disk shows only in a write."""

GLANCE_EVERY = 4.0
"""Seconds between two looks for the damage to the store's file that shows at once."""

LOOK_OVER_EVERY = 4.0
"""Seconds at least between two searches for damage in the whole of the store's file."""

REST = 30
"""How many times as long as a search took the pause after it is.

Damage anywhere is noticed within 5 s in a store of 60 MB, within a minute in one of a gigabyte.
"""

LONGEST_STEP = 30.0
"""Seconds that the pipeline or the courier may take without an answer of the store."""


class Readiness:
    """Knows whether the store works, and whether pipelines and courier get on.

    courier: None where another process sends. steady: a clock that never jumps, in seconds.
    """

    def __init__(
        self,
        store: Store,
        pipelines: Sequence[Pipeline],
        courier: Courier | None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._pipelines = pipelines
        self._courier = courier
        self._steady = steady

    def prove(self) -> None:
        """Write to the store again and again, so that `store_works` is no older than 5 s."""
        # `/health/ready` answers from this and does not ask the store itself
        while True:
            with suppress(StoreError):
                self._store.facts.set("last_readiness_check", str(int(time.time())))
            gevent.sleep(PROVE_EVERY)

    def glance(self) -> None:
        """Look again and again for the damage to the store's file that shows at once."""
        while True:
            self._store.glance()
            gevent.sleep(GLANCE_EVERY)

    def look_over(self) -> None:
        """Search the whole of the store's file for damage again and again."""
        pause = LOOK_OVER_EVERY
        while True:
            # not at once: a start is in a hurry, and a search takes a core for seconds
            gevent.sleep(pause)
            begun = self._steady()
            self._store.look_over()
            pause = max(LOOK_OVER_EVERY, (self._steady() - begun) * REST)

    def store_works(self) -> bool:
        """Return whether the last write succeeded and the store's file is sound."""
        return self._store.is_working

    def pipeline_gets_on(self) -> bool:
        """Return whether events are processed and stored."""
        return all(self._is_recent(p.progress.busy_since) for p in self._pipelines)

    def courier_gets_on(self) -> bool:
        """Return whether the courier finds what is due."""
        return self._courier is None or self._is_recent(self._courier.got_on_at)

    def gets_on(self) -> bool:
        """Return whether no restart is needed; one does not help while the store is away."""
        return not self.store_works() or (self.pipeline_gets_on() and self.courier_gets_on())

    def _is_recent(self, at: float | None) -> bool:
        """Tell whether that was no longer ago than a step may take; None: there is no step."""
        return at is None or at > self._steady() - LONGEST_STEP
