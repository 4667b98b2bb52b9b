"""Notices as rows of the store, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from ..calls.model import Kind, Notice
from .tables import WAITING

notice_json = TypeAdapter(Notice)


@dataclass(frozen=True, slots=True)
class Queued:
    """A notice whose turn it is. created, settled: seconds since 1970. attempts: tries so far."""

    id: int
    notice: Notice
    attempts: int
    created: float
    state: str = WAITING
    answer: str = ""
    settled: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a notice for good. tried: whether it was sent, and so counts as a try."""

    queued: Queued
    state: str
    answer: str = ""
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is. known_again: Planfix knows our token again.

    upcoming: when something that may not be sent yet may be (seconds since 1970), None if nothing
    is known to.
    """

    claimed: list[Queued]
    known_again: bool
    upcoming: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How things stand. oldest: when the oldest waiting notice was written, None without any."""

    open_calls: int
    waiting: int
    dead: int
    oldest: float | None
    unauthorized: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal. at: seconds since 1970. callid, ext, phone: "" where unknown."""

    at: float
    what: str
    callid: str = ""
    ext: str = ""
    phone: str = ""


def is_barrier(notice: Notice) -> bool:
    """Tell whether later notices wait: the call's first INCOMING or OUTGOING, every ACCEPTED."""
    return notice.position == 1 or notice.kind is Kind.ACCEPTED


def queued_from(row: Any) -> Queued:
    """Return the notice in a row of the table."""
    notice = notice_json.validate_json(row["body"])
    return Queued(
        row["id"],
        notice,
        row["attempts"],
        row["created"],
        row["state"],
        row["answer"],
        row["settled"],
    )


def entry_from(row: Any) -> Entry:
    """Return the line of the journal in a row of the table."""
    return Entry(row["at"], row["what"], row["callid"], row["ext"], row["phone"])


def row_of(notice: Notice, now: float) -> dict[str, Any]:
    """Return the parameters that write a notice now (seconds since 1970).

    The last four say when it is due.
    """
    return {
        "callid": notice.callid,
        "ext": notice.ext,
        "kind": notice.kind.value,
        "ordinal": notice.ordinal,
        "position": notice.position,
        "barrier": is_barrier(notice),
        "body": notice_json.dump_json(notice).decode(),
        "created": now,
        "now": now,
        "call": notice.callid,
        "part": notice.ext,
        "what": notice.kind.value,
    }
