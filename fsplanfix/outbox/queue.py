"""The queue of notices for Planfix: which may be sent now, and what becomes of each.

docs/delivery-rules.md, rules 3 to 5, 8 and 9.

The statements of every turn are module constants with parameters: building one costs more than
running it. Parameters are called b_<column>, since a bare column name is SQLAlchemy's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from ..calls.model import Kind
from .clock import database_now
from .due import (
    LEASE,
    NEXT_OF_MANY,
    NEXT_OF_ONE,
    NOW,
    OUTLOOK_OF_MANY,
    OUTLOOK_OF_ONE,
    WITH_NOTICES,
    expected_time,
    values_of,
)
from .facts import UNAUTHORIZED, fact_of, get_fact, is_fact, put_fact
from .pauses import Pauses, probe_with_the_next, put_hold
from .prepared import Prepared, given_rows, together
from .records import Backlog, Hold, Outcome, Places, Queued, Turn, queued_from
from .schedule import PROBE_PAUSE
from .schema import State, facts, is_in, is_waiting, notices, open_calls
from .store import Store

SENT_BEFORE = "sent with the COMPLETED"
"""What is written beside a RECORD whose link was in the COMPLETED."""

MAX_ANSWER_CHARS = 500
"""Characters of Planfix's answer that are kept."""


def _lease(following: Select[Any]) -> ReturningUpdate[Any]:
    return (
        update(notices)
        .where(notices.c.id.in_(select(following.cte("next").c.id)))
        .values(leased_until=database_now() + LEASE, owner=bindparam("b_owner"))
        .returning(*_CLAIMED)
    )


_CLAIMED = (
    *(notices.c.due, notices.c.id, notices.c.body, notices.c.attempts, notices.c.created),
    *(notices.c.state, notices.c.answer, notices.c.settled),
)
_NAMES = [column.name for column in _CLAIMED]
_lease_one = Prepared(_lease(NEXT_OF_ONE))
_lease_many = Prepared({dialect: _lease(query) for dialect, query in NEXT_OF_MANY.items()})

_OUTCOME = (
    Column("b_id", BigInteger),
    Column("b_state", notices.c.state.type),
    Column("b_attempts", Integer),
    Column("b_answer", notices.c.answer.type),
    Column("now", Float),
)


def _settle_by(value: Callable[[str], Any]) -> Update:
    # not DONE: what Planfix accepted stays so, whatever another courier writes later
    return (
        update(notices)
        .where(notices.c.id == value("b_id"), notices.c.state != State.DONE)
        .values(state=value("b_state"), attempts=value("b_attempts"), answer=value("b_answer"))
        .values(settled=value("now"), leased_until=0.0)
    )


_settle = Prepared(
    {
        "sqlite": _settle_by(bindparam),
        "postgresql": _settle_by(given_rows(_OUTCOME).c.__getitem__),
    }
)

