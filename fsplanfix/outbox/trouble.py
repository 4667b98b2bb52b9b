"""What keeps notices and recordings from Planfix, read beside the work (reader.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Float, bindparam, func, literal_column, select

from ..calls.model import Kind
from .facts import UNAUTHORIZED, fact_and_account, is_fact
from .reader import Reader
from .schema import State, facts, is_in, is_waiting, notices
from .standing import DIFFERENCES
from .store import Store

BUCKET_PROBLEM = "bucket_problem"
"""The name of the fact that an account's recordings cannot be uploaded: JSON, `since` when (seconds
since 1970) and the `problem`; "" if they can."""

NOT_SENT_WITHIN = 3600.0
"""Seconds for which a recording that was not sent counts as a trouble."""

FAILS_FOR = 120.0
"""Seconds that a notice fails before Planfix counts as unreachable."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, by account.

    failing: a notice fails for FAILS_FOR, and none that is younger was accepted. unauthorized:
    Planfix does not accept our token. rejected: how many notices a person must decide on. not_sent:
    how many recordings of the last hour Planfix can never get. differs: see Standing. bucket: what
    has kept recordings from being uploaded for FAILS_FOR.
    """

    failing: frozenset[str]
    unauthorized: frozenset[str]
    rejected: Mapping[str, int]
    not_sent: Mapping[str, int]
    differs: Mapping[str, tuple[str, ...]]
    bucket: Mapping[str, str]


_ACCOUNT = notices.c.account
_SINCE = bindparam("since", type_=Float)
# as the index of what is settled says it
_IS_SETTLED = notices.c.settled > literal_column("0")

_rejected = (
    select(_ACCOUNT, func.count().label("count"))
    .where(is_in(State.REJECTED, notices))
    .group_by(_ACCOUNT)
)
_not_sent = (
    select(_ACCOUNT, func.count().label("count"))
    .where(
        is_in(State.SKIPPED, notices),
        notices.c.kind == Kind.RECORD.value,
        _IS_SETTLED,
        notices.c.settled > _SINCE,
        # an empty file is nobody's mistake
        ~notices.c.answer.endswith("empty"),
    )
    .group_by(_ACCOUNT)
)
_tried = (
    select(_ACCOUNT, func.max(notices.c.created).label("at"))
    .where(is_waiting(notices), notices.c.attempts > 0, notices.c.created <= _SINCE)
    .group_by(_ACCOUNT)
)
_accepted = (
    select(_ACCOUNT, func.max(notices.c.settled).label("at"))
    .where(is_in(State.DONE, notices), _IS_SETTLED, notices.c.settled > _SINCE)
    .group_by(_ACCOUNT)
)
_said = select(facts.c.name, facts.c.value).where(
    is_fact(UNAUTHORIZED, DIFFERENCES, BUCKET_PROBLEM)
)


def read_trouble(reader: Reader, now: float) -> Trouble:
    """Return what is wrong. now: seconds since 1970. Raises StoreError."""
    said: dict[str, dict[str, str]] = {UNAUTHORIZED: {}, DIFFERENCES: {}, BUCKET_PROBLEM: {}}
    for row in reader.rows(_said):
        name, account = fact_and_account(row.name)
        said[name][account] = row.value

    recently = {"since": now - NOT_SENT_WITHIN}
    differs = {account: tuple(json.loads(it or "[]")) for account, it in said[DIFFERENCES].items()}
    problems = {account: bucket_problem(it, now) for account, it in said[BUCKET_PROBLEM].items()}
    return Trouble(
        _failing(reader, now),
        frozenset(said[UNAUTHORIZED]),
        {row.account: row.count for row in reader.rows(_rejected)},
        {row.account: row.count for row in reader.rows(_not_sent, recently)},
        {account: found for account, found in differs.items() if found},
        {account: problem for account, problem in problems.items() if problem},
    )


def _failing(reader: Reader, now: float) -> frozenset[str]:
    tried = {row.account: row.at for row in reader.rows(_tried, {"since": now - FAILS_FOR})}
    if not tried:
        return frozenset()
    # what was accepted since shows that Planfix answers: the notice waits for its next try
    since = {"since": min(tried.values())}
    accepted = {row.account: row.at for row in reader.rows(_accepted, since)}
    return frozenset(name for name, at in tried.items() if at > accepted.get(name, 0.0))


def bucket_problem(fact: str, now: float) -> str:
    """Return what has kept recordings from being uploaded for FAILS_FOR, "" for nothing."""
    noted = json.loads(fact or "{}")
    if not noted or now - noted["since"] < FAILS_FOR:
        return ""
    return str(noted["problem"])


def count_not_sent(store: Store, now: float) -> int:
    """Return how many recordings of the last hour can never be sent. Raises StoreError."""
    with store.transaction() as connection:
        found = connection.execute(_not_sent, {"since": now - NOT_SENT_WITHIN})
        return sum(int(count) for _, count in found)
