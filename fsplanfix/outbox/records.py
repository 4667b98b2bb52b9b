"""Notices as rows of the store, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from ..calls.model import ACCOUNT, MICROSECONDS, Kind, Notice, Status
from .schedule import POPUPS
from .schema import State
from .texts import clean

notice_json = TypeAdapter(Notice)


@dataclass(frozen=True, slots=True)
class Queued:
    """A notice as the queue holds it.

    attempts: how often it was sent. created, settled: seconds since 1970, settled 0 while it waits.
    """

    id: int
    notice: Notice
    attempts: int
    created: float
    state: State = State.WAITING
    answer: str = ""
    settled: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final state of a notice.

    tried: whether it was sent, and so counts as an attempt. has_link: it carried the link of the
    recording that its `linked_by` tells of, which need not be sent any more.
    """

    queued: Queued
    state: State
    answer: str = ""
    tried: bool = True
    has_link: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause in which nothing is sent. since, until: seconds since 1970."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Places:
    """How many notices may be claimed.

    each: of an account, at most. others: of each account of which fewer may be, such as those with
    requests under way. only: the account there is, "" if there are several. in_all: of several
    accounts together.
    """

    each: int
    others: Mapping[str, int] = field(default_factory=dict)
    only: str = ACCOUNT
    in_all: int = 0

    def but(self, others: Mapping[str, int]) -> Places:
        """Return the places with at most so many for some accounts."""
        fewer = {
            account: min(most, self.others.get(account, self.each))
            for account, most in others.items()
        }
        if self.only:
            return replace(self, each=fewer.get(self.only, self.each))
        return replace(self, others={**self.others, **fewer})


@dataclass(frozen=True, slots=True)
class Turn:
    """Notices claimed for sending.

    token_accepted: the accounts whose Planfix accepts our token again, after a 401. upcoming: when
    the next notice may be sent (seconds since 1970), None if none is planned. more_waits: another
    notice is due, and waits for a place or for what is under way.
    """

    claimed: list[Queued]
    token_accepted: list[str]
    upcoming: float | None
    more_waits: bool


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much is open, waiting and rejected.

    oldest: when the oldest waiting notice was written (seconds since 1970), None if none waits.
    unauthorized: whether Planfix rejects our token.
    """

    open_calls: int
    waiting: int
    rejected: int
    oldest: float | None
    unauthorized: bool


def whose(account: str) -> dict[str, str]:
    """Return the fields of a line of the log that say whose it is; none for the default account."""
    return {} if account == ACCOUNT else {"account": account}


LOOKED_UP = "caller looked up:"
"""How the journal's line about a lookup begins."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal.

    at: seconds since 1970. callid, ext, phone: "" where unknown. account: whose line it is.
    """

    at: float
    what: str
    callid: str = ""
    ext: str = ""
    phone: str = ""
    account: str = ACCOUNT


def cleaned(notice: Notice) -> Notice:
    """Return a notice with all its texts cleaned for the store.

    The columns clean them anyway (texts.py). Cleaning here makes the JSON in `body` agree.
    """
    texts = (
        *(notice.callid, notice.phone, notice.diversion, notice.ext, notice.recording),
        notice.contact,
        *notice.data,
        *notice.data.values(),
    )
    if all(text == clean(text) for text in texts):
        return notice

    return replace(
        notice,
        callid=clean(notice.callid),
        phone=clean(notice.phone),
        diversion=clean(notice.diversion),
        ext=clean(notice.ext),
        recording=clean(notice.recording),
        contact=clean(notice.contact),
        data={clean(name): clean(value) for name, value in notice.data.items()},
    )


def queued_from(row: Any) -> Queued:
    """Return the notice in a row of the table."""
    notice = notice_json.validate_json(row["body"])
    return Queued(
        row["id"],
        notice,
        row["attempts"],
        row["created"],
        State(row["state"]),
        row["answer"],
        row["settled"],
    )


def entry_from(row: Any) -> Entry:
    """Return the line of the journal in a row of the table."""
    return Entry(row["at"], row["what"], row["callid"], row["ext"], row["phone"], row["account"])


def rows_of(new: Sequence[Notice], now: float) -> list[dict[str, Any]]:
    """Return the parameters that write notices, in order.

    new: all notices that one write brings, in order. now: seconds since 1970.

    Later notices of a call wait for its barriers: its first INCOMING or OUTGOING, every ACCEPTED,
    and the Canceled of a hop (docs/delivery-rules.md, rule 3).
    """
    given_up = _given_up(new)
    rows = []
    for n, notice in enumerate(new):
        is_first = notice.position == 1
        barrier = is_first or notice.kind is Kind.ACCEPTED or n in given_up
        rows.append(_row(notice, now, barrier))
    return rows


def _given_up(new: Sequence[Notice]) -> set[int]:
    """Return the indexes of the Canceled that a hop puts before the next INCOMING.

    One event leads to these Canceled and to that INCOMING (docs/call-rules.md, rule 3), so one
    write brings them all. The Canceled of phones that lost to an ACCEPTED are not among them:
    nothing waits for those.
    """
    # In 3 of 10 live hops the second INCOMING overtook the Canceled before it
    # (docs/delivery-rules.md, rule 3).
    found: set[int] = set()
    cancelled: dict[str, list[int]] = {}
    picked_up: set[str] = set()

    for n, notice in enumerate(new):
        if notice.kind is Kind.ACCEPTED:
            picked_up.add(notice.callid)
        elif notice.kind is Kind.INCOMING:
            picked_up.discard(notice.callid)
            found.update(cancelled.pop(notice.callid, ()))
        elif notice.status is Status.CANCELED and notice.callid not in picked_up:
            cancelled.setdefault(notice.callid, []).append(n)

    return found


def _row(notice: Notice, now: float, barrier: bool) -> dict[str, Any]:
    """Return the parameters that write a notice and say when it is due (DUE in statements.py)."""
    created = now
    if notice.afterwards and notice.kind in POPUPS:
        # a window is as old as what it shows, and is skipped (docs/delivery-rules.md, rule 5)
        created = min(now, notice.at / MICROSECONDS)
    return {
        "callid": notice.callid,
        "ext": notice.ext,
        "kind": notice.kind.value,
        "ordinal": notice.ordinal,
        "position": notice.position,
        "barrier": barrier,
        "body": notice_json.dump_json(notice).decode(),
        "account": notice.account,
        "created": created,
        "b_now": now,
        "b_callid": notice.callid,
        "b_ext": notice.ext,
        "b_kind": notice.kind.value,
    }