# a RECORD whose link went out with the COMPLETED, by the unique key of the table
_settle_linked = Prepared(
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

_is_unauthorized = select(facts.c.name).where(is_fact(UNAUTHORIZED)).limit(1)


class Queue:
    """The notices of a store. Raises StoreError if the database does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def settle_and_claim(
        self, outcomes: Sequence[Outcome], places: Places, now: float, owner: str
    ) -> Turn:
        """Write outcomes and claim as many notices as there are places, in one transaction.

        A notice is claimed if it is due and nothing it must wait for is unsent. While a Planfix
        asks us to wait, none of its account is claimed. While it does not accept our token, one a
        minute is.

        now: seconds since 1970. owner: the courier's name.
        """
        expected = expected_time(self._store)

        # one transaction for both: with four per request a core carried 64 calls/s instead of 97
        # (docs/performance.md)
        with self._store.transaction(lazily=True) as connection:
            with together(connection):
                _settle_all(connection, outcomes, now)
                pauses = Pauses(connection)
            accepted = pauses.end_where_accepted(outcomes)
            pauses.probe_again(outcomes)

            leased = None
            places = places.but(pauses.places(now))
            with together(connection):
                if places.each and (places.only or places.in_all):
                    values = {**values_of(places, now), "b_owner": owner, "b_expected": expected}
                    leased = (_lease_one if places.only else _lease_many).run(connection, values)
                outlook = _outlook(connection, places, now)

            # RETURNING gives the rows in no order
            rows = sorted(leased.fetchall()) if leased else []
            claimed = [queued_from(dict(zip(_NAMES, row, strict=True))) for row in rows]
            pauses.hold_after_probes({one.notice.account for one in claimed}, now)
            ((planned, more_waits),) = outlook.fetchall()
            upcoming = pauses.upcoming(planned, places, now)

        return Turn(claimed, accepted, upcoming, bool(more_waits))

    def accounts(self) -> set[str]:
        """Return the accounts of which something waits."""
        with self._store.transaction() as connection:
            return set(connection.execute(WITH_NOTICES).scalars())

    def renew(self, ids: Iterable[int], owner: str) -> set[int]:
        """Renew the leases of notices that were claimed; return the ids of those that were ours."""
        # a lease that ran out may be another courier's by now: that one keeps it
        mine = and_(notices.c.id.in_(list(ids)), notices.c.owner == owner, is_waiting(notices))
        with self._store.transaction(self._store.limits.renewal) as connection:
            until = database_now() + LEASE
            renewing = update(notices).where(mine).values(leased_until=until)
            return set(connection.execute(renewing.returning(notices.c.id)).scalars())

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

        due: when (seconds since 1970). hold: while nothing of its account is sent, None for no such
        pause. owner: the courier's name, "" for any.
        """
        with self._store.transaction() as connection:
            self._postpone(
                connection, queued, owner, due=due, answer=answer, attempts=queued.attempts + 1
            )
            if hold:
                put_hold(connection, queued.notice.account, hold)

    def postpone(self, queued: Queued, due: float, owner: str) -> None:
        """Plan a notice that was claimed but not tried. due: seconds since 1970."""
        with self._store.transaction() as connection:
            self._postpone(connection, queued, owner, due=due)
            account = queued.notice.account
            if get_fact(connection, fact_of(UNAUTHORIZED, account)):
                probe_with_the_next(connection, account)

    def postpone_unauthorized(self, queued: Queued, now: float, owner: str = "") -> bool:
        """Pause an account after a 401 but for one probe a minute (docs/delivery-rules.md, rule 4).

        Return whether this 401 is the first in a row.
        """
        with self._store.transaction() as connection:
            account = queued.notice.account
            unauthorized = fact_of(UNAUTHORIZED, account)
            news = not get_fact(connection, unauthorized)

            # no attempt is counted: the token was wrong, not the notice
            self._postpone(connection, queued, owner, due=now, answer="401")
            put_hold(connection, account, Hold(now, now + PROBE_PAUSE))
            put_fact(connection, unauthorized, str(now))
            return news

    @staticmethod
    def _postpone(
        connection: Connection, queued: Queued, owner: str, due: float, **values: Any
    ) -> None:
        """Postpone a notice, and everything queued behind it.

        A notice whose lease went to another courier is left to that courier.
        """
        still_ours = and_(notices.c.id == queued.id, is_waiting(notices))
        if owner:
            still_ours = and_(still_ours, notices.c.owner == owner)

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
                unauthorized=connection.execute(_is_unauthorized).first() is not None,
            )

    def backlog_by_account(self) -> dict[str, Backlog]:
        """Return how many notices of each account wait or were rejected; none without any.

        Their open calls are not counted.
        """
        waits, is_rejected = is_waiting(notices), is_in(State.REJECTED, notices)
        query = (
            select(
                notices.c.account,
                func.sum(case((waits, 1), else_=0)).label("waiting"),
                func.sum(case((is_rejected, 1), else_=0)).label("rejected"),
                func.min(case((waits, notices.c.created))).label("oldest"),
            )
            .where(or_(waits, is_rejected))
            .group_by(notices.c.account)
        )
        with self._store.transaction() as connection:
            rows = connection.execute(query).all()
            return {
                row.account: Backlog(
                    open_calls=0,
                    waiting=int(row.waiting),
                    rejected=int(row.rejected),
                    oldest=row.oldest,
                    unauthorized=bool(get_fact(connection, fact_of(UNAUTHORIZED, row.account))),
                )
                for row in rows
            }

    def unsent_recordings(self) -> list[tuple[str, int]]:
        """Return why recordings were not sent and how many each time; the latest reason first."""
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


def _outlook(connection: Connection, places: Places, now: float) -> Any:
    """Find when the next notice is due that is not due yet, and if one that is due waits."""
    if places.only:
        return OUTLOOK_OF_ONE.run(connection, {"now": now, "b_account": places.only})
    return OUTLOOK_OF_MANY.run(connection, {"now": now})


def _settle_all(connection: Connection, outcomes: Sequence[Outcome], now: float) -> None:
    if outcomes:
        in_order = sorted(outcomes, key=_by_id)
        _settle.run_each(connection, [_settled(outcome, now) for outcome in in_order])
    linked = [_linked(outcome, now) for outcome in outcomes if outcome.has_link]
    if linked:
        _settle_linked.run_each(connection, linked)


def _by_id(outcome: Outcome) -> int:
    """Return the order in which rows are locked: the same everywhere, so that none deadlocks."""
    return outcome.queued.id


def _settled(outcome: Outcome, now: float) -> dict[str, Any]:
    """Return the parameters of `_settle`."""
    queued = outcome.queued
    return {
        "b_id": queued.id,
        "b_state": outcome.state.value,
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
