"""What keeps notices and recordings from Planfix, read beside the work (reader.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Select, bindparam, exists, func, literal_column, select

from ..calls.model import Kind
from .reader import Reader
from .schema import State, facts, is_in, is_waiting, notices
from .standing import DIFFERENCES
from .store import Store

BUCKET_PROBLEM = "bucket_problem"
"""The name of the fact that recordings cannot be uploaded: JSON, `since` when (seconds since 1970)
and the `problem`; "" if they can."""

UNLINKED_WITHIN = 3600.0
"""Seconds for which a recording that was not linked counts as a trouble."""

FAILS_FOR = 120.0
"""Seconds that a notice fails before Planfix counts as unreachable."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong.

    is_failing: a notice fails for FAILS_FOR, and none that is younger was accepted. unauthorized:
    Planfix does not accept our token. rejected: notices for a person to decide on. not_linked:
    recordings of the last hour whose links can never work. differs: see Standing. bucket: what has
    kept recordings from being uploaded for FAILS_FOR, "" for nothing.
    """

    is_failing: bool
    unauthorized: bool
    rejected: int
    not_linked: int
    differs: tuple[str, ...]
    bucket: str


_not_linked = select(func.count()).where(
    is_in(State.SKIPPED, notices),
    notices.c.kind == Kind.RECORD.value,
    # as the index of what is settled says it
    notices.c.settled > literal_column("0"),
    notices.c.settled > bindparam("unlinked_since", type_=Float),
    # an empty file is nobody's mistake
    ~notices.c.answer.endswith("empty"),
)
_accepted_at = (
    select(notices.c.settled)
    .where(notices.c.settled > literal_column("0"), is_in(State.DONE, notices))
    .order_by(notices.c.settled.desc())
    .limit(1)
    .scalar_subquery()
)
_failing = exists().where(
    is_waiting(notices),
    notices.c.attempts > 0,
    notices.c.created <= bindparam("failing_since", type_=Float),
    # whatever was accepted since shows that Planfix answers: this notice waits for its next try
    notices.c.created > func.coalesce(_accepted_at, 0.0),
)
_trouble: Select[Any] = select(
    _failing.label("is_failing"),
    select(func.count())
    .select_from(facts)
    .where(facts.c.name == "unauthorized")
    .scalar_subquery()
    .label("unauthorized"),
    select(func.count()).where(is_in(State.REJECTED, notices)).scalar_subquery().label("rejected"),
    _not_linked.scalar_subquery().label("not_linked"),
    select(facts.c.value).where(facts.c.name == DIFFERENCES).scalar_subquery().label("differs"),
    select(facts.c.value).where(facts.c.name == BUCKET_PROBLEM).scalar_subquery().label("bucket"),
)


def read_trouble(reader: Reader, now: float) -> Trouble:
    """Return what is wrong. now: seconds since 1970. Raises StoreError."""
    values = {"failing_since": now - FAILS_FOR, "unlinked_since": now - UNLINKED_WITHIN}
    (row,) = reader.rows(_trouble, values)
    return Trouble(
        bool(row.is_failing),
        bool(row.unauthorized),
        row.rejected,
        row.not_linked,
        tuple(json.loads(row.differs or "[]")),
        bucket_problem(row.bucket or "", now),
    )


def bucket_problem(fact: str, now: float) -> str:
    """Return what has kept recordings from being uploaded for FAILS_FOR, "" for nothing."""
    noted = json.loads(fact or "{}")
    if not noted or now - noted["since"] < FAILS_FOR:
        return ""
    return str(noted["problem"])


def count_not_linked(store: Store, now: float) -> int:
    """Return how many recordings of the last hour can never be linked. Raises StoreError."""
    with store.transaction() as connection:
        found = connection.execute(_not_linked, {"unlinked_since": now - UNLINKED_WITHIN})
        return int(found.scalar_one())
