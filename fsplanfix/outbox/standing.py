"""How the queue stands, read beside the work (reader.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select, true

from .facts import UNAUTHORIZED, fact_and_account, is_fact
from .reader import IsWanted, Reader
from .records import Queued, queued_from
from .schema import State, facts, is_in, is_waiting, notices, open_calls

DIFFERENCES = "planfix_differs"
"""The name of the fact about what Planfix holds that is not ours: a JSON list, "" for nothing."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How much waits and what Planfix said last.

    waiting_since: when the oldest waiting notice was written, None if none waits. accepted_at: when
    Planfix accepted a notice last, None if it never has. Both in seconds since 1970. unauthorized:
    Planfix does not accept our token. differs: what Planfix holds that is not ours (planfix/
    agreement.py): "key", "former key", "address".
    """

    waiting: int
    waiting_since: float | None
    rejected: int
    accepted_at: float | None
    unauthorized: bool
    differs: tuple[str, ...] = ()


_OF_ONE = notices.c.account == bindparam("account")


def _standing(whose: ColumnElement[bool]) -> Select[Any]:
    """Return the query for how the notices of one account stand, or those of all."""
    waiting = and_(is_waiting(notices), whose)
    return select(
        select(func.count()).where(waiting).scalar_subquery().label("waiting"),
        select(func.min(notices.c.created)).where(waiting).scalar_subquery().label("waiting_since"),
        select(func.count())
        .where(is_in(State.REJECTED, notices), whose)
        .scalar_subquery()
        .label("rejected"),
        # by the index of what is settled, from its end: nearly all of that was accepted
        select(notices.c.settled)
        .where(notices.c.settled > 0, is_in(State.DONE, notices), whose)
        .order_by(notices.c.settled.desc())
        .limit(1)
        .scalar_subquery()
        .label("accepted_at"),
    )


_standing_of_all = _standing(true())
_standing_of_one = _standing(_OF_ONE)
_said = select(facts.c.name, facts.c.value).where(is_fact(UNAUTHORIZED, DIFFERENCES))
_open_calls = (
    select(open_calls.c.callid, open_calls.c.state)
    .where(open_calls.c.closed == 0)
    .order_by(open_calls.c.callid)
)
_rejected = (
    select(notices)
    .where(is_in(State.REJECTED, notices))
    .order_by(notices.c.id.desc())
    .limit(bindparam("most"))
)
_rejected_of_one = _rejected.where(_OF_ONE)


class StandingReader:
    """Reads how things stand, for one account or, with "", for all. Raises StoreError."""

    def __init__(self, reader: Reader, account: str = "") -> None:
        self._reader = reader
        self._account = account

    def standing(self, is_wanted: IsWanted) -> Standing:
        """Return how the queue stands."""
        named = {"account": self._account} if self._account else {}
        query = _standing_of_one if self._account else _standing_of_all
        (row,) = self._reader.rows(query, named, is_wanted)
        said = self._said(is_wanted)
        return Standing(
            row.waiting,
            row.waiting_since,
            row.rejected,
            row.accepted_at,
            bool(said[UNAUTHORIZED]),
            tuple(dict.fromkeys(it for fact in said[DIFFERENCES] for it in json.loads(fact))),
        )

    def _said(self, is_wanted: IsWanted) -> dict[str, list[str]]:
        """Return what Planfix said last: the facts of our account, or of all, by their names."""
        found: dict[str, list[str]] = {UNAUTHORIZED: [], DIFFERENCES: []}
        for row in self._reader.rows(_said, {}, is_wanted):
            name, account = fact_and_account(row.name)
            if row.value and self._account in ("", account):
                found[name].append(row.value)
        return found

    def open_calls(self, is_wanted: IsWanted) -> dict[str, str]:
        """Return the states of the calls that are not over, as JSON, by callid."""
        return {row.callid: row.state for row in self._reader.rows(_open_calls, {}, is_wanted)}

    def rejected(self, most: int, is_wanted: IsWanted) -> list[Queued]:
        """Return the latest rejected notices, the latest first."""
        if self._account:
            named = {"most": most, "account": self._account}
            rows = self._reader.rows(_rejected_of_one, named, is_wanted)
        else:
            rows = self._reader.rows(_rejected, {"most": most}, is_wanted)
        return [queued_from(vars(row)) for row in rows]
