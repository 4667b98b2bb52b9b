"""Keeps the dates of what waits right, and skips call windows that come too late.

docs/delivery-rules.md, rules 5 and 8.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from .cleanup import Cleanup
from .store import Store

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks."""


class Upkeep:
    """Looks after the notices that wait, beside one courier.

    popup_ttl: seconds after which a call window comes too late, 0 never. now, has_jumped,
    has_settled: see Clock. looked_at: when it looked last, seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        popup_ttl: float,
        now: Callable[[], float],
        has_jumped: Callable[[], bool],
        has_settled: Callable[[], bool],
    ) -> None:
        self.looked_at = 0.0
        self._cleanup = Cleanup(store)
        self._popup_ttl = popup_ttl
        self._now = now
        self._has_jumped = has_jumped
        self._has_settled = has_settled

    def look(self) -> None:
        """Do what is to be done, at most once a second. Raises StoreError."""
        now = self._now()
        # 0 <=: after a jump back of the clock, the last look lies ahead
        if 0 <= now - self.looked_at < LOOK_EVERY:
            return
        self.looked_at = now

        if self._has_jumped():
            log.warning("clock_jumped")
            now = self._now()
            self._cleanup.try_all_now(now)
        elif self._has_settled():
            # what other workers, or we, planned by the old time after the jump was noticed
            self._cleanup.redate(now)
        self._cleanup.fix_dates(now)

        if not self._popup_ttl:
            return
        skipped = self._cleanup.skip_stale(now, self._popup_ttl)
        if skipped:
            log.warning("skipped", notices=skipped, reason="call windows older than POPUP_TTL")
