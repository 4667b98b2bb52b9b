"""The durable outbox, on SQLite or PostgreSQL.

What was said and the state it came from share one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Set
from contextlib import closing, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import gevent
import structlog
from sqlalchemy import (
    Connection,
    Engine,
    and_,
    bindparam,
    create_engine,
    event,
    exists,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from ..calls.endings import left_open
from ..calls.model import Kind, Notice
from ..errors import StoreError
from .clock import Clock, database_now
from .file import StoreFile, take_over
from .rows import cleaned, notice_json, rows_of
from .tables import facts, heard, holds_up, is_waiting, metadata, notices, open_calls, prepare
from .texts import CleanText, clean
from .waits import (
    Limits,
    begin_sqlite,
    comes_of,
    connection_settings,
    limit_statements,
    prepare_sqlite,
)

log = structlog.get_logger(__name__)

_LOCK_CALLS = text(
    "SELECT pg_advisory_xact_lock(number) FROM ("
    "SELECT DISTINCT hashtextextended(callid, 0) AS number "
    "FROM unnest(CAST(:callids AS text[])) AS callid ORDER BY 1"
    ") AS calls"
).bindparams(bindparam("callids", type_=postgresql.ARRAY(CleanText)))

_before = notices.alias("before")
_due = func.coalesce(
    select(func.max(_before.c.due))
    .where(
        _before.c.callid == bindparam("call"),
        is_waiting(_before),
        _before.c.due > bindparam("now"),
        or_(
            _before.c.ext == bindparam("part"),
            holds_up(_before, bindparam("what")),
            bindparam("what") == Kind.RECORD.value,
        ),
    )
    .scalar_subquery(),
    bindparam("now"),
)
"""When a new notice is due: now, but not before what it waits for.

In an outage nobody looks at it in vain.
"""

_is_end = and_(
    _before.c.callid == notices.c.callid,
    _before.c.ext == notices.c.ext,
    _before.c.ordinal == notices.c.ordinal,
    _before.c.kind == Kind.COMPLETED.value,
)
_begun = select(notices.c.callid, notices.c.ext, notices.c.ordinal).where(
    notices.c.callid.in_(bindparam("callids", expanding=True)),
    notices.c.kind.in_((Kind.INCOMING.value, Kind.OUTGOING.value)),
    ~exists().where(_is_end),
)
"""Employees' parts in some calls that have no end yet."""

_are_closed = select(open_calls.c.callid).where(
    open_calls.c.callid.in_(bindparam("callids", expanding=True)), open_calls.c.closed > 0
)

_TIME = str(select(database_now()).compile(dialect=sqlite.dialect()))

CHANNEL = "fsplanfix_notices"
COLUMNS = {
    name: [column.name for column in table.columns if column.name != "id"]
    for name, table in metadata.tables.items()
}
"""By table, without the ids."""


