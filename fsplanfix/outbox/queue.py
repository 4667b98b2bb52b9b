"""The queue of notices for Planfix: which may be sent now, and what becomes of each.

docs/delivery-rules.md, rules 3 to 5, 8 and 9.

The statements of every turn are module constants with parameters: building one costs more than
running it. Parameters are called b_<column>, since a bare column name is SQLAlchemy's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Float,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    update,
)

from ..calls.model import Kind
from .clock import JUMP, database_now
from .facts import UNAUTHORIZED, get_fact, put_fact
from .records import Backlog, Hold, Outcome, Queued, Turn, queued_from
from .schedule import LONGEST_HOLD, PROBE_PAUSE
from .schema import State, facts, holds_up, is_in, is_waiting, notices, open_calls
from .store import Store

LEASE = 12.0
"""Seconds, by the database's clock, that a notice belongs to the courier that sends it.

Renewed while the request is under way (docs/delivery-rules.md, rule 8).
"""

CLOCK_JUMP = 60.0
"""Seconds of tolerance.

A time further ahead than the longest plan plus this was written before the clock jumped back.
"""

SENT_BEFORE = "sent with the COMPLETED"
"""What is written beside a RECORD whose link was in the COMPLETED."""

MAX_ANSWER_CHARS = 500
"""Characters of Planfix's answer that are kept."""

NOW: BindParameter[float] = bindparam("now", type_=Float)
"""Seconds since 1970."""

# docs/delivery-rules.md, rule 3, as SQL:
#
#   EXISTS (SELECT * FROM notices AS before
#           WHERE before.callid = notices.callid AND before.state = 'waiting'
#             AND before.id < notices.id
#             AND (before.ext = notices.ext
#                  OR before.barrier AND (before.kind != 'COMPLETED'
#                                         OR notices.kind != 'COMPLETED')
#                  OR notices.kind = 'record'))
#
# Compared by id and not by position: two workers may number a call's notices differently.
_before = notices.alias("before")
_waits = exists().where(
    and_(
        _before.c.callid == notices.c.callid,
        is_waiting(_before),
        _before.c.id < notices.c.id,
        or_(
            _before.c.ext == notices.c.ext,
            holds_up(_before, notices.c.kind),
            notices.c.kind == Kind.RECORD.value,
        ),
    )
)
EXPECTED: BindParameter[float] = bindparam("b_expected", type_=Float)
"""The database's time as far as a worker knows, seconds since 1970; see `expected_time`."""

is_free = or_(
    notices.c.leased_until == 0,
    and_(
        func.abs(database_now() - EXPECTED) < JUMP,
        or_(
            notices.c.leased_until <= database_now(),
            notices.c.leased_until > database_now() + (LEASE + CLOCK_JUMP),
        ),
    ),
)
"""No courier is sending the notice: it has no lease, or one that has ended.

By the database's clock. With the workers' own clocks 20 s apart, a lease of 12 s was over for one
while the other still sent, and every notice in flight was sent twice. So it was when the database's
clock jumped: a lease counts as ended only while that clock shows what is expected.
"""


def expected_time(store: Store) -> float:
    """Return the database's time as it should be, 0 while no lease may count as ended.

    After a jump of the database's clock, couriers that are alive renew their leases by the new time
    first. Raises StoreError.
    """
    now = store.now()
    return now if store.now.steady_for(LEASE) else 0.0


# SKIP LOCKED: couriers that claim at the same time get different notices, and none waits.
# SQLite has no such clause and SQLAlchemy leaves it out there; its transactions do not overlap.
_next = (
    select(notices.c.id)
    .where(is_waiting(notices), notices.c.due <= NOW, is_free, ~_waits)
    .order_by(notices.c.due, notices.c.id)
    .limit(bindparam("b_most"))
    .with_for_update(skip_locked=True, of=notices)
    .cte("next")
)
_lease = (
    update(notices)
    .where(notices.c.id.in_(select(_next.c.id)))
    .values(leased_until=database_now() + LEASE, owner=bindparam("b_owner"))
    .returning(*notices.c)
)
# not DONE: what Planfix accepted stays so, whatever another courier writes later
_settle = (
    update(notices)
    .where(notices.c.id == bindparam("b_id"), notices.c.state != State.DONE)
    .values(
        state=bindparam("b_state"), attempts=bindparam("b_attempts"), answer=bindparam("b_answer")
    )
    .values(settled=NOW, leased_until=0.0)
)

