"""What a call came to, from everything that Planfix is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .model import ACCOUNT, MICROSECONDS, Direction, Kind, Notice, Status


class Result(StrEnum):
    """How a call ended, whoever was rung.

    UNKNOWN: nobody listened to its end (docs/call-rules.md, rule 15). CANCELED: the employee gave
    up before the client answered.
    """

    ANSWERED = "answered"
    MISSED = "missed"
    BUSY = "busy"
    NO_ANSWER = "no answer"
    NOT_AVAILABLE = "unreachable"
    NOT_ALLOWED = "not allowed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"


UNANSWERED = {
    Status.BUSY: Result.BUSY,
    Status.NO_ANSWER: Result.NO_ANSWER,
    Status.NOT_AVAILABLE: Result.NOT_AVAILABLE,
    Status.NOT_ALLOWED: Result.NOT_ALLOWED,
    Status.CANCELED: Result.CANCELED,
}
"""The results of an outgoing call that the client did not answer."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one employee had of a call: one entry for each ext, however often it rang.

    status: Success if they talked, else how their last part ended. talked: whole seconds.
    """

    ext: str
    status: Status
    talked: int


@dataclass(frozen=True, slots=True)
class CallResult:
    """One call that is over.

    began: its first notice, microseconds since 1970. waited: whole seconds from the first ring to
    the answer or to the end, None if no phone rang. talked: whole seconds, of all who talked.
    line: the number of ours. name: the client's, "" if unknown. recordings: how many.
    shares: who talked, in the order in which they got the client, then who else was rung.
    account: whose call it was.
    """

    callid: str
    began: int
    direction: Direction
    phone: str
    line: str
    name: str
    result: Result
    waited: int | None
    talked: int
    recordings: int
    shares: tuple[Share, ...]
    account: str = ACCOUNT

    @property
    def answered_by(self) -> str:
        """Return the ext that talked first, "" if nobody with an ext did."""
        if self.shares and self.shares[0].status is Status.SUCCESS:
            return self.shares[0].ext
        return ""


def result_of(told: Sequence[Notice]) -> CallResult | None:
    """Return what a call that is over came to, None if nothing was told of it.

    told: all its notices, in the order in which they were written.
    """
    parts = [notice for notice in told if notice.kind is not Kind.RECORD]
    if not parts:
        return None

    first = parts[0]
    return CallResult(
        callid=first.callid,
        began=min(notice.at for notice in parts),
        direction=first.type,
        phone=first.phone,
        line=next((notice.diversion for notice in parts if notice.diversion), ""),
        name=next((notice.contact for notice in reversed(parts) if notice.contact), ""),
        result=_result(first.type, parts),
        waited=_waited(parts),
        talked=sum(notice.duration for notice in parts),
        recordings=len(told) - len(parts),
        shares=_shares(parts),
        account=first.account,
    )


def _result(direction: Direction, parts: Sequence[Notice]) -> Result:
    if any(notice.kind is Kind.ACCEPTED or notice.status is Status.SUCCESS for notice in parts):
        return Result.ANSWERED

    ends = [notice for notice in parts if notice.kind is Kind.COMPLETED]
    if direction is Direction.OUT:
        for notice in reversed(ends):
            if notice.status in UNANSWERED:
                return UNANSWERED[notice.status]
        return Result.UNKNOWN

    # With MISSED=none all get Canceled, and the call was missed all the same.
    if any(notice.rule == "15" for notice in ends):
        return Result.UNKNOWN
    return Result.MISSED


def _waited(parts: Sequence[Notice]) -> int | None:
    """Return how long the client, or in an outgoing call the employee, waited."""
    # by rules 5 and 6 a part is told of afterwards: no phone rang for it
    rings = [
        notice.at
        for notice in parts
        if notice.kind in (Kind.INCOMING, Kind.OUTGOING) and notice.rule not in ("5", "6")
    ]
    if not rings:
        return None

    answers = [notice.at for notice in parts if notice.kind is Kind.ACCEPTED]
    # who was not answered waited until the end
    until = min(answers, default=max(notice.at for notice in parts))
    return max(until - min(rings), 0) // MICROSECONDS


def _shares(parts: Sequence[Notice]) -> tuple[Share, ...]:
    statuses: dict[str, Status] = {}
    talked: dict[str, int] = {}
    for notice in parts:
        if notice.status is Status.SUCCESS:
            talked[notice.ext] = talked.get(notice.ext, 0) + notice.duration
        if notice.status is not None and statuses.get(notice.ext) is not Status.SUCCESS:
            statuses[notice.ext] = notice.status

    accepted = [notice.ext for notice in parts if notice.kind is Kind.ACCEPTED]
    rung = [notice.ext for notice in parts if notice.ext in statuses]
    in_order = dict.fromkeys([*(ext for ext in accepted if ext in talked), *talked, *rung])
    return tuple(Share(ext, statuses[ext], talked.get(ext, 0)) for ext in in_order)
