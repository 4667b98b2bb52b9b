"""The durable outbox: SQLite by default. One transaction writes what was said and the state it came from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine, and_, create_engine, event, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..calls.model import Kind, Notice
from ..errors import StoreError
from .tables import DEAD, DONE, WAITING, facts, metadata, notices, open_calls

LEASE = 60.0
"""Seconds a notice belongs to the one who sends it; longer than a request may take."""

LONGEST_ANSWER = 500
_notice_json = TypeAdapter(Notice)


@dataclass(frozen=True, slots=True)
class Queued:
    """A notice whose turn it is. created: seconds since 1970. attempts: tries before this one."""

    id: int
    notice: Notice
    attempts: int
    created: float


def is_barrier(notice: Notice) -> bool:
    """Tell whether later notices of the call wait for this one: its first INCOMING or OUTGOING, every ACCEPTED."""
    return notice.position == 1 or notice.kind is Kind.ACCEPTED


class Store:
    """Opens the database and makes its tables. Raises StoreError with the cure."""

    def __init__(self, url: str) -> None:
        try:
            self._engine = self._connect(url)
            metadata.create_all(self._engine)
        except (ArgumentError, ModuleNotFoundError):
            raise StoreError(
                "STORE_URL is no database address; write it like sqlite:///fsplanfix.db "
                "or postgresql://user:password@host/name (pip install fsplanfix[postgres])."
            ) from None
        except SQLAlchemyError as error:
            raise StoreError(f"The database in STORE_URL cannot be opened: {_reason(error)}.") from None

    def _connect(self, url: str) -> Engine:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = create_engine(parsed)
        if parsed.get_backend_name() == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"The database does not answer as it should: {_reason(error)}.") from None

    def _insert(self, table: Any) -> Any:
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    # writing

    def save(self, said: Iterable[Notice], calls: Mapping[str, str | None], server: str, now: float) -> None:
        """Write notices and the open calls they came from, all or nothing. What is there already stays as it is.

        calls: callid to state, None once the call is over. now: seconds since 1970.
        """
        rows = [_row(notice, now) for notice in said]
        states = [{"callid": callid, "server": server, "state": state} for callid, state in calls.items() if state]
        over = [callid for callid, state in calls.items() if not state]
        with self._transaction() as connection:
            if rows:
                connection.execute(self._insert(notices).on_conflict_do_nothing(), rows)
            if states:
                insert = self._insert(open_calls)
                connection.execute(
                    insert.on_conflict_do_update(index_elements=["callid"], set_={"state": insert.excluded.state}),
                    states,
                )
            if over:
                connection.execute(open_calls.delete().where(open_calls.c.callid.in_(over)))

    def open_calls(self, server: str) -> list[str]:
        """Return the states of the calls of one FreeSWITCH that were not over."""
        with self._transaction() as connection:
            query = select(open_calls.c.state).where(open_calls.c.server == server).order_by(open_calls.c.callid)
            return list(connection.execute(query).scalars())

    def fact(self, name: str, value: str) -> str:
        """Return what is known under `name`; the first caller's `value` is kept for good."""
        with self._transaction() as connection:
            connection.execute(self._insert(facts).on_conflict_do_nothing(), [{"name": name, "value": value}])
            found: str = connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one()
            return found

    # sending

    def claim(self, limit: int, now: float) -> list[Queued]:
        """Lease up to `limit` notices whose turn it is: due, and nothing they must wait for is still unsent."""
        before = notices.alias("before")
        waits = exists().where(
            and_(
                before.c.callid == notices.c.callid,
                before.c.state == WAITING,
                before.c.position < notices.c.position,
                or_(before.c.ext == notices.c.ext, before.c.barrier, notices.c.kind == Kind.RECORD.value),
            )
        )
        query = (
            select(notices)
            .where(notices.c.state == WAITING, notices.c.due <= now, notices.c.leased_until <= now, ~waits)
            .order_by(notices.c.due, notices.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._transaction() as connection:
            rows = connection.execute(query).mappings().all()
            if rows:
                mine = notices.c.id.in_([row["id"] for row in rows])
                connection.execute(update(notices).where(mine).values(leased_until=now + LEASE))
        return [
            Queued(row["id"], _notice_json.validate_json(row["body"]), row["attempts"], row["created"]) for row in rows
        ]

    def accepted(self, queued: Queued) -> None:
        """Planfix took it."""
        self._settle(queued, state=DONE)

    def set_aside(self, queued: Queued, answer: str) -> None:
        """Planfix will never take it: kept, with the answer, for somebody to look at."""
        self._settle(queued, state=DEAD, answer=answer[:LONGEST_ANSWER])

    def try_again(self, queued: Queued, due: float, answer: str) -> None:
        """It is to be sent again at `due` (seconds since 1970)."""
        self._settle(queued, due=due, answer=answer[:LONGEST_ANSWER])

    def _settle(self, queued: Queued, **values: Any) -> None:
        with self._transaction() as connection:
            connection.execute(
                update(notices)
                .where(notices.c.id == queued.id)
                .values(attempts=notices.c.attempts + 1, leased_until=0, **values)
            )

    def next_due(self) -> float | None:
        """Return when the next notice that is not being sent falls due, None if there is none."""
        with self._transaction() as connection:
            query = select(func.min(notices.c.due)).where(notices.c.state == WAITING, notices.c.leased_until == 0)
            return connection.execute(query).scalar()

    def counts(self) -> dict[str, int]:
        """Return how many notices there are in each state. Raises StoreError if the database does not answer."""
        with self._transaction() as connection:
            query = select(notices.c.state, func.count()).group_by(notices.c.state)
            return {str(row[0]): int(row[1]) for row in connection.execute(query)}


def _row(notice: Notice, now: float) -> dict[str, Any]:
    return {
        "callid": notice.callid,
        "ext": notice.ext,
        "kind": notice.kind.value,
        "ordinal": notice.ordinal,
        "position": notice.position,
        "barrier": is_barrier(notice),
        "body": _notice_json.dump_json(notice).decode(),
        "created": now,
        "due": now,
    }


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Write ahead, and sync at every commit: what was committed survives a power cut."""
    connection.isolation_level = None  # SQLAlchemy begins transactions itself, see _connect
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _reason(error: SQLAlchemyError) -> str:
    """Return the driver's own words, one line, without the statement and its data."""
    words = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    reason = words.splitlines()[0]
    return (
        f"{reason} (is the folder there and writable for user {os.getuid()}?)" if "unable to open" in reason else reason
    )
