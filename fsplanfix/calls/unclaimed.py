"""Calls that are not told because no account is named for them, for `fsplanfix check`.

Counted by line and domain, so that an administrator sees what is missing in the settings.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

from .model import MICROSECONDS, Call

UNCLAIMED = "unclaimed"
"""The name under which they are kept in the store."""

MOST_ENTRIES = 64
LONGEST_NAME = 64
"""Characters of a line, a domain or an account."""

KEPT_EVERY = 60 * MICROSECONDS
"""What is no new line or domain is kept once in this time."""


class Named(NamedTuple):
    """What such a call shows.

    line: the number of ours it came by, "" if unknown. domain: the directory domain of who took
    part, "" if unknown. account: the one that `planfix_account` names and nobody is, "" for none.
    """

    line: str
    domain: str
    account: str


class Unclaimed:
    """Counts such calls. is_due: the store should be told of them."""

    def __init__(self) -> None:
        self.is_due = False
        self._new: Counter[Named] = Counter()
        self._known: set[Named] = set()
        self._kept_at = 0

    def count(self, call: Call, at: int) -> None:
        """Count a call; at: now, microseconds since 1970."""
        named = _shown_by(call)
        if named not in self._new and len(self._new) >= MOST_ENTRIES:
            return
        self._new[named] += 1
        self.is_due |= named not in self._known or at - self._kept_at >= KEPT_EVERY
        if self.is_due:
            self._kept_at = at

    def added_to(self, known: str) -> str:
        """Return these and those that were kept before, as JSON, and begin anew."""
        together = Counter(dict(read(known))) + self._new
        self._known = set(together)
        self._new, self.is_due = Counter(), False
        rows = [[*named, count] for named, count in together.most_common(MOST_ENTRIES)]
        return json.dumps(rows)


def read(known: str) -> list[tuple[Named, int]]:
    """Return what was kept, the most frequent first."""
    return [(Named(*row[:3]), row[3]) for row in json.loads(known or "[]")]


def _shown_by(call: Call) -> Named:
    is_domain = call.account.startswith("@")
    domain = call.account[1:] if is_domain else ""
    account = "" if is_domain else call.account
    return Named(call.diversion[:LONGEST_NAME], domain[:LONGEST_NAME], account[:LONGEST_NAME])
