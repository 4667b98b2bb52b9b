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

from ..calls.model import Kind, Notice
from ..calls.unfinished import left_open
from ..errors import StoreError
from . import cores
from .clock import Clock, database_now
from .facts import Facts
from .records import cleaned, notice_json, rows_of
from .schema import CHANNEL, heard, holds_up, is_waiting, metadata, notices, open_calls, prepare
from .store_file import StoreFile, is_damage, take_over
from .texts import CleanText, clean
from .time_limits import (
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

_earlier = notices.alias("earlier")
_due = func.coalesce(
    select(func.max(_earlier.c.due))
    .where(
        _earlier.c.callid == bindparam("b_callid"),
        is_waiting(_earlier),
        _earlier.c.due > bindparam("b_now"),
        or_(
            _earlier.c.ext == bindparam("b_ext"),
            holds_up(_earlier, bindparam("b_kind")),
            bindparam("b_kind") == Kind.RECORD.value,
        ),
    )
    .scalar_subquery(),
    bindparam("b_now"),
)
"""When a new notice is due: now, but not before what it waits for.

In an outage nobody looks at it in vain.
"""

_end = notices.alias("ending")
_is_end = and_(
    _end.c.callid == notices.c.callid,
    _end.c.ext == notices.c.ext,
    _end.c.ordinal == notices.c.ordinal,
    _end.c.kind == Kind.COMPLETED.value,
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
        self.limits = limits or Limits()
        self._file: StoreFile | None = None
        self.takes_writes = True
        self.facts = Facts(self)
        try:
            self.engine = self._connect(url)
            file = self.engine.url.database or ""
            if not create and self.engine.dialect.name == "sqlite" and not os.path.exists(file):
                raise StoreError(
                    f"There is no store at {file}: "
                    "go to the service's folder or set STORE_URL as it does."
                )
            self._prepare(self.engine)
            if self.engine.dialect.name == "sqlite" and file not in ("", ":memory:"):
                self._file = StoreFile(Path(file).absolute())
            self.now = Clock(self._time)
        except (ArgumentError, ModuleNotFoundError):
            raise StoreError(
                "STORE_URL is not a database address; write it like sqlite:///fsplanfix.db "
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
            settings = connection_settings(self.limits, parsed.query) | {"prepare_threshold": None}
            url_for = parsed.set(drivername="postgresql+psycopg")
            engine = create_engine(
                url_for, connect_args=settings, pool_pre_ping=True, max_overflow=50
            )
            event.listen(engine, "connect", partial(_prepare_postgresql, engine, self.limits))
            return engine
        engine, limits = create_engine(parsed), self.limits
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", lambda driver, _: prepare_sqlite(driver, limits))
            event.listen(engine, "begin", self._begin_sqlite)
        return engine

    def _time(self) -> float:
        if self.engine.dialect.name == "sqlite":
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
        if self.engine.dialect.name == "sqlite":
            return Path(self.engine.url.database or "fsplanfix.db").absolute()
        folder = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return Path(folder or ".").absolute() / "fsplanfix"

    def _begin_sqlite(self, connection: Connection) -> None:
        begin_sqlite(connection, self.limits)
        # it may have gone while we waited for the lock
        if connection.engine is self.engine and self._file and not self._file.is_there:
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
        old = self.engine.raw_connection()
        try:
            file.leave()
            fresh = self._connect(str(self.engine.url))
            self._prepare(fresh)
            hint = "what it held is in it again"
            try:
                take_over(old.driver_connection, file.path, COLUMNS)
            except sqlite3.Error as error:
                hint = "what the old one held could not be read"
                log.error("store_lost", file=str(file.path), problem=str(error))
        except SQLAlchemyError as error:
            raise StoreError(f"The file in STORE_URL is gone: {_reason(error)}.") from None
        finally:
            old.close()
        self.engine.dispose()
        self.engine, self._file = fresh, StoreFile(file.path)
        log.error("store_file_made_anew", file=str(file.path), hint=hint)

    @property
    def works(self) -> bool:
        """Tell whether it took what it was given last, and no damage to its file is known."""
        return self.takes_writes and not (self._file and self._file.damage)

    def look_over(self) -> None:
        """Look for damage in all of an SQLite file, beside everything else."""
        if self._file is not None:
            self._file.look_over()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection in a transaction of its own. Raises StoreError if it cannot."""
        if self._file is not None:
            self._stay_with_the_file(self._file)
        is_remote = self.engine.dialect.name == "postgresql"
        late = gevent.Timeout(self.limits.transaction if is_remote else None)
        try:
            with late, self.engine.begin() as connection:
                yield connection
        except (gevent.Timeout, SQLAlchemyError) as error:
            if comes_of(error, late):
                self.engine.dispose()  # the way to the other connections is as frozen
                raise StoreError("The database does not answer in time.") from None
            if isinstance(error, gevent.Timeout):
                raise
            if self._file and is_damage(getattr(error, "orig", None)):
                self._file.note_damage(_reason(error))
            raise StoreError(
                f"The database does not answer as it should: {_reason(error)}.",
                permanent=isinstance(error, (DataError, IntegrityError)),
            ) from None
        except (UnicodeError, OverflowError) as error:  # the driver cannot even send it
            raise StoreError(
                f"The database cannot hold this: {type(error).__name__}.", permanent=True
            ) from None

    @contextmanager
    def write(self) -> Iterator[Connection]:
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

    def insert(self, table: Any) -> Any:
        """Return an INSERT that may say what to do with a row that is there already."""
        return (postgresql if self.engine.dialect.name == "postgresql" else sqlite).insert(table)

    # statements that are written once

    @cached_property
    def _add_notices(self) -> Any:
        return self.insert(notices).values(due=_due).on_conflict_do_nothing()

    @cached_property
    def _put_calls(self) -> Any:
        insert = self.insert(open_calls)
        newer = {name: insert.excluded[name] for name in ("state", "closed", "server", "core")}
        return insert.on_conflict_do_update(index_elements=["callid"], set_=newer)

    @cached_property
    def _add_heard(self) -> Any:
        return self.insert(heard).on_conflict_do_nothing()

    # writing

    def save(
        self,
        said: Collection[Notice],
        calls: Mapping[str, str | None],
        server: str,
        now: float,
        events: Mapping[str, bytes] | None = None,
        reopened: Set[str] = frozenset(),
        alive: int | None = None,
        core: str = "",
    ) -> None:
        """Write notices and the calls they came from, all or nothing.

        What is there already stays as it is.

        calls: callid to state, None once the call is over. now: seconds since 1970. events: what
        FreeSWITCH said of calls that are over. Nothing is written about a call that another worker
        has closed, unless it was `reopened`; whatever was begun in one that is over now, by
        whomever, gets its end. server, core: the address and the Core-UUID of the FreeSWITCH, ""
        if unknown. alive: it was heard, and this is its last sign of life (microseconds since
        1970); None to leave what is known of it.
        """
        # whatever is compared with what the store holds must be as clean as that
        calls = {clean(callid): state for callid, state in calls.items()}
        reopened = set(map(clean, reopened))
        said = [cleaned(notice) for notice in said]
        with self.write() as connection:
            if alive is not None:
                cores.note_alive(connection, self.insert, server, core, alive, now)
            concerned = {*calls, *(notice.callid for notice in said)}
            closed = self._closed(connection, concerned) - reopened if concerned else set()
            over = {callid for callid, state in calls.items() if state is None} - closed
            due = [notice for notice in said if notice.callid not in closed]
            rows = rows_of(self._with_ends(connection, due, over), now)
            states = [
                {
                    "callid": callid,
                    "server": server,
                    "core": core,
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

    def open_calls(self, server: str, core: str = "") -> list[str]:
        """Return the states of the calls of one FreeSWITCH that were not over."""
        ours = and_(cores.is_of(server, core), open_calls.c.closed == 0)
        query = select(open_calls.c.state).where(ours).order_by(open_calls.c.callid)
        with self.transaction() as connection:
            return list(connection.execute(query).scalars())

    def alive(self, server: str, core: str = "") -> int:
        """Return the last sign of life of a FreeSWITCH (microseconds since 1970), 0 if unknown."""
        with self.transaction() as connection:
            return cores.alive(connection, server, core)

    def past_calls(self, server: str, most: int, core: str = "") -> list[str]:
        """Return the callids of the calls of one FreeSWITCH that were over last, the last last.

        Also of those that were at its address before it.
        """
        past = and_(cores.are_past(server, core), open_calls.c.closed > 0)
        latest = select(open_calls.c.callid).where(past).order_by(open_calls.c.closed.desc())
        with self.transaction() as connection:
            return list(connection.execute(latest.limit(most)).scalars())[::-1]

    def closed(self, callids: Collection[str]) -> set[str]:
        """Return which of some calls another worker has closed."""
        with self.transaction() as connection:
            closed = self._closed(connection, set(map(clean, callids)))
        return {callid for callid in callids if clean(callid) in closed}


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