# a RECORD whose link went out with the COMPLETED, by the unique key of the table
_settle_linked = (
    update(notices)
    .where(
        notices.c.callid == bindparam("b_callid"),
        notices.c.ext == "",
        notices.c.kind == Kind.RECORD.value,
        notices.c.ordinal == bindparam("b_ordinal"),
        is_waiting(notices),
    )
    .values(state=State.DONE, answer=SENT_BEFORE, settled=NOW, leased_until=0.0)
)

# FOR UPDATE: of all couriers that share a store, one at a time decides who sends the probe. Whoever
# writes these facts does so in the order of their names, or two couriers would wait for each other
# until PostgreSQL ends one of them, after a second.
_pause = facts.c.name.in_(("hold_since", "hold_until", UNAUTHORIZED))
_account = (
    select(facts.c.name, facts.c.value).where(_pause).order_by(facts.c.name).with_for_update()
)
_forget_pause = delete(facts).where(_pause)
_upcoming = select(func.min(notices.c.due)).where(is_waiting(notices), notices.c.due > NOW)


class Queue:
    """The notices of a store. Raises StoreError if the database does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def settle_and_claim(
        self, outcomes: Sequence[Outcome], most: int, now: float, owner: str
    ) -> Turn:
        """Write outcomes and claim up to `most` notices, in one transaction.

        A notice is claimed if it is due and nothing it must wait for is unsent. While Planfix asks
        us to wait, none is claimed. While it does not accept our token, one a minute is.

        now: seconds since 1970. owner: the courier's name.
        """
        rows: Sequence[Any] = ()
        expected = expected_time(self._store)

        # one transaction for both: with four per request a core carried 64 calls/s instead of 97
        # (docs/performance.md)
        with self._store.transaction() as connection:
            if outcomes:
                connection.execute(
                    _settle, [_settled(outcome, now) for outcome in sorted(outcomes, key=_by_id)]
                )
            linked = [_linked(outcome, now) for outcome in outcomes if outcome.has_link]
            if linked:
                connection.execute(_settle_linked, linked)

            account = {str(name): str(value) for name, value in connection.execute(_account)}
            token_accepted = UNAUTHORIZED in account and any(
                outcome.state == State.DONE for outcome in outcomes
            )
            if token_accepted:
                connection.execute(_forget_pause)
                account = {}

            # a window skipped as stale was claimed as the probe but not sent: without this the
            # next probe would wait another minute
            if UNAUTHORIZED in account and any(not outcome.tried for outcome in outcomes):
                self._probe_with_the_next(connection)
                account.pop("hold_until", None)

            most, held = _allowed(account, most, now)
            if most:
                given = {"now": now, "b_most": most, "b_owner": owner, "b_expected": expected}
                leased = connection.execute(_lease, given)
                # RETURNING gives the rows in no order
                rows = sorted(leased.mappings(), key=lambda row: (row["due"], row["id"]))

            if rows and UNAUTHORIZED in account:
                held = now + PROBE_PAUSE
                self._hold(connection, Hold(now, held))
            upcoming = held or connection.execute(_upcoming, {"now": now}).scalar()

        return Turn([queued_from(row) for row in rows], token_accepted, upcoming)

    def renew(self, ids: Iterable[int], owner: str) -> None:
        """Renew the leases of notices whose requests are still under way."""
        # a lease that ran out may be another courier's by now: that one keeps it
        mine = and_(notices.c.id.in_(list(ids)), notices.c.owner == owner, is_waiting(notices))
        with self._store.transaction(self._store.limits.renewal) as connection:
            until = database_now() + LEASE
            connection.execute(update(notices).where(mine).values(leased_until=until))

    def give_back(self, claimed: Iterable[Queued], owner: str) -> None:
        """End the leases of notices that were claimed and are not sent."""
        ids = [queued.id for queued in claimed]
        mine = and_(notices.c.id.in_(ids), notices.c.owner == owner, is_waiting(notices))
        with self._store.transaction() as connection:
            connection.execute(update(notices).where(mine).values(leased_until=0))

    def try_again(
        self, queued: Queued, due: float, answer: str, hold: Hold | None = None, owner: str = ""
    ) -> None:
        """Plan the next try of a notice that was not delivered.

        due: when (seconds since 1970). hold: while nothing at all is sent, None for no such pause.
        owner: the courier's name, "" for any.
        """
        with self._store.transaction() as connection:
            self._postpone(
                connection, queued, owner, due=due, answer=answer, attempts=queued.attempts + 1
            )
            if hold:
                self._hold(connection, hold)

    def postpone(self, queued: Queued, due: float, owner: str) -> None:
        """Plan a notice that was claimed but not tried. due: seconds since 1970."""
        with self._store.transaction() as connection:
            self._postpone(connection, queued, owner, due=due)
            if get_fact(connection, UNAUTHORIZED):
                self._probe_with_the_next(connection)

    @staticmethod
    def _hold(connection: Connection, hold: Hold) -> None:
        """Let nothing be sent for a while."""
        put_fact(connection, "hold_since", str(hold.since))
        put_fact(connection, "hold_until", str(hold.until))

    @staticmethod
    def _probe_with_the_next(connection: Connection) -> None:
        """Let the next notice be the probe after a 401: this one was not sent."""
        connection.execute(delete(facts).where(facts.c.name == "hold_until"))

    def postpone_unauthorized(self, queued: Queued, now: float, owner: str = "") -> bool:
        """Pause everything after a 401 but one probe a minute (docs/delivery-rules.md, rule 4).

        Return whether this 401 is the first in a row.
        """
        with self._store.transaction() as connection:
            news = not get_fact(connection, UNAUTHORIZED)

            # no attempt is counted: the token was wrong, not the notice
            self._postpone(connection, queued, owner, due=now, answer="401")
            self._hold(connection, Hold(now, now + PROBE_PAUSE))
            put_fact(connection, UNAUTHORIZED, str(now))
            return news

    @staticmethod
    def _postpone(
        connection: Connection, queued: Queued, owner: str, due: float, **values: Any
    ) -> None:
        """Postpone a notice, and everything queued behind it.

        A notice whose lease went to another courier is left to that courier.
        """
        still_ours = and_(
            notices.c.id == queued.id,
            is_waiting(notices),
            notices.c.owner == owner if owner else true(),
        )
        if "answer" in values:
            values["answer"] = values["answer"][:MAX_ANSWER_CHARS]
        again = update(notices).where(still_ours).values(due=due, leased_until=0, **values)
        if not connection.execute(again).rowcount:
            return

        # without this every claim scans the backlog: 17 ms with 20,000 waiting in an outage, 0.2 ms
        # with it (docs/performance.md)
        waits = notices.c.id.in_(_waits_for(connection, queued))
        connection.execute(update(notices).where(waits, notices.c.due < due).values(due=due))

    # for people

    def backlog(self) -> Backlog:
        """Return how many notices wait or were rejected, and since when the oldest waits."""
        standing = select(func.count(), func.min(notices.c.created))
        with self._store.transaction() as connection:
            waiting, oldest = connection.execute(standing.where(is_waiting(notices))).one()
            return Backlog(
                open_calls=connection.execute(
                    select(func.count()).where(open_calls.c.closed == 0)
                ).scalar_one(),
                waiting=waiting,
                rejected=connection.execute(
                    select(func.count()).where(is_in(State.REJECTED, notices))
                ).scalar_one(),
                oldest=oldest,
                unauthorized=bool(get_fact(connection, UNAUTHORIZED)),
            )

    def not_linked(self) -> list[tuple[str, int]]:
        """Return why recordings were not linked and how many each time; the latest reason first."""
        skipped = and_(is_in(State.SKIPPED, notices), notices.c.kind == Kind.RECORD.value)
        query = (
            select(notices.c.answer, func.count())
            .where(skipped)
            .group_by(notices.c.answer)
            .order_by(func.max(notices.c.id).desc())
        )
        with self._store.transaction() as connection:
            return [(str(answer), int(count)) for answer, count in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """Return how many notices there are in each state."""
        with self._store.transaction() as connection:
            query = select(notices.c.state, func.count()).group_by(notices.c.state)
            return {str(row[0]): int(row[1]) for row in connection.execute(query)}

    def listed(self, states: Iterable[State], limit: int, account: str = "") -> list[Queued]:
        """Return the oldest notices in some states, of one account or, with "", of all."""
        whose = notices.c.account == account if account else true()
        with self._store.transaction() as connection:
            some = or_(*(is_in(state, notices) for state in states))
            query = select(notices).where(some, whose).order_by(notices.c.id).limit(limit)
            return [queued_from(row) for row in connection.execute(query).mappings()]

    def send_again(self, ids: Iterable[int], now: float) -> int:
        """Put rejected notices back into the queue; return how many."""
        rejected = and_(notices.c.id.in_(list(ids)), notices.c.state == State.REJECTED)

        # created anew: else a call window would be skipped at once as too late (rule 5), and a
        # notice older than GIVE_UP_AFTER rejected again after one try (rule 4)
        again = {"state": State.WAITING, "due": now, "created": now, "settled": 0, "attempts": 0}

        with self._store.transaction() as connection:
            return int(connection.execute(update(notices).where(rejected).values(again)).rowcount)

    def drop(self, ids: Iterable[int]) -> int:
        """Delete rejected notices; return how many."""
        rejected = and_(notices.c.id.in_(list(ids)), notices.c.state == State.REJECTED)
        with self._store.transaction() as connection:
            return int(connection.execute(delete(notices).where(rejected)).rowcount)


def _allowed(account: dict[str, str], most: int, now: float) -> tuple[int, float]:
    """Return how many notices may be claimed now, and until when none may (0: some may)."""
    until = float(account.get("hold_until", 0))
    # An older release did not write when it began. One that begins later than now was set before
    # the clock jumped back, or by a worker that had not noticed the jump yet: it stopped all
    # workers for as long as the jump was.
    since = float(account.get("hold_since", until - LONGEST_HOLD))
    if since - JUMP < now < until:
        return 0, until

    if UNAUTHORIZED in account:
        return min(most, 1), 0.0
    return most, 0.0


def _by_id(outcome: Outcome) -> int:
    """Return the order in which rows are locked: the same everywhere, so that none deadlocks."""
    return outcome.queued.id


def _settled(outcome: Outcome, now: float) -> dict[str, Any]:
    """Return the parameters of `_settle`."""
    queued = outcome.queued
    return {
        "b_id": queued.id,
        "b_state": outcome.state,
        "b_attempts": queued.attempts + outcome.tried,
        "b_answer": (outcome.answer or queued.answer)[:MAX_ANSWER_CHARS],
        "now": now,
    }


def _linked(outcome: Outcome, now: float) -> dict[str, Any]:
    """Return the parameters of `_settle_linked`."""
    notice = outcome.queued.notice
    return {"b_callid": notice.callid, "b_ordinal": notice.linked_by, "now": now}


def _waits_for(connection: Connection, queued: Queued) -> list[int]:
    """Return the ids of the notices that wait for one, directly or through others.

    The same rule as `_waits`, followed from notice to notice within one call.
    """
    rest = (
        select(notices.c.id, notices.c.ext, notices.c.kind, notices.c.barrier)
        .where(notices.c.callid == queued.notice.callid, notices.c.id >= queued.id)
        .where(is_waiting(notices))
        .order_by(notices.c.id)
    )

    found: list[int] = []
    exts = {queued.notice.ext}
    # whether one of them is a barrier: a COMPLETED (holds up all but another COMPLETED, see
    # holds_up in schema.py) or another kind (holds up everything)
    ends = False
    others = False

    for row in connection.execute(rest):
        is_end = row.kind == Kind.COMPLETED.value
        held = others or (ends and not is_end) or row.ext in exts
        if not held and row.kind != Kind.RECORD.value:
            continue

        if row.id != queued.id:
            found.append(row.id)
        exts.add(row.ext)
        ends |= row.barrier and is_end
        others |= row.barrier and not is_end

    return found
