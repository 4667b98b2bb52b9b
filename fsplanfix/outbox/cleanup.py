"""Keeps a store clean while it is in use, in small pieces so that no worker waits for it.

docs/delivery-rules.md, rules 5 and 9.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import gevent
import structlog
from sqlalchemy import Delete, Update, and_, delete, exists, literal, select, update

from ..errors import StoreError
from .call_rows import forget_calls
from .due import CLOCK_JUMP, NOW, expected_time, is_free, later_than
from .facts import is_fact
from .pauses import HOLD_UNTIL
from .schedule import JITTER, LONGEST_RETRY_PAUSE
from .schema import (
    State,
    calls,
    cores,
    facts,
    heard,
    is_window,
    journal,
    notices,
    open_calls,
)
from .store import Store

log = structlog.get_logger(__name__)

DELETE_EVERY = 3600.0
"""Seconds between two rounds; a tenth of the time rows are kept, if that is less."""

DAY = 86400.0

ROWS_AT_ONCE = 500
"""Rows in one transaction: a long one would keep every other writer waiting."""

TOO_LATE = "too late to show"
"""The answer that is stored for a skipped call window (docs/delivery-rules.md, rule 5)."""


class Cleanup:
    """Skips, redates and deletes notices. Raises StoreError if the database does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def skip_stale(
        self, now: float, popup_ttl: float, accounts: Collection[str] | None = None
    ) -> int:
        """Skip the call windows older than `popup_ttl` seconds (rule 5); return how many.

        now: seconds since 1970. accounts: whose, None for those of all.
        """
        # not only those that are due: one that waits for another notice would come later still
        late = and_(is_window(notices), notices.c.created < now - popup_ttl, is_free)
        if accounts is not None:
            late = and_(late, notices.c.account.in_(accounts))
        some = update(notices).where(
            notices.c.id.in_(select(notices.c.id).where(late).limit(ROWS_AT_ONCE))
        )
        skip = some.values(state=State.SKIPPED, settled=NOW, answer=TOO_LATE)
        return self._in_pieces(skip, now, b_expected=expected_time(self._store))

    def fix_dates(self, now: float) -> None:
        """Make notices due now that are due further ahead than is ever planned.

        Their times were written before the clock jumped back. now: seconds since 1970.
        """
        farthest = now + LONGEST_RETRY_PAUSE * (1 + JITTER) + CLOCK_JUMP
        misdated = (
            update(notices).where(notices.c.id.in_(later_than(literal(farthest)))).values(due=NOW)
        )
        with self._store.transaction() as connection:
            connection.execute(misdated, {"now": now})

    def try_all_now(self, now: float) -> None:
        """Make every waiting notice due now, since the clock that planned it has jumped.

        now: seconds since 1970.
        """
        self.redate(now)

        # if Planfix still wants us to wait (Retry-After), it says so again
        with self._store.transaction() as connection:
            connection.execute(delete(facts).where(is_fact(HOLD_UNTIL)))

    def redate(self, now: float) -> None:
        """Make every waiting notice due now. now: seconds since 1970."""
        # a jump back of less than 7 minutes is too small for fix_dates to see
        some = update(notices).where(notices.c.id.in_(later_than(NOW).limit(ROWS_AT_ONCE)))
        self._in_pieces(some.values(due=NOW), now)

    def clean(self, before: float) -> int:
        """Delete the rows of everything that ended before a moment; return how many.

        before: seconds since 1970. Runs of FreeSWITCH are deleted too, and not counted.
        """
        # not REJECTED: those are for a person to send again or drop (rule 4)
        is_finished = notices.c.state.in_((State.DONE, State.SKIPPED, State.SHADOW))

        # the row without a UUID is an address's last sign of life from before version 6
        has_calls = exists().where(open_calls.c.core == cores.c.uuid, open_calls.c.closed == 0)
        long_gone = delete(cores).where(cores.c.heard < NOW, cores.c.uuid != "", ~has_calls)
        self._in_pieces(long_gone, before)

        # settled and closed are 0 while a notice waits or a call is open
        old_notices = and_(notices.c.settled > 0, notices.c.settled < NOW, is_finished)
        old_calls = and_(open_calls.c.closed > 0, open_calls.c.closed < NOW)

        count = self._forget_calls(before)
        for table, key, is_old in (
            (notices, notices.c.id, old_notices),
            (open_calls, open_calls.c.callid, old_calls),
            (journal, journal.c.id, journal.c.at < NOW),
            (heard, heard.c.callid, heard.c.at < NOW),
        ):
            some = select(key).where(is_old).limit(ROWS_AT_ONCE)
            count += self._in_pieces(delete(table).where(key.in_(some)), before)
        return count

    def _forget_calls(self, before: float) -> int:
        """Delete the rows of the calls that were closed before a moment; return how many rows."""
        old = select(calls.c.callid).where(calls.c.closed < before).limit(ROWS_AT_ONCE)
        count = 0
        callids: Sequence[str] = [""]
        while callids:
            with self._store.transaction() as connection:
                callids = connection.execute(old).scalars().all()
                count += forget_calls(connection, callids)
            gevent.sleep(0)

        return count

    def keep_deleting_old(self, keep_days: float) -> None:
        """Delete the rows of everything that ended `keep_days` ago, regularly, for ever."""
        kept = keep_days * DAY
        while True:
            try:
                rows = self.clean(self._store.now() - kept)
                log.info("old_rows_deleted", rows=rows)
            except StoreError as error:
                log.error("store_unavailable", problem=str(error))

            gevent.sleep(max(min(kept / 10, DELETE_EVERY), 1.0))

    def _in_pieces(self, statement: Update | Delete, now: float, **more: float) -> int:
        """Repeat a statement until it finds less than a piece; return how many rows in all."""
        count = 0
        piece = ROWS_AT_ONCE
        while piece == ROWS_AT_ONCE:
            with self._store.transaction() as connection:
                piece = connection.execute(statement, {"now": now, **more}).rowcount
            count += piece
            # between two pieces, others have their turn
            gevent.sleep(0)

        return count
