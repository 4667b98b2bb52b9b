"""The notices that wait for Planfix: whose turn it is, what becomes of each.

docs/delivery-rules.md, rules 3 to 5, 8 and 9.

The statements of every turn are written once, with parameters: building them anew would cost more
than running them.
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
from .clock import database_now
from .facts import get_fact, put_fact
from .records import Backlog, Outcome, Queued, Turn, queued_from
from .schedule import LONGEST_HOLD, PROBE_PAUSE
from .schema import State, facts, holds_up, is_in, is_waiting, notices, open_calls
from .store import Store

LEASE = 12.0
"""Seconds by the database's clock that a notice belongs to the courier who sends it.

Renewed while the request is under way.
"""

CLOCK_JUMP = 60.0
"""Seconds; a time that lies further ahead than is ever planned is from before a jump back."""

MAX_ANSWER_CHARS = 500
NOW: BindParameter[float] = bindparam("now", type_=Float)
"""Seconds since 1970."""

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
is_free = or_(
    notices.c.leased_until <= database_now(),
    notices.c.leased_until > database_now() + (LEASE + CLOCK_JUMP),
)
"""Nobody is sending it: it has no lease, or one from before the clock jumped back.

By the database's clock: those of the workers may differ by any amount.
"""

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
_settle = (
    update(notices)
    .where(notices.c.id == bindparam("b_id"), notices.c.state != State.DONE)
    .values(
        state=bindparam("b_state"), attempts=bindparam("b_attempts"), answer=bindparam("b_answer")
    )
    .values(settled=NOW, leased_until=0.0)
)
_account = (
    select(facts.c.name, facts.c.value)
    .where(facts.c.name.in_(("hold_until", "unauthorized")))
    .with_for_update()
)
_forget_pause = delete(facts).where(facts.c.name.in_(("hold_until", "unauthorized")))
_upcoming = select(func.min(notices.c.due)).where(is_waiting(notices), notices.c.due > NOW)


class Queue:
    """What a store has to send. Raises StoreError if the database does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def settle_and_claim(
        self, outcomes: Sequence[Outcome], most: int, now: float, owner: str
    ) -> Turn:
        """Write down what is settled and lease up to `most` notices, in one transaction.

        Their turn: due, and nothing they must wait for is still unsent. While Planfix is to be left
        alone there are none; while it does not know our token, one a minute.
        """
        rows: Sequence[Any] = ()
        with self._store.transaction() as connection:
            if outcomes:
                connection.execute(
                    _settle, [_settled(outcome, now) for outcome in sorted(outcomes, key=_by_id)]
                )
            account = {str(name): str(value) for name, value in connection.execute(_account)}
            token_accepted = "unauthorized" in account and any(
                outcome.state == State.DONE for outcome in outcomes
            )
            if token_accepted:
                connection.execute(_forget_pause)
                account = {}
            if "unauthorized" in account and any(not outcome.tried for outcome in outcomes):
                self._probe_with_the_next(connection)
                account.pop("hold_until", None)
            most, held = _allowed(account, most, now)
            if most:
                leased = connection.execute(_lease, {"now": now, "b_most": most, "b_owner": owner})
                rows = sorted(leased.mappings(), key=lambda row: (row["due"], row["id"]))
            if rows and "unauthorized" in account:
                held = now + PROBE_PAUSE
                put_fact(connection, "hold_until", str(held))
            upcoming = held or connection.execute(_upcoming, {"now": now}).scalar()
        return Turn([queued_from(row) for row in rows], token_accepted, upcoming)

    def renew(self, ids: Iterable[int], owner: str) -> None:
        """Keep the leases of the requests that are still under way."""
        mine = and_(notices.c.id.in_(list(ids)), notices.c.owner == owner, is_waiting(notices))
        with self._store.transaction() as connection:
            until = database_now() + LEASE
            connection.execute(update(notices).where(mine).values(leased_until=until))

    def try_again(
        self, queued: Queued, due: float, answer: str, hold_until: float = 0, owner: str = ""
    ) -> None:
        """It is sent again at `due`, and nothing before `hold_until` (seconds since 1970)."""
        with self._store.transaction() as connection:
            self._postpone(
                connection, queued, owner, due=due, answer=answer, attempts=queued.attempts + 1
            )
            if hold_until:
                put_fact(connection, "hold_until", str(hold_until))

    def postpone(self, queued: Queued, due: float, owner: str) -> None:
        """It cannot be sent before `due`, and was not tried."""
        with self._store.transaction() as connection:
            self._postpone(connection, queued, owner, due=due)
            if get_fact(connection, "unauthorized"):
                self._probe_with_the_next(connection)

    @staticmethod
    def _probe_with_the_next(connection: Connection) -> None:
        """Let the next notice find out whether Planfix knows our token: this one was not sent."""
        connection.execute(delete(facts).where(facts.c.name == "hold_until"))

    def postpone_unauthorized(self, queued: Queued, now: float, owner: str = "") -> bool:
        """Planfix does not know our token: keep all, probe once a minute; tell if this is news."""
        with self._store.transaction() as connection:
            news = not get_fact(connection, "unauthorized")
            self._postpone(connection, queued, owner, due=now, answer="401")
            put_fact(connection, "unauthorized", str(now))
            put_fact(connection, "hold_until", str(now + PROBE_PAUSE))
            return news

    @staticmethod
    def _postpone(
        connection: Connection, queued: Queued, owner: str, due: float, **values: Any
    ) -> None:
        """Write that it is sent at `due`, and what waits for it no sooner.

        Otherwise every turn would look at all of that.

        One whose lease went to another courier is left to that one.
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
        waits = notices.c.id.in_(_waits_for(connection, queued))
        connection.execute(update(notices).where(waits, notices.c.due < due).values(due=due))

    # for people

    def backlog(self) -> Backlog:
        """Return how things stand."""
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
                unauthorized=bool(get_fact(connection, "unauthorized")),
            )

    def counts(self) -> dict[str, int]:
        """Return how many notices there are in each state."""
        with self._store.transaction() as connection:
            query = select(notices.c.state, func.count()).group_by(notices.c.state)
            return {str(row[0]): int(row[1]) for row in connection.execute(query)}

    def listed(self, states: Iterable[State], limit: int) -> list[Queued]:
        """Return the oldest notices in some states."""
        with self._store.transaction() as connection:
            some = or_(*(is_in(state, notices) for state in states))
            query = select(notices).where(some).order_by(notices.c.id).limit(limit)
            return [queued_from(row) for row in connection.execute(query).mappings()]

    def send_again(self, ids: Iterable[int], now: float) -> int:
        """Put rejected notices back into the queue; return how many."""
        rejected = and_(notices.c.id.in_(list(ids)), notices.c.state == State.REJECTED)
        again = {"state": State.WAITING, "due": now, "created": now, "settled": 0, "attempts": 0}
        with self._store.transaction() as connection:
            return int(connection.execute(update(notices).where(rejected).values(again)).rowcount)

    def drop(self, ids: Iterable[int]) -> int:
        """Delete rejected notices; return how many."""
        rejected = and_(notices.c.id.in_(list(ids)), notices.c.state == State.REJECTED)
        with self._store.transaction() as connection:
            return int(connection.execute(delete(notices).where(rejected)).rowcount)


def _allowed(account: dict[str, str], most: int, now: float) -> tuple[int, float]:
    """Return how many requests Planfix may get now, and until when it gets none (0: it may)."""
    until = float(account.get("hold_until", 0))
    # a hold further away than any hold lasts was set before the clock jumped back
    if now < until <= now + LONGEST_HOLD + CLOCK_JUMP:
        return 0, until
    return min(most, 1) if "unauthorized" in account else most, 0.0


def _by_id(outcome: Outcome) -> int:
    """Rows are locked in this order, so that two couriers never wait for each other."""
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


def _waits_for(connection: Connection, queued: Queued) -> list[int]:
    """Return the ids of what waits for a notice, or for something that waits for it."""
    rest = (
        select(notices.c.id, notices.c.ext, notices.c.kind, notices.c.barrier)
        .where(notices.c.callid == queued.notice.callid, notices.c.id >= queued.id)
        .where(is_waiting(notices))
        .order_by(notices.c.id)
    )
    found: list[int] = []
    exts = {queued.notice.ext}
    ends, others = False, False  # whether a barrier waits that is an end, or one that is none
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
