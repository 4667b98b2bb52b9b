"""Notices of made-up calls, and a courier that claims and settles them step by step."""

from __future__ import annotations

import dataclasses
import json

from sqlalchemy import select, update

from fsplanfix.calls.model import ACCOUNT, Direction, Kind, Notice, Status
from fsplanfix.outbox.due import LEASE
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Outcome, Places, Queued
from fsplanfix.outbox.schema import State, notices
from fsplanfix.outbox.store import Store

ME = "courier-1"


FIRST = Notice("c1", Kind.INCOMING, 1, 5, Direction.IN, "79161234567", ext="101")


def notice(
    kind: Kind, ext: str, position: int, callid: str = "c1", status: Status | None = None
) -> Notice:
    return dataclasses.replace(
        FIRST, callid=callid, kind=kind, ext=ext, position=position, status=status
    )


GROUP = [
    notice(Kind.INCOMING, "101", 1),
    notice(Kind.INCOMING, "102", 2),
    notice(Kind.INCOMING, "103", 3),
    notice(Kind.ACCEPTED, "102", 4),
    notice(Kind.COMPLETED, "101", 5, status=Status.CANCELED),
    notice(Kind.COMPLETED, "103", 6, status=Status.CANCELED),
    notice(Kind.COMPLETED, "102", 7, status=Status.SUCCESS),
    notice(Kind.RECORD, "", 8),
]


def canceled(ext: str, position: int) -> Notice:
    return notice(Kind.COMPLETED, ext, position, status=Status.CANCELED)


def claim(store: Store, most: int, now: float, owner: str, account: str = ACCOUNT) -> list[Queued]:
    return Queue(store).settle_and_claim([], Places(most, only=account), now, owner).claimed


def let_leases_end(store: Store) -> None:
    """As if so much time had passed in the database."""
    ended = update(notices).values(leased_until=notices.c.leased_until - LEASE)
    with store.transaction() as connection:
        connection.execute(ended.where(notices.c.leased_until > 0))


def forget_rules(store: Store) -> None:
    """Leave out of every stored notice the rule behind it, as releases before 0.2.0 did."""
    with store.transaction() as connection:
        for row in connection.execute(select(notices.c.id, notices.c.body)).all():
            body = json.loads(row.body)
            del body["rule"]
            shorter = update(notices).where(notices.c.id == row.id).values(body=json.dumps(body))
            connection.execute(shorter)


def settle(store: Store, queued: Queued, state: State, now: float, answer: str = "") -> None:
    Queue(store).settle_and_claim([Outcome(queued, state, answer)], Places(0), now, ME)


OFFERS = [notice(Kind.INCOMING, ext, n) for n, ext in enumerate(("101", "102", "103"), 1)]


HOP = [canceled("101", 4), canceled("102", 5), canceled("103", 6), notice(Kind.INCOMING, "104", 7)]


def waves(store: Store) -> list[list[str]]:
    """Send everything; return what went out together, as kind and ext."""
    sent: list[list[str]] = []
    while found := claim(store, 100, 100.0, ME):
        sent.append([f"{q.notice.kind.value} {q.notice.ext}".strip() for q in found])
        for queued in found:
            settle(store, queued, State.DONE, 100.0)
    return sent
