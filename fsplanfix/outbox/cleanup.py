"""Looking after a store while it is in use: little by little, so that nobody has to wait for it."""

from __future__ import annotations

import gevent
import structlog
from sqlalchemy import Delete, Update, and_, delete, exists, select, update

from ..errors import StoreError
from .queue import CLOCK_JUMP, NOW, is_free
from .schedule import JITTER, LONGEST_RETRY_PAUSE
from .schema import State, cores, facts, heard, is_waiting, is_window, journal, notices, open_calls
from .store import Store

log = structlog.get_logger(__name__)

DELETE_EVERY = 3600.0
"""Seconds; a tenth of the time things are kept, if that is less."""

DAY = 86400.0

ROWS_AT_ONCE = 500
"""Rows in one transaction: a long one would hold everybody up."""

TOO_LATE = "too late to show"
"""What stands in place of Planfix's answer to a call window that was skipped.

See docs/delivery-rules.md, rule 5.
"""


class Upkeep:
    """Raises StoreError if the database does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def skip_stale(self, now: float, popup_ttl: float) -> int:
        """Skip the windows older than `popup_ttl` seconds (rule 5); return how many.

        Also those that wait for something.
        """
        late = and_(is_window(notices), notices.c.created < now - popup_ttl, is_free)
        some = update(notices).where(
            notices.c.id.in_(select(notices.c.id).where(late).limit(ROWS_AT_ONCE))
        )
        return self._in_pieces(some.values(state=State.SKIPPED, settled=NOW, answer=TOO_LATE), now)

    def fix_dates(self, now: float) -> None:
        """Bring back what is due further ahead than is ever planned.

        It was written before a clock jumped back.
        """
        farthest = now + LONGEST_RETRY_PAUSE * (1 + JITTER) + CLOCK_JUMP
        misdated = (
            update(notices).where(is_waiting(notices), notices.c.due > farthest).values(due=NOW)
        )
        with self._store.transaction() as connection:
            connection.execute(misdated, {"now": now})

    def try_all_now(self, now: float) -> None:
        """Have everything tried now: when it was to be tried was said by a clock that is gone.

        Also what Planfix asked us to wait for: it will say so again.
        """
        later = and_(is_waiting(notices), notices.c.due > NOW)
        some = update(notices).where(
            notices.c.id.in_(select(notices.c.id).where(later).limit(ROWS_AT_ONCE))
        )
        self._in_pieces(some.values(due=NOW), now)
        with self._store.transaction() as connection:
            connection.execute(delete(facts).where(facts.c.name == "hold_until"))

    def clean(self, before: float) -> int:
        """Delete what was settled or over before a moment; return how much."""
        of_no_use = notices.c.state.in_((State.DONE, State.SKIPPED, State.SHADOW))
        has_calls = exists().where(open_calls.c.core == cores.c.uuid, open_calls.c.closed == 0)
        long_gone = delete(cores).where(cores.c.heard < NOW, cores.c.uuid != "", ~has_calls)
        self._in_pieces(long_gone, before)
        return sum(
            self._in_pieces(
                delete(table).where(key.in_(select(key).where(old).limit(ROWS_AT_ONCE))), before
            )
            for table, key, old in (
                (
                    notices,
                    notices.c.id,
                    and_(notices.c.settled > 0, notices.c.settled < NOW, of_no_use),
                ),
                (
                    open_calls,
                    open_calls.c.callid,
                    and_(open_calls.c.closed > 0, open_calls.c.closed < NOW),
                ),
                (journal, journal.c.id, journal.c.at < NOW),
                (heard, heard.c.callid, heard.c.at < NOW),
            )
        )

    def keep_deleting_old(self, keep_days: float) -> None:
        """Delete what was settled or over `keep_days` ago, again and again, for ever."""
        kept = keep_days * DAY
        while True:
            try:
                rows = self.clean(self._store.now() - kept)
                log.info("old_rows_deleted", rows=rows)
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))
            gevent.sleep(max(min(kept / 10, DELETE_EVERY), 1.0))

    def _in_pieces(self, statement: Update | Delete, now: float) -> int:
        """Carry out a statement until it finds less than a piece; return how many rows it found."""
        count, piece = 0, ROWS_AT_ONCE
        while piece == ROWS_AT_ONCE:
            with self._store.transaction() as connection:
                piece = connection.execute(statement, {"now": now}).rowcount
            count += piece
            gevent.sleep(0)
        return count