class Store:
    """Opens the database and makes its tables. Raises StoreError with the cure.

    create: whether an SQLite file that is not there yet is made. takes_writes: whether what was
    written last was taken. now: the database's clock, seconds
    since 1970.
    """

    def __init__(self, url: str, create: bool = True, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._file: StoreFile | None = None
        self.takes_writes = True
        try:
            self._engine = self._connect(url)
            file = self._engine.url.database or ""
            if not create and self._engine.dialect.name == "sqlite" and not os.path.exists(file):
                raise StoreError(
                    f"There is no store at {file}: "
                    "go to the service's folder or set STORE_URL as it does."
                )
            self._prepare(self._engine)
            if self._engine.dialect.name == "sqlite" and file not in ("", ":memory:"):
                self._file = StoreFile(Path(file).absolute())
            self.now = Clock(self._time)
        except (ArgumentError, ModuleNotFoundError):
            raise StoreError(
                "STORE_URL is no database address; write it like sqlite:///fsplanfix.db "
                "or postgresql://user:password@host/name (pip install fsplanfix[postgres])."
            ) from None
        except SQLAlchemyError as error:
            raise StoreError(
                f"The database in STORE_URL cannot be opened: {_reason(error)}."
            ) from None

    @staticmethod
    def _prepare(engine: Engine) -> None:
        try:
            with engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    # to change large tables takes its time
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    connection.execute(text("SET LOCAL lock_timeout = 0"))
                    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                    connection.execute(
                        text("SELECT pg_advisory_xact_lock(7461001)")
                    )  # one worker makes the tables
                prepare(connection)
        except BaseException:
            engine.dispose()
            raise

    def _connect(self, url: str) -> Engine:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            # a prepared statement keeps the plan it was given while the table was small
            settings = connection_settings(self._limits, parsed.query) | {"prepare_threshold": None}
            url_for = parsed.set(drivername="postgresql+psycopg")
            engine = create_engine(
                url_for, connect_args=settings, pool_pre_ping=True, max_overflow=50
            )
            event.listen(engine, "connect", partial(_prepare_postgresql, engine, self._limits))
            return engine
        engine, limits = create_engine(parsed), self._limits
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", lambda driver, _: prepare_sqlite(driver, limits))
            event.listen(engine, "begin", self._begin_sqlite)
        return engine

    def _time(self) -> float:
        if self._engine.dialect.name == "sqlite":
            # all who open its file are on this machine: no lock is needed to ask for the time
            with closing(sqlite3.connect(":memory:")) as clock:
                return float(clock.execute(_TIME).fetchone()[0])
        with self.transaction() as connection:
            return float(connection.execute(select(database_now())).scalar_one())

    @property
    def beside(self) -> Path:
        """What the names of files that belong to the store begin with.

        They stand beside an SQLite file, else in systemd's StateDirectory or the service's folder.
        """
        if self._engine.dialect.name == "sqlite":
            return Path(self._engine.url.database or "fsplanfix.db").absolute()
        folder = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return Path(folder or ".").absolute() / "fsplanfix"

    def _begin_sqlite(self, connection: Connection) -> None:
        begin_sqlite(connection, self._limits)
        # it may have gone while we waited for the lock
        if connection.engine is self._engine and self._file and not self._file.is_there:
            raise StoreError("The file in STORE_URL was deleted or replaced.")

    def _stay_with_the_file(self, file: StoreFile) -> None:
        """Go over to a new file if the one we opened was deleted or replaced.

        What the old one holds is taken along: it can be read as long as it is open.
        """
        if file.is_emptied:
            raise StoreError("The file in STORE_URL was emptied: put a copy of it in its place.")
        if file.is_there:
            return
        if not file.is_missed:
            file.is_missed = True
            log.error("store_file_gone", file=str(file.path))
        old = self._engine.raw_connection()
        try:
            file.leave()
            fresh = self._connect(str(self._engine.url))
            self._prepare(fresh)
            try:
                take_over(old.driver_connection, file.path, COLUMNS)
            except sqlite3.Error as error:
                log.error("store_lost", file=str(file.path), problem=str(error))
        except SQLAlchemyError as error:
            raise StoreError(f"The file in STORE_URL is gone: {_reason(error)}.") from None
        finally:
            old.close()
        self._engine.dispose()
        self._engine, self._file = fresh, StoreFile(file.path)
        log.error("store_file_made_anew", file=str(file.path), hint="what it held is in it again")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection in a transaction of its own. Raises StoreError if it cannot."""
        if self._file is not None:
            self._stay_with_the_file(self._file)
        is_remote = self._engine.dialect.name == "postgresql"
        late = gevent.Timeout(self._limits.transaction if is_remote else None)
        try:
            with late, self._engine.begin() as connection:
                yield connection
        except (gevent.Timeout, SQLAlchemyError) as error:
            if comes_of(error, late):
                self._engine.dispose()  # the way to the other connections is as frozen
                raise StoreError("The database does not answer in time.") from None
            if isinstance(error, gevent.Timeout):
                raise
            raise StoreError(
                f"The database does not answer as it should: {_reason(error)}.",
                permanent=isinstance(error, (DataError, IntegrityError)),
            ) from None
        except (UnicodeError, OverflowError) as error:  # the driver cannot even send it
            raise StoreError(
                f"The database cannot hold this: {type(error).__name__}.", permanent=True
            ) from None

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """Give a transaction that writes; what came of the last one is `takes_writes`."""
        try:
            with self.transaction() as connection:
                yield connection
        except StoreError as error:
            if self.takes_writes and not error.permanent:
                self.takes_writes = False
                log.error("store_takes_nothing", problem=str(error))
            raise
        if not self.takes_writes:
            self.takes_writes = True
            log.info("store_takes_writes_again")

    def _insert(self, table: Any) -> Any:
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    # statements that are written once

    @cached_property
    def _add_notices(self) -> Any:
        return self._insert(notices).values(due=_due).on_conflict_do_nothing()

    @cached_property
    def _put_calls(self) -> Any:
        insert = self._insert(open_calls)
        newer = {"state": insert.excluded.state, "closed": insert.excluded.closed}
        return insert.on_conflict_do_update(index_elements=["callid"], set_=newer)

    @cached_property
    def _add_heard(self) -> Any:
        return self._insert(heard).on_conflict_do_nothing()

    # writing

    def save(
        self,
        said: Collection[Notice],
        calls: Mapping[str, str | None],
        server: str,
        now: float,
        events: Mapping[str, bytes] | None = None,
        reopened: Set[str] = frozenset(),
        alive: int = 0,
    ) -> None:
        """Write notices and the calls they came from, all or nothing.

        What is there already stays as it is.

        calls: callid to state, None once the call is over. now: seconds since 1970. events: what
        FreeSWITCH said of calls that are over. Nothing is written about a call that another worker
        has closed, unless it was `reopened`; whatever was begun in one that is over now, by
        whomever, gets its end. alive: the last sign of life of the server (microseconds since
        1970), 0 to leave what is known of it.
        """
        # whatever is compared with what the store holds must be as clean as that
        calls = {clean(callid): state for callid, state in calls.items()}
        reopened = set(map(clean, reopened))
        said = [cleaned(notice) for notice in said]
        with self._write() as connection:
            if alive:
                self.note(connection, _alive(server), str(alive))
            concerned = {*calls, *(notice.callid for notice in said)}
            closed = self._closed(connection, concerned) - reopened if concerned else set()
            over = {callid for callid, state in calls.items() if state is None} - closed
            due = [notice for notice in said if notice.callid not in closed]
            rows = rows_of(self._with_ends(connection, due, over), now)
            states = [
                {
                    "callid": callid,
                    "server": server,
                    "state": state or "",
                    "closed": 0 if state else now,
                }
                for callid, state in calls.items()
                if callid not in closed
            ]
            if rows:
                connection.execute(self._add_notices, rows)
            if states:
                connection.execute(self._put_calls, states)
            kept = [
                {"callid": clean(callid), "at": now, "events": packed}
                for callid, packed in (events or {}).items()
            ]
            if kept:
                connection.execute(self._add_heard, kept)
            if rows and connection.dialect.name == "postgresql":
                connection.execute(text(f"NOTIFY {CHANNEL}"))

    def _with_ends(self, connection: Connection, due: list[Notice], over: set[str]) -> list[Notice]:
        """Add the ends that are missing in calls that are over, before the recordings."""
        if not over:
            return due
        begun = {tuple(part) for part in connection.execute(_begun, {"callids": list(over)})}
        begun |= {
            (n.callid, n.ext, n.ordinal) for n in due if n.kind in (Kind.INCOMING, Kind.OUTGOING)
        }
        ended = {(n.callid, n.ext, n.ordinal) for n in due if n.kind is Kind.COMPLETED}
        unended = {callid for callid, _, _ in begun - ended} & over
        ends: list[Notice] = []
        for callid in sorted(unended):
            bodies = connection.execute(
                select(notices.c.body).where(notices.c.callid == callid)
            ).scalars()
            known = [
                *map(notice_json.validate_json, bodies),
                *(n for n in due if n.callid == callid),
            ]
            ends += left_open(known)
        if ends:
            log.warning("ends_added", callids=",".join(sorted({end.callid for end in ends})))
        return sorted([*due, *ends], key=lambda notice: notice.kind is Kind.RECORD)

    def _closed(self, connection: Connection, callids: set[str]) -> set[str]:
        """Return which calls were closed already.

        No other worker can close one of them until we have committed.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(_LOCK_CALLS, {"callids": sorted(callids)})
        return set(connection.execute(_are_closed, {"callids": list(callids)}).scalars())

    def open_calls(self, server: str) -> list[str]:
        """Return the states of the calls of one FreeSWITCH that were not over."""
        with self.transaction() as connection:
            ours = and_(open_calls.c.server == server, open_calls.c.closed == 0)
            return list(
                connection.execute(
                    select(open_calls.c.state).where(ours).order_by(open_calls.c.callid)
                ).scalars()
            )

    def alive(self, server: str) -> int:
        """Return the last sign of life of a FreeSWITCH (microseconds since 1970), 0 if unknown."""
        known = self.known(_alive(server))
        return int(known) if known.isdigit() else 0

    def past_calls(self, server: str, most: int) -> list[str]:
        """Return the callids of the calls of one FreeSWITCH that were over last, the last last."""
        ours = and_(open_calls.c.server == server, open_calls.c.closed > 0)
        latest = select(open_calls.c.callid).where(ours).order_by(open_calls.c.closed.desc())
        with self.transaction() as connection:
            return list(connection.execute(latest.limit(most)).scalars())[::-1]

    def closed(self, callids: Collection[str]) -> set[str]:
        """Return which of some calls another worker has closed."""
        with self.transaction() as connection:
            closed = self._closed(connection, set(map(clean, callids)))
        return {callid for callid in callids if clean(callid) in closed}

    def fact(self, name: str, value: str) -> str:
        """Return what is known under `name`; the first caller's `value` is kept for good."""
        with self.transaction() as connection:
            connection.execute(
                self._insert(facts).on_conflict_do_nothing(), [{"name": name, "value": value}]
            )
            return fact_in(connection, name) or value

    def known(self, name: str) -> str:
        """Return what is known under `name`, "" if nothing is."""
        with self.transaction() as connection:
            return fact_in(connection, name)

    def replace_fact(self, name: str, value: str) -> str:
        """Note `value` under `name`; return what stood there, or "".

        A real write: it proves the disk.
        """
        with self._write() as connection:
            before = fact_in(connection, name)
            self.note(connection, name, value)
            return before

    def note(self, connection: Connection, name: str, value: str) -> None:
        """Note `value` under `name` within a transaction."""
        insert = self._insert(facts)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["name"], set_={"value": insert.excluded.value}
            ),
            [{"name": name, "value": value}],
        )

    def changes(self) -> Iterator[None]:
        """Yield whenever another process has written notices.

        At once on PostgreSQL, ten times a second on SQLite.
        """
        from . import watch  # noqa: PLC0415 - psycopg is only there with the postgres extra

        yield from watch.changes(self._engine, CHANNEL, self._limits)


def _alive(server: str) -> str:
    """Return the fact that a FreeSWITCH's last sign of life is kept under."""
    return f"alive {server}"[:64]


def fact_in(connection: Connection, name: str) -> str:
    """Return what is known under `name`, "" if nothing is, within a transaction."""
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar() or ""


def _prepare_postgresql(engine: Engine, limits: Limits, connection: Any, _: Any) -> None:
    """Limit what statements may take, and note what the database's text can hold (texts.py)."""
    limit_statements(connection, limits)
    engine.dialect.text_codec = connection.info.encoding  # type: ignore[attr-defined]


def _reason(error: SQLAlchemyError) -> str:
    """Return the driver's own words, one line, without the statement and its data."""
    words = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    reason = words.splitlines()[0]
    if "unable to open" in reason or "readonly" in reason:
        return f"{reason} (is the folder there, and may user {os.getuid()} write to it?)"
    return reason
