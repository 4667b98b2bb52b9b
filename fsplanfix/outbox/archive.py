"""What the store keeps for people: notices, Planfix's answers, the journal, packed events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select

from ..calls.model import ACCOUNT, Direction, Kind
from .records import LOOKED_UP, Entry, Queued, entry_from, queued_from
from .schema import calls, heard, journal, notices, open_calls
from .store import Store

_written = select(notices.c.id, notices.c.created, notices.c.body)


class Written(NamedTuple):
    """A notice as it was written. created: seconds since 1970. body: the notice as JSON."""

    id: int
    created: float
    body: str


class Known(NamedTuple):
    """A call of which something is kept. at: the time of its first row, seconds since 1970."""

    callid: str
    at: float


class Archive:
    """Reads and adds to a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write_down(self, *entries: Entry) -> None:
        """Add lines to the journal."""
        with self._store.transaction(lazily=True) as connection:
            connection.execute(journal.insert(), [asdict(entry) for entry in entries])

    def has_notice_of(self, account: str) -> bool:
        """Tell whether a notice of an account is kept."""
        of_account = select(notices.c.id).where(notices.c.account == account).limit(1)
        with self._store.transaction() as connection:
            return connection.execute(of_account).first() is not None

    def about(self, callid: str) -> tuple[list[Queued], list[Entry]]:
        """Return the notices and journal lines of a call, in order."""
        of_call = select(notices).where(notices.c.callid == callid).order_by(notices.c.id)
        about_call = select(journal).where(journal.c.callid == callid).order_by(journal.c.id)

        with self._store.transaction() as connection:
            rows = connection.execute(of_call).mappings().all()
            lines = connection.execute(about_call).mappings().all()

        return [queued_from(row) for row in rows], [entry_from(line) for line in lines]

    def refused(self, phone: str) -> list[Entry]:
        """Return the journal lines about a number (E.164 digits) that led to no call."""
        query = (
            select(journal)
            .where(journal.c.phone == phone, journal.c.callid == "")
            .order_by(journal.c.id)
        )

        with self._store.transaction() as connection:
            return [entry_from(line) for line in connection.execute(query).mappings()]

    def last_line(self, phone: str, account: str = ACCOUNT) -> str:
        """Return the line of an account that a number called last, "" if none is known.

        phone: E.164 digits.
        """
        came_in = (
            *(calls.c.phone == phone, calls.c.account == account),
            *(calls.c.direction == Direction.IN, calls.c.line != ""),
        )
        query = select(calls.c.line).where(*came_in).order_by(calls.c.began.desc()).limit(1)
        with self._store.transaction() as connection:
            return str(connection.execute(query).scalar() or "")

    def never_asked_about(self) -> set[str]:
        """Return the accounts whose calls came in while the dialplan asked about no caller."""
        came_in = select(calls.c.account).where(calls.c.direction == Direction.IN).distinct()
        asked = select(journal.c.account).where(journal.c.what.startswith(LOOKED_UP)).distinct()
        with self._store.transaction() as connection:
            called = set(connection.execute(came_in).scalars())
            return called - set(connection.execute(asked).scalars())

    def calls(self, callid: str, phone: str) -> list[str]:
        """Return this callid if it is known, else the calls with a number (E.164 digits, or "")."""
        if self.is_known(callid):
            return [callid]
        if phone:
            return [known.callid for known in self.calls_with(phone)]
        return []

    def is_known(self, callid: str) -> bool:
        """Return whether anything is kept of a call."""
        return bool(self.heard(callid)) or any(self.about(callid))

    def beginning_with(self, text: str, most: int) -> list[Known]:
        """Return the calls whose callid begins with a text, the oldest first, at most so many."""
        times = ((notices, notices.c.created), (journal, journal.c.at), (heard, heard.c.at))
        queries = [
            select(table.c.callid, func.min(at).label("at"))
            .where(table.c.callid.startswith(text, autoescape=True), table.c.callid != "")
            .group_by(table.c.callid)
            .order_by("at")
            .limit(most)
            for table, at in times
        ]

        with self._store.transaction() as connection:
            rows = [row for query in queries for row in connection.execute(query)]

        return _first_rows(rows)[:most]

    def calls_with(self, phone: str) -> list[Known]:
        """Return the calls with a client's number (E.164 digits), the oldest first."""
        # a notice's phone has no column of its own: it is found in the JSON, which has no spaces
        body = notices.c.body.contains(f'"phone":"{phone}"', autoescape=True)
        of_notices = select(notices.c.callid, notices.c.created.label("at")).where(body)
        of_journal = select(journal.c.callid, journal.c.at).where(
            journal.c.phone == phone, journal.c.callid != ""
        )

        with self._store.transaction() as connection:
            return _first_rows(connection.execute(of_notices.union_all(of_journal)).all())

    def open_calls(self) -> list[str]:
        """Return the states of all calls that are not over, as JSON."""
        query = (
            select(open_calls.c.state).where(open_calls.c.closed == 0).order_by(open_calls.c.callid)
        )
        with self._store.transaction() as connection:
            return list(connection.execute(query).scalars())

    def before(self, notice: int | None, most: int, kind: Kind | None = None) -> list[Written]:
        """Return the newest notices before one (None: of all), the newest first."""
        query = _written.order_by(notices.c.id.desc()).limit(most)

        if notice is not None:
            query = query.where(notices.c.id < notice)
        if kind is not None:
            query = query.where(notices.c.kind == kind.value)

        return self._read(query)

    def after(self, notice: int, most: int) -> list[Written]:
        """Return the oldest notices after one, the oldest first."""
        query = _written.order_by(notices.c.id).limit(most)
        return self._read(query.where(notices.c.id > notice))

    def _read(self, query: Select[tuple[int, float, str]]) -> list[Written]:
        with self._store.transaction() as connection:
            return [Written(row.id, row.created, row.body) for row in connection.execute(query)]

    def last_call(self) -> str:
        """Return the callid of the call with the latest row, "" if there is none."""
        times = ((notices, notices.c.created), (journal, journal.c.at), (heard, heard.c.at))
        lasts = [
            select(at, table.c.callid).where(table.c.callid != "").order_by(at.desc())
            for table, at in times
        ]

        with self._store.transaction() as connection:
            found = [connection.execute(last.limit(1)).first() for last in lasts]

        return max(((row[0], str(row[1])) for row in found if row), default=(0.0, ""))[1]

    def last_ended_call(self) -> str:
        """Return the callid of the last call that is over, "" if there is none."""
        query = select(heard.c.callid).order_by(heard.c.at.desc()).limit(1)
        with self._store.transaction() as connection:
            return connection.execute(query).scalar() or ""

    def heard(self, callid: str) -> bytes:
        """Return the events of a call that is over, packed (calls/event_log.py); b"" if unknown."""
        query = select(heard.c.events).where(heard.c.callid == callid)
        with self._store.transaction() as connection:
            return connection.execute(query).scalar() or b""


def _first_rows(rows: Iterable[Any]) -> list[Known]:
    """Return each call once with its first row, the oldest first."""
    first: dict[str, float] = {}
    for row in rows:
        callid = str(row.callid)
        first[callid] = min(row.at, first.get(callid, row.at))
    return sorted((Known(*call) for call in first.items()), key=lambda known: known.at)
