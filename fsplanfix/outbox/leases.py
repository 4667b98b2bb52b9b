"""The leases of the notices that are being sent: no other courier takes them meanwhile."""

from __future__ import annotations

from uuid import uuid4

import gevent
import structlog

from ..errors import StoreError
from .queue import LEASE, Queue

log = structlog.get_logger(__name__)

RENEW_EVERY = LEASE / 3


class Leases:
    """What one courier has claimed. owner: its name in the store. held: the notices' ids."""

    def __init__(self, queue: Queue) -> None:
        self.owner = uuid4().hex
        self.held: set[int] = set()
        self._queue = queue

    def keep_renewing(self) -> None:
        """Renew the leases of what is held, for ever."""
        while True:
            gevent.sleep(RENEW_EVERY)
            try:
                if self.held:
                    self._queue.renew(list(self.held), self.owner)
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
