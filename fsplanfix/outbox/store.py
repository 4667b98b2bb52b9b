"""The durable outbox, on SQLite or PostgreSQL.

Notices and the states of the calls they came from are written in one transaction
(docs/delivery-rules.md, rule 1).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Set
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gevent
import structlog
from sqlalchemy import (
    Connection,
    Engine,
    and_,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from ..calls.model import Kind, Notice
from ..calls.unfinished import left_open
from ..errors import StoreError
from . import cores
from .call_rows import list_calls
from .clock import Clock, database_now
from .engine import open_engine
from .facts import Facts
from .prepared import driver_of, together
from .records import cleaned, notice_json, rows_of
from .schema import metadata, notices, open_calls, prepare
from .statements import (
    ADD_HEARD,
    ADD_NOTICES,
    ARE_CLOSED,
    BEGUN,
    LOCK_CALLS,
    PUT_CALLS,
    WAKE_OTHERS,
)
from .store_file import StoreFile, is_damage, make_private, take_over
from .texts import clean
from .time_limits import (
    LAZILY,
    Limits,
    is_caused_by,
)

log = structlog.get_logger(__name__)

_TIME = str(select(database_now()).compile(dialect=sqlite.dialect()))

COLUMNS = {
    name: [column.name for column in table.columns if column.name != "id"]
    for name, table in metadata.tables.items()
}
"""The names of each table's columns, without the ids."""

MOST_KEPT = 5
"""Connections to SQLite that are kept. The pool counts them as used, and has 15 places in all."""


