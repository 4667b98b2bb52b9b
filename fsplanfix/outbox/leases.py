"""The leases of the notices that are being sent: no other courier takes them meanwhile.

docs/delivery-rules.md, rule 8.
"""

from __future__ import annotations

from uuid import uuid4

import gevent
import structlog

from ..errors import StoreError
from .due import LEASE
from .queue import Queue

log = structlog.get_logger(__name__)

RENEW_EVERY = LEASE / 3
"""Seconds; one renewal may fail without the lease ending."""

RENEW_AGAIN_AFTER = 0.5
"""Seconds after a renewal that failed. One waits for a frozen connection for LEASE / 3."""


class Leases:
    """The notices that one courier has claimed.

    owner: the courier's name in the store. held: the notices' ids.
    """

    def __init__(self, queue: Queue) -> None:
        self.owner = uuid4().hex
        self.held: set[int] = set()
        self._queue = queue

    def keep_renewing(self) -> None:
        """Renew the leases of the held notices, for ever."""
        pause = RENEW_EVERY
        while True:
            gevent.sleep(pause)

            pause = RENEW_EVERY
            try:
                if self.held:
                    self._queue.renew(list(self.held), self.owner)
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
                pause = RENEW_AGAIN_AFTER
