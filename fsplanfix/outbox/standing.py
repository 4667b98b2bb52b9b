"""How the queue stands, read beside the work (reader.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, func, select

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


_standing: Select[Any] = select(
    select(func.count()).where(is_waiting(notices)).scalar_subquery().label("waiting"),
    select(func.min(notices.c.created))
    .where(is_waiting(notices))
    .scalar_subquery()
    .label("waiting_since"),
    select(func.count()).where(is_in(State.REJECTED, notices)).scalar_subquery().label("rejected"),
    # by the index of what is settled, from its end: nearly all of that was accepted
    select(notices.c.settled)
    .where(notices.c.settled > 0, is_in(State.DONE, notices))
    .order_by(notices.c.settled.desc())
    .limit(1)
    .scalar_subquery()
    .label("accepted_at"),
    select(func.count())
    .select_from(facts)
    .where(facts.c.name == "unauthorized")
    .scalar_subquery()
    .label("unauthorized"),
    select(facts.c.value).where(facts.c.name == DIFFERENCES).scalar_subquery().label("differs"),
)
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


class StandingReader:
    """Reads how things stand. Raises StoreError."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def standing(self, is_wanted: IsWanted) -> Standing:
        """Return how the queue stands."""
        (row,) = self._reader.rows(_standing, {}, is_wanted)
        return Standing(
            row.waiting,
            row.waiting_since,
            row.rejected,
            row.accepted_at,
            bool(row.unauthorized),
            tuple(json.loads(row.differs or "[]")),
        )

    def open_calls(self, is_wanted: IsWanted) -> dict[str, str]:
        """Return the states of the calls that are not over, as JSON, by callid."""
        return {row.callid: row.state for row in self._reader.rows(_open_calls, {}, is_wanted)}

    def rejected(self, most: int, is_wanted: IsWanted) -> list[Queued]:
        """Return the latest rejected notices, the latest first."""
        rows = self._reader.rows(_rejected, {"most": most}, is_wanted)
        return [queued_from(vars(row)) for row in rows]
