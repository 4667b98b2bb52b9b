"""Calls that are over, made up for the list of them."""

from __future__ import annotations

from dataclasses import replace

from fsplanfix.calls.model import Direction, Kind, Notice, Status
from fsplanfix.outbox.call_list import MOST_AT_ONCE, CallList, ListedCall, Place, Search
from fsplanfix.outbox.reader import Reader
from fsplanfix.outbox.store import Store


def call(
    callid: str,
    began: float,
    *exts: str,
    phone: str = "79161234567",
    name: str = "",
    taken_by: str = "",
    way: Direction = Direction.IN,
    talked: int = 60,
) -> list[Notice]:
    """A call of 10 s of ringing, in which somebody answers or nobody."""
    at = int(began * 1_000_000)
    ring, end = at + 10_000_000, at + (10 + talked) * 1_000_000
    opens = Kind.INCOMING if way is Direction.IN else Kind.OUTGOING
    lost = Status.MISSED if way is Direction.IN else Status.NO_ANSWER
    base = Notice(callid, opens, 1, at, way, phone, "74950000001")
    said = [replace(base, ext=ext) for ext in exts]
    if taken_by:
        said.append(replace(base, kind=Kind.ACCEPTED, at=ring, ext=taken_by))
    for ext in exts:
        status = Status.CANCELED if taken_by else lost
        length = 0
        if ext == taken_by:
            status, length = Status.SUCCESS, talked
        end_at = end if ext == taken_by else ring
        said.append(
            replace(
                base,
                kind=Kind.COMPLETED,
                at=end_at,
                ext=ext,
                status=status,
                duration=length,
                contact=name,
            )
        )
    return [replace(notice, position=n) for n, notice in enumerate(said, 1)]


def save(store: Store, *said: list[Notice], now: float = 1.0) -> None:
    for notices in said:
        store.save(notices, {notices[0].callid: None}, "s", now=now)


def listing(store: Store) -> CallList:
    return CallList(Reader(store))


def every_call(store: Store) -> list[ListedCall]:
    found: list[ListedCall] = []
    after: Place | None = None
    while page := listing(store).page(Search(), MOST_AT_ONCE, after):
        found += page
        after = page[-1].place
    return found
