"""The durable outbox, on SQLite or PostgreSQL: what was said and the state it came from share one transaction."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, and_, create_engine, delete, event, exists, func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..calls.endings import left_open
from ..calls.model import Kind, Notice
from ..errors import StoreError
from .rows import Backlog, Queued, notice_json, queued_from, row_of
from .schedule import JITTER, LONGEST_HOLD, LONGEST_PAUSE, POPUPS, PROBE_PAUSE
from .tables import DEAD, DONE, SHADOW, SKIPPED, WAITING, facts, heard, journal, notices, open_calls, prepare

log = structlog.get_logger(__name__)

LEASE = 12.0
"""Seconds a notice belongs to the courier who sends it; renewed while the request is under way."""

CLOCK_JUMP = 60.0
"""Seconds. Workers' clocks agree better than this; a time further ahead was written before a clock jumped back."""

_LOCK_CALLS = text(
    "SELECT pg_advisory_xact_lock(number) FROM ("
    "SELECT DISTINCT hashtextextended(callid, 0) AS number FROM unnest(CAST(:callids AS text[])) AS callid ORDER BY 1"
    ") AS calls"
)

CHANNEL = "fsplanfix_notices"
LONGEST_ANSWER = 500


class Store:
    """Opens the database and makes its tables. Raises StoreError with the cure.

    create: whether an SQLite file that is not there yet is made.
    """

    def __init__(self, url: str, create: bool = True) -> None:
        try:
            self._engine = self._connect(url)
            file = self._engine.url.database or ""
            if not create and self._engine.dialect.name == "sqlite" and not os.path.exists(file):
                raise StoreError(
                    f"There is no store at {file}: go to the service's folder or set STORE_URL as it does."
                )
            self._prepare()
        except (ArgumentError, ModuleNotFoundError):
            raise StoreError(
                "STORE_URL is no database address; write it like sqlite:///fsplanfix.db "
                "or postgresql://user:password@host/name (pip install fsplanfix[postgres])."
            ) from None
        except SQLAlchemyError as error:
            raise StoreError(f"The database in STORE_URL cannot be opened: {_reason(error)}.") from None

    def _prepare(self) -> None:
        try:
            with self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(7461001)"))  # one worker makes the tables
                prepare(connection)
        except BaseException:
            self._engine.dispose()
            raise

    def _connect(self, url: str) -> Engine:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, max_overflow=50)
        engine = create_engine(parsed)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection in a transaction of its own. Raises StoreError if the database does not play along."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"The database does not answer as it should: {_reason(error)}.") from None

    def _insert(self, table: Any) -> Any:
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    # writing

    def save(
        self,
        said: Collection[Notice],
        calls: Mapping[str, str | None],
        server: str,
        now: float,
        events: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write notices and the open calls they came from, all or nothing. What is there already stays as it is.

        calls: callid to state, None once the call is over. now: seconds since 1970. events: what FreeSWITCH said of
        calls that are over. Nothing is written about a call that another worker has closed; whatever was begun in one
        that is over now, by whomever, gets its end.
        """
        with self.transaction() as connection:
            closed = self._closed(connection, {*calls, *(notice.callid for notice in said)})
            over = {callid for callid, state in calls.items() if state is None} - closed
            due = [notice for notice in said if notice.callid not in closed]
            rows = [row_of(notice, now) for notice in self._with_ends(connection, due, over)]
            states = [
                {"callid": callid, "server": server, "state": state or "", "closed": 0 if state else now}
                for callid, state in calls.items()
                if callid not in closed
            ]
            if rows:
                connection.execute(self._insert(notices).on_conflict_do_nothing(), rows)
            if states:
                insert = self._insert(open_calls)
                newer = {"state": insert.excluded.state, "closed": insert.excluded.closed}
                connection.execute(insert.on_conflict_do_update(index_elements=["callid"], set_=newer), states)
            kept = [{"callid": callid, "at": now, "events": packed} for callid, packed in (events or {}).items()]
            if kept:
                connection.execute(self._insert(heard).on_conflict_do_nothing(), kept)
            if rows and connection.dialect.name == "postgresql":
                connection.execute(text(f"NOTIFY {CHANNEL}"))

    def _with_ends(self, connection: Connection, due: list[Notice], over: set[str]) -> list[Notice]:
        """Add the ends that are missing in calls that are over, before the recordings."""
        if not over:
            return due
        bodies = connection.execute(select(notices.c.body).where(notices.c.callid.in_(over))).scalars()
        known = [*map(notice_json.validate_json, bodies), *due]
        ends = [end for callid in sorted(over) for end in left_open([n for n in known if n.callid == callid])]
        if ends:
            log.warning("ends_added", callids=",".join(sorted({end.callid for end in ends})))
        return sorted([*due, *ends], key=lambda notice: notice.kind is Kind.RECORD)

    def _closed(self, connection: Connection, callids: set[str]) -> set[str]:
        """Return which calls were closed already; no other worker can close one of them until we have committed."""
        if connection.dialect.name == "postgresql":
            connection.execute(_LOCK_CALLS, {"callids": sorted(callids)})
        query = select(open_calls.c.callid).where(open_calls.c.callid.in_(callids), open_calls.c.closed > 0)
        return set(connection.execute(query).scalars())

    def open_calls(self, server: str) -> list[str]:
        """Return the states of the calls of one FreeSWITCH that were not over."""
        with self.transaction() as connection:
            ours = and_(open_calls.c.server == server, open_calls.c.closed == 0)
            return list(
                connection.execute(select(open_calls.c.state).where(ours).order_by(open_calls.c.callid)).scalars()
            )

    def closed(self, callids: Collection[str]) -> set[str]:
        """Return which of some calls another worker has closed."""
        with self.transaction() as connection:
            return self._closed(connection, set(callids))

    def fact(self, name: str, value: str) -> str:
        """Return what is known under `name`; the first caller's `value` is kept for good."""
        with self.transaction() as connection:
            connection.execute(self._insert(facts).on_conflict_do_nothing(), [{"name": name, "value": value}])
            return _fact(connection, name) or value

    def known(self, name: str) -> str:
        """Return what is known under `name`, "" if nothing is."""
        with self.transaction() as connection:
            return _fact(connection, name)

    def replace_fact(self, name: str, value: str) -> str:
        """Note `value` under `name`; return what stood there, "" if nothing did. A real write: it proves the disk."""
        with self.transaction() as connection:
            before = _fact(connection, name)
            self._note(connection, name, value)
            return before

    def _note(self, connection: Connection, name: str, value: str) -> None:
        insert = self._insert(facts)
        connection.execute(
            insert.on_conflict_do_update(index_elements=["name"], set_={"value": insert.excluded.value}),
            [{"name": name, "value": value}],
        )

    # sending

    def claim(self, limit: int, now: float, owner: str) -> list[Queued]:
        """Lease up to `limit` notices whose turn it is: due, and nothing they must wait for is still unsent.

        While Planfix is to be left alone there are none; while it does not know our token, one a minute.
        """
        with self.transaction() as connection:
            limit = min(limit, self._allowed(connection, now))
            rows = connection.execute(_next(now).limit(limit)).mappings().all() if limit else []
            if not rows:
                return []
            mine = notices.c.id.in_([row["id"] for row in rows])
            connection.execute(update(notices).where(mine).values(leased_until=now + LEASE, owner=owner))
            if _fact(connection, "unauthorized"):
                self._note(connection, "hold_until", str(now + PROBE_PAUSE))
        return [queued_from(row) for row in rows]

    def _allowed(self, connection: Connection, now: float) -> int:
        """Return how many requests Planfix may get at once: none while held, one as a probe, else any number."""
        held = connection.execute(select(facts.c.value).where(facts.c.name == "hold_until").with_for_update()).scalar()
        # a hold further away than any hold lasts was set before the clock jumped back
        if held and now < float(held) <= now + LONGEST_HOLD + CLOCK_JUMP:
            return 0
        return 1 if _fact(connection, "unauthorized") else 1_000_000

    def renew(self, ids: Iterable[int], now: float, owner: str) -> None:
        """Keep the leases of the requests that are still under way."""
        with self.transaction() as connection:
            mine = and_(notices.c.id.in_(list(ids)), notices.c.owner == owner, notices.c.state == WAITING)
            connection.execute(update(notices).where(mine).values(leased_until=now + LEASE))

    def accepted(self, queued: Queued, now: float) -> bool:
        """Planfix took it; tell whether that ends a time in which it did not know our token."""
        with self.transaction() as connection:
            self._settle(connection, queued, state=DONE, settled=now)
            known_again = delete(facts).where(facts.c.name == "unauthorized")
            if not connection.execute(known_again).rowcount:
                return False
            connection.execute(delete(facts).where(facts.c.name == "hold_until"))
            return True

    def only_said(self, queued: Queued, now: float) -> None:
        """It would have been sent, were this not shadow mode."""
        with self.transaction() as connection:
            self._settle(connection, queued, state=SHADOW, settled=now, attempts=0)

    def set_aside(self, queued: Queued, now: float, answer: str) -> None:
        """Planfix will never take it: kept, with the answer, for somebody to look at."""
        with self.transaction() as connection:
            self._settle(connection, queued, state=DEAD, settled=now, answer=answer[:LONGEST_ANSWER])

    def try_again(self, queued: Queued, due: float, answer: str, hold_until: float = 0, owner: str = "") -> None:
        """It is to be sent again at `due`, and nothing at all before `hold_until` (seconds since 1970)."""
        with self.transaction() as connection:
            self._settle(connection, queued, owner, due=due, answer=answer[:LONGEST_ANSWER])
            if hold_until:
                self._note(connection, "hold_until", str(hold_until))

    def postpone(self, queued: Queued, due: float, owner: str) -> None:
        """It cannot be sent before `due`, and was not tried."""
        with self.transaction() as connection:
            self._settle(connection, queued, owner, due=due, attempts=notices.c.attempts)

    def unauthorized(self, queued: Queued, now: float, owner: str = "") -> bool:
        """Planfix does not know our token: keep everything, probe once a minute; tell whether this is news."""
        with self.transaction() as connection:
            news = not _fact(connection, "unauthorized")
            self._settle(connection, queued, owner, due=now, answer="401", attempts=notices.c.attempts)
            self._note(connection, "unauthorized", str(now))
            self._note(connection, "hold_until", str(now + PROBE_PAUSE))
            return news

    def _settle(self, connection: Connection, queued: Queued, owner: str = "", **values: Any) -> None:
        """Write what became of a notice; one whose lease went to another courier is left to that one."""
        still_ours = notices.c.id == queued.id
        if owner:
            still_ours = and_(still_ours, notices.c.owner == owner)
        values = {"attempts": notices.c.attempts + 1, "leased_until": 0, **values}
        connection.execute(update(notices).where(still_ours, notices.c.state != DONE).values(values))

    def skip_stale(self, now: float, popup_ttl: float) -> int:
        """Skip the call windows that would come too late; return how many."""
        if not popup_ttl:
            return 0
        stale = and_(
            notices.c.state == WAITING,
            notices.c.kind.in_([kind.value for kind in POPUPS]),
            notices.c.created < now - popup_ttl,
            _is_free(now),
        )
        with self.transaction() as connection:
            found = connection.execute(
                update(notices).where(stale).values(state=SKIPPED, settled=now, answer="too late to show")
            )
            return int(found.rowcount)

    def next_due(self, now: float) -> float | None:
        """Return when the next notice that is not being sent falls due, None if there is none."""
        with self.transaction() as connection:
            held = _fact(connection, "hold_until")
            query = select(func.min(notices.c.due)).where(notices.c.state == WAITING, notices.c.leased_until <= now)
            due = connection.execute(query).scalar()
            return due if due is None or not held else max(due, float(held))

    # looking after

    def clean(self, before: float) -> int:
        """Delete what was delivered or skipped before a moment; return how much."""
        old = and_(notices.c.state.in_([DONE, SKIPPED, SHADOW]), notices.c.settled < before)
        with self.transaction() as connection:
            connection.execute(delete(open_calls).where(open_calls.c.closed > 0, open_calls.c.closed < before))
            for table in (journal, heard):
                connection.execute(delete(table).where(table.c.at < before))
            return int(connection.execute(delete(notices).where(old)).rowcount)

    def backlog(self) -> Backlog:
        """Return how things stand."""
        with self.transaction() as connection:
            query = select(notices.c.state, func.count(), func.min(notices.c.created)).where(
                notices.c.state.in_([WAITING, DEAD])
            )
            rows = {row[0]: row for row in connection.execute(query.group_by(notices.c.state))}
            waiting, dead = rows.get(WAITING), rows.get(DEAD)
            return Backlog(
                open_calls=connection.execute(select(func.count()).where(open_calls.c.closed == 0)).scalar_one(),
                waiting=waiting[1] if waiting else 0,
                dead=dead[1] if dead else 0,
                oldest=waiting[2] if waiting else None,
                unauthorized=bool(_fact(connection, "unauthorized")),
            )

    def counts(self) -> dict[str, int]:
        """Return how many notices there are in each state."""
        with self.transaction() as connection:
            query = select(notices.c.state, func.count()).group_by(notices.c.state)
            return {str(row[0]): int(row[1]) for row in connection.execute(query)}

    def listed(self, states: Iterable[str], limit: int) -> list[Queued]:
        """Return the oldest notices in some states."""
        with self.transaction() as connection:
            query = select(notices).where(notices.c.state.in_(list(states))).order_by(notices.c.id).limit(limit)
            return [queued_from(row) for row in connection.execute(query).mappings()]

    def send_again(self, ids: Iterable[int], now: float) -> int:
        """Put dead letters back into the queue; return how many."""
        dead = and_(notices.c.id.in_(list(ids)), notices.c.state == DEAD)
        with self.transaction() as connection:
            found = connection.execute(
                update(notices).where(dead).values(state=WAITING, due=now, created=now, settled=0, attempts=0)
            )
            return int(found.rowcount)

    def drop(self, ids: Iterable[int]) -> int:
        """Delete dead letters for good; return how many."""
        with self.transaction() as connection:
            found = connection.execute(delete(notices).where(notices.c.id.in_(list(ids)), notices.c.state == DEAD))
            return int(found.rowcount)

    def changes(self) -> Iterator[None]:
        """Yield whenever another process has written notices: at once on PostgreSQL, ten times a second on SQLite."""
        from . import watch  # noqa: PLC0415 - psycopg is only there with the postgres extra

        yield from watch.changes(self._engine, CHANNEL)


def _next(now: float) -> Any:
    """Select what may be sent now, in order. What lies further ahead than planned dates from before a clock jump."""
    before = notices.alias("before")
    waits = exists().where(
        and_(
            before.c.callid == notices.c.callid,
            before.c.state == WAITING,
            before.c.id < notices.c.id,
            or_(before.c.ext == notices.c.ext, before.c.barrier, notices.c.kind == Kind.RECORD.value),
        )
    )
    farthest = now + LONGEST_PAUSE * (1 + JITTER) + CLOCK_JUMP
    is_due = or_(notices.c.due <= now, notices.c.due > farthest)
    query = select(notices).where(notices.c.state == WAITING, is_due, _is_free(now), ~waits)
    return query.order_by(notices.c.due, notices.c.id).with_for_update(skip_locked=True, of=notices)


def _is_free(now: float) -> Any:
    """Nobody is sending it: no lease, or one that ends later than any could unless the clock has jumped back."""
    return or_(notices.c.leased_until <= now, notices.c.leased_until > now + LEASE + CLOCK_JUMP)


def _fact(connection: Connection, name: str) -> str:
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar() or ""


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Write ahead, and sync at every commit: what was committed survives a power cut."""
    connection.isolation_level = None  # SQLAlchemy begins transactions itself, see _connect
    for pragma in ("busy_timeout=3000", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _reason(error: SQLAlchemyError) -> str:
    """Return the driver's own words, one line, without the statement and its data."""
    words = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    reason = words.splitlines()[0]
    if "unable to open" in reason or "readonly" in reason:
        return f"{reason} (is the folder there, and may user {os.getuid()} write to it?)"
    return reason
