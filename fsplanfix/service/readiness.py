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

LOOK_OVER_EVERY = 4.0
REST = 30
"""Seconds between two looks for damage in a store's file, and how many times as long as a look
took: it is noticed within 5 s in a store of 60 MB, within a minute in one of a gigabyte.
"""

AT_MOST = 30.0
"""Seconds that a step of the pipeline or the courier takes at the most, waits included."""


class Readiness:
    """courier: None where another process sends. steady: a clock that never jumps, in seconds."""

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
        while True:
            with suppress(StoreError):
                self._store.facts.swap("last_readiness_check", str(int(time.time())))
            gevent.sleep(PROVE_EVERY)

    def look_over(self) -> None:
        """Look for damage in the store's file again and again."""
        while True:
            begun = self._steady()
            self._store.look_over()
            gevent.sleep(max(LOOK_OVER_EVERY, (self._steady() - begun) * REST))

    def store_works(self) -> bool:
        """Tell whether the store took what it was given last, and its file is sound."""
        return self._store.is_working

    def pipeline_gets_on(self) -> bool:
        """Tell whether events are taken in. To ask a store again that is away is getting on."""
        oldest = self._steady() - AT_MOST
        return all(
            line.at_work_since is None or line.at_work_since > oldest for line in self._pipelines
        )

    def courier_gets_on(self) -> bool:
        """Tell whether what is due is looked for."""
        return self._courier is None or self._courier.looked_at > self._steady() - AT_MOST

    def gets_on(self) -> bool:
        """Tell whether a restart is not called for: one would not help against a store away."""
        return self.pipeline_gets_on() and self.courier_gets_on()
