"""The leases of the notices that are being sent: no other courier takes them meanwhile.

docs/delivery-rules.md, rule 8.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from uuid import uuid4

import gevent
import structlog

from ..errors import StoreError
from .due import LEASE
from .queue import Queue

log = structlog.get_logger(__name__)

RENEW_EVERY = LEASE / 3
"""Seconds; one renewal may fail without the lease ending."""

SURE = LEASE * 2 / 3
"""Seconds from asking for a lease for which nobody else can have it, with some to spare."""

RENEW_AGAIN_AFTER = 0.5
"""Seconds after a renewal that failed. One waits for a frozen connection for LEASE / 3."""


class Leases:
    """The notices that one courier has claimed.

    owner: the courier's name in the store.
    """

    def __init__(self, queue: Queue, now: Callable[[], float] = time.monotonic) -> None:
        self.owner = uuid4().hex
        self._queue = queue
        self._now = now
        # until when a lease is surely ours (monotonic seconds), by the notice's id
        self._sure_until: dict[int, float] = {}

    def __contains__(self, notice: int) -> bool:
        """Return whether a notice, by its id, is held."""
        return notice in self._sure_until

    def is_sure_of(self, notice: int) -> bool:
        """Return whether no other courier can have taken a notice that is held."""
        return self._now() < self._sure_until.get(notice, 0)

    def hold(self, notice: int, asked: float) -> None:
        """Renew a notice's lease from now on. asked: when it was asked for (monotonic seconds)."""
        self._sure_until[notice] = asked + SURE

    def drop(self, notices: Iterable[int]) -> None:
        """Renew the leases of these notices no more."""
        for notice in notices:
            self._sure_until.pop(notice, None)

    def renew(self) -> None:
        """Renew all leases. Raises StoreError."""
        held, asked = list(self._sure_until), self._now()
        if not held:
            return
        renewed = self._queue.renew(held, self.owner)
        for notice in renewed & self._sure_until.keys():
            self._sure_until[notice] = asked + SURE

    def keep_renewing(self) -> None:
        """Renew the leases of the held notices, for ever."""
        pause = RENEW_EVERY
        while True:
            gevent.sleep(pause)

            pause = RENEW_EVERY
            try:
                self.renew()
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
                pause = RENEW_AGAIN_AFTER
