"""Keeps the dates of what waits right, and skips call windows that come too late.

docs/delivery-rules.md, rules 5 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from .cleanup import Cleanup
from .store import Store

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks."""


class Upkeep:
    """Looks after the notices that wait, beside one courier.

    now: the store's clock, seconds since 1970. has_jumped: tells whether that clock has jumped
    since the last call. has_settled: tells once, a while after a jump or the start, that no worker
    goes by the time before it. popup_ttls: seconds after which a call window of each account comes
    too late, 0 never. looked_at: when it looked last, seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        now: Callable[[], float],
        has_jumped: Callable[[], bool] = lambda: False,
        has_settled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.looked_at = 0.0
        self.popup_ttls: Mapping[str, float] = {}
        self._cleanup = Cleanup(store)
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

        skipped = self._skip_stale(now)
        if skipped:
            log.warning("skipped", notices=skipped, reason="call windows older than POPUP_TTL")

    def _skip_stale(self, now: float) -> int:
        by_ttl: dict[float, list[str]] = {}
        for account, ttl in self.popup_ttls.items():
            by_ttl.setdefault(ttl, []).append(account)

        skip, is_for_all = self._cleanup.skip_stale, len(by_ttl) == 1
        return sum(
            skip(now, ttl, None if is_for_all else accounts)
            for ttl, accounts in by_ttl.items()
            if ttl
        )