class Store:
    """Opens the database and makes its tables. Raises StoreError with a hint.

    create: whether a missing SQLite file is made. takes_writes: whether the last write succeeded.
    now: the database's clock, seconds since 1970.
    """

    def __init__(self, url: str, create: bool = True, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._file: StoreFile | None = None
        self._is_unflushed = False
        self._free: list[Connection] = []
        self.takes_writes = True
        self.facts = Facts(self)

        try:
            self.engine = open_engine(url, self.limits)
            file = self.engine.url.database or ""
            if not create and self.engine.dialect.name == "sqlite" and not os.path.exists(file):
                raise StoreError(
                    f"There is no store at {file}: "
                    "go to the service's folder or set STORE_URL as it does."
                )

            is_file = self.engine.dialect.name == "sqlite" and file not in ("", ":memory:")
            if is_file:
                make_private(Path(file))
            self._prepare(self.engine)
            if is_file:
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
                    # an upgrade may change large tables, which takes longer than Limits allow
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    connection.execute(text("SET LOCAL lock_timeout = 0"))
                    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                    # of workers that start at the same time, one makes the tables
                    connection.execute(text("SELECT pg_advisory_xact_lock(7461001)"))
                prepare(connection)
        except BaseException:
            engine.dispose()
            raise

    @property
    def _driver(self) -> Any:
        return self.engine.dialect.loaded_dbapi

    def _time(self) -> float:
        if self.engine.dialect.name == "sqlite":
            # all programs that open the file are on this machine, so any SQLite gives the same
            # time, and this one needs no lock
            with closing(sqlite3.connect(":memory:")) as clock:
                return float(clock.execute(_TIME).fetchone()[0])

        with self.transaction() as connection:
            return float(connection.execute(select(database_now())).scalar_one())

    @property
    def beside(self) -> Path:
        """Return the beginning of the paths of files that belong to the store.

        They are put beside an SQLite file, else into systemd's StateDirectory or the service's
        folder.
        """
        if self.engine.dialect.name == "sqlite":
            return Path(self.engine.url.database or "fsplanfix.db").absolute()

        # systemd separates several folders with colons
        folder = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return Path(folder or ".").absolute() / "fsplanfix"

    def _stay_with_the_file(self, file: StoreFile) -> None:
        """Switch to a new file if the one we opened was deleted or replaced.

        The new one gets everything the old one holds, which can be read as long as it is open.
        """
        if file.is_emptied:
            raise StoreError("The file in STORE_URL was emptied: put a copy of it in its place.")
        if file.is_there:
            return

        if not file.is_missed:
            file.is_missed = True
            log.error("store_file_gone", file=str(file.path))

        old = self._take()
        try:
            file.leave()
            make_private(file.path)
            fresh = open_engine(str(self.engine.url), self.limits)
            self._prepare(fresh)

            hint = "what it held is in it again"
            try:
                take_over(driver_of(old), file.path, COLUMNS)
            except sqlite3.Error as error:
                hint = "what the old one held could not be read"
                log.error("store_lost", file=str(file.path), problem=str(error))
        except SQLAlchemyError as error:
            raise StoreError(f"The file in STORE_URL is gone: {_reason(error)}.") from None
        finally:
            old.close()

        self.close()
        self.engine, self._file = fresh, StoreFile(file.path)
        log.error("store_file_made_anew", file=str(file.path), hint=hint)

    @property
    def is_working(self) -> bool:
        """Tell whether the last write succeeded and no damage to the file is known."""
        return self.takes_writes and not (self._file and self._file.damage)

    def glance(self) -> None:
        """Look for the damage to an SQLite file that shows at once, in a thread."""
        if self._file is not None:
            self._file.glance()

    def look_over(self) -> None:
        """Look for damage in the whole of an SQLite file, in a thread."""
        if self._file is not None:
            self._file.look_over()

    def flush(self) -> None:
        """Have the disk take what was committed lazily; other greenlets run meanwhile.

        Raises StoreError if it refuses.
        """
        # never on PostgreSQL: what it commits without the disk is also lost if it is killed
        if self._is_unflushed and self._file is not None:
            self._is_unflushed = False
            try:
                self._file.flush()
            except StoreError:
                self._is_unflushed = True
                raise

    def keep_private(self) -> None:
        """Close the file of the store to other users of the machine."""
        if self._file is not None:
            self._file.close_to_others()

    def close(self) -> None:
        """Close every connection."""
        for connection in self._free:
            connection.close()
        self._free.clear()
        self.engine.dispose()

    @contextmanager
    def transaction(self, limit: float | None = None, lazily: bool = False) -> Iterator[Connection]:
        """Give a connection in a transaction of its own. Raises StoreError if it cannot.

        limit: seconds that it may take on PostgreSQL, None for Limits.transaction. lazily: with
        SQLite a power cut, and nothing else, may undo it until the disk has it (`keep_flushing`).
        """
        if self._file is not None:
            self._stay_with_the_file(self._file)

        # SQLite needs no time limit: only its lock makes us wait, and that has one (time_limits.py)
        is_remote = self.engine.dialect.name == "postgresql"
        late = gevent.Timeout((limit or self.limits.transaction) if is_remote else None)
        try:
            with late, self.connection() as connection:
                connection.info[LAZILY] = lazily
                with connection.begin():
                    # while we waited for the lock the file may have been deleted, or replaced and
                    # the engine with it
                    is_left = connection.engine is not self.engine
                    if self._file and (is_left or not self._file.is_there):
                        raise StoreError("The file in STORE_URL was deleted or replaced.")
                    yield connection
                self._is_unflushed |= lazily
        except (gevent.Timeout, SQLAlchemyError, self._driver.Error) as error:
            if is_caused_by(error, late):
                # the pool's other connections take the same frozen path
                self.engine.dispose()
                raise StoreError("The database does not answer in time.") from None

            # a time-out of our caller's, not of ours
            if isinstance(error, gevent.Timeout):
                raise

            # of a prepared statement it is the driver's own, of all others SQLAlchemy's around it
            if self._file and is_damage(getattr(error, "orig", error)):
                self._file.note_damage(_reason(error))
            refusals = (DataError, IntegrityError, self._driver.DataError)
            raise StoreError(
                f"The database does not answer as it should: {_reason(error)}.",
                permanent=isinstance(error, (*refusals, self._driver.IntegrityError)),
            ) from None
        except (UnicodeError, OverflowError) as error:
            # the driver could not encode the value, so the database never saw it
            raise StoreError(
                f"The database cannot hold this: {type(error).__name__}.", permanent=True
            ) from None

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Give a connection that nobody else uses; SQLite's are kept for whoever asks next.

        To get one of SQLAlchemy's and to give it back takes four times as long as SQLite's begin
        and commit (docs/performance.md). One to PostgreSQL may break meanwhile: the pool asks it.
        """
        if self._file is None:
            with self.engine.connect() as connection:
                yield connection
            return

        connection = self._take()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        # the file may have been replaced meanwhile, and the engine with it
        if connection.engine is self.engine and len(self._free) < MOST_KEPT:
            self._free.append(connection)
        else:
            connection.close()

    def _take(self) -> Connection:
        return self._free.pop() if self._free else self.engine.connect()

    @contextmanager
    def write(self, lazily: bool = False) -> Iterator[Connection]:
        """Give a connection in a transaction that writes, and keep in `takes_writes` how it ended.

        lazily: see `transaction`. Raises StoreError.
        """
        try:
            with self.transaction(lazily=lazily) as connection:
                yield connection
        except StoreError as error:
            if self.takes_writes and not error.permanent:
                self.takes_writes = False
                log.error("store_takes_nothing", problem=str(error))
            raise

        if not self.takes_writes:
            self.takes_writes = True
            log.info("store_takes_writes_again")

    # writing

    def save(
        self,
        new: Collection[Notice],
        calls: Mapping[str, str | None],
        server: str,
        now: float,
        events: Mapping[str, bytes] | None = None,
        reopened: Set[str] = frozenset(),
        alive: int | None = None,
        core: str = "",
    ) -> None:
        """Write notices and the states of the calls they came from, all or nothing.

        A notice that is in the store already stays as it is (docs/delivery-rules.md, rule 2).
        Nothing is written about a call that another worker has closed, unless it was `reopened`. In
        a call that is over now, every part without an end gets one, whichever worker began it
        (rule 8), and the call gets its row in `calls`.

        calls: callid to state, None once the call is over.
        server, core: the address and the Core-UUID of the FreeSWITCH, "" if unknown.
        now: seconds since 1970.
        events: the packed events of calls that are over, by callid.
        alive: the last sign of life of the FreeSWITCH (microseconds since 1970); None keeps the
        one in the store.
        """
        # the store holds cleaned text (texts.py), and these are compared with it
        calls = {clean(callid): state for callid, state in calls.items()}
        reopened = set(map(clean, reopened))
        new = [cleaned(notice) for notice in new]

        with self.write(lazily=True) as connection:
            if alive is not None:
                cores.write_alive(connection, server, core, alive, now)

            closed: set[str] = set()
            concerned = {*calls, *(notice.callid for notice in new)}
            if concerned:
                closed = self._closed(connection, concerned) - reopened

            over = {callid for callid, state in calls.items() if state is None} - closed
            due = [notice for notice in new if notice.callid not in closed]
            rows = rows_of(self._with_ends(connection, due, over), now)
            place = {"server": server, "core": core}
            # a call that is over keeps its row: workers that heard less find it closed
            states = [
                {"callid": callid, **place, "state": state or "", "closed": 0 if state else now}
                for callid, state in calls.items()
                if callid not in closed
            ]

            heard = (events or {}).items()
            kept = [{"callid": clean(callid), "at": now, "events": it} for callid, it in heard]
            with together(connection):
                self._write(connection, rows, states, kept)
            list_calls(connection, over, over & reopened, now)

        # states alone may be lost in a power cut: FreeSWITCH is asked for its calls after it
        if new:
            self.flush()

    def _write(
        self, connection: Connection, rows: list[Any], states: list[Any], kept: list[Any]
    ) -> None:
        """Write rows of notices, open calls and events; wake the other workers' couriers."""
        if rows:
            ADD_NOTICES.run_each(connection, rows)
        if states:
            PUT_CALLS.run_each(connection, states)
        if kept:
            ADD_HEARD.run_each(connection, kept)
        if rows and connection.dialect.name == "postgresql":
            WAKE_OTHERS.run(connection, {})

    def _with_ends(self, connection: Connection, due: list[Notice], over: set[str]) -> list[Notice]:
        """Add the COMPLETED that are missing in calls that are over, before their recordings.

        They are missing if another worker began the part: one that linked a moment later knew of
        one ringing phone of three and closed the call, and two windows stayed open.
        """
        if not over:
            return due

        begun = set(BEGUN.run(connection, {"callids": list(over)}).fetchall())
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

        # a record waits for everything before it in its call (rule 3), so it comes last
        return sorted([*due, *ends], key=lambda notice: notice.kind is Kind.RECORD)

    def _closed(self, connection: Connection, callids: set[str]) -> set[str]:
        """Return which calls are closed already.

        No other worker can close one of them until we have committed.
        """
        named = {"callids": sorted(callids)}
        with together(connection):
            # an SQLite transaction begins with BEGIN IMMEDIATE, which keeps all other writers out
            if connection.dialect.name == "postgresql":
                LOCK_CALLS.run(connection, named)
            closed = ARE_CLOSED.run(connection, named)
        return {callid for (callid,) in closed.fetchall()}

    def open_calls(self, server: str, core: str = "") -> list[str]:
        """Return the states of the open calls of one FreeSWITCH, as JSON."""
        ours = and_(cores.calls_of(server, core), open_calls.c.closed == 0)
        query = select(open_calls.c.callid, open_calls.c.state).where(ours)
        with self.transaction() as connection:
            # SQLite would move 10,000 states about to sort them: 45 ms instead of 5
            return [state for _, state in sorted(map(tuple, connection.execute(query)))]

    def all_open_calls(self) -> list[str]:
        """Return the states of the open calls of every FreeSWITCH, as JSON."""
        query = select(open_calls.c.state).where(open_calls.c.closed == 0)
        with self.transaction() as connection:
            return list(connection.execute(query).scalars())

    def alive(self, server: str, core: str = "") -> int:
        """Return the last sign of life of a FreeSWITCH (microseconds since 1970), 0 if unknown."""
        with self.transaction() as connection:
            return cores.alive(connection, server, core)

    def past_calls(self, server: str, most: int, core: str = "") -> list[str]:
        """Return the callids of the calls of one FreeSWITCH that ended last, the latest at the end.

        Includes calls of the FreeSWITCHes that were at its address before. most: how many.
        """
        past = and_(cores.past_calls_of(server, core), open_calls.c.closed > 0)
        latest = select(open_calls.c.callid).where(past).order_by(open_calls.c.closed.desc())
        with self.transaction() as connection:
            return list(connection.execute(latest.limit(most)).scalars())[::-1]

    def closed(self, callids: Collection[str]) -> set[str]:
        """Return those of some calls that another worker has closed."""
        with self.transaction() as connection:
            closed = self._closed(connection, set(map(clean, callids)))
        return {callid for callid in callids if clean(callid) in closed}


def _reason(error: BaseException) -> str:
    """Return the driver's message, its first line, without the statement and its data.

    The data are callids, numbers and Planfix's answers: they do not belong in the log.
    """
    words = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    reason = words.splitlines()[0]

    if "unable to open" in reason or "readonly" in reason:
        return f"{reason} (is the folder there, and may user {os.getuid()} write to it?)"
    return reason
