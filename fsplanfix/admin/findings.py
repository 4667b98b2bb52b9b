"""What `fsplanfix check` finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

MOST_NAMES = 5
"""Names in one line."""


class Grade(IntEnum):
    """How bad a finding is. The worst one is the exit code of `check`."""

    OK = 0
    WARNING = 1
    BROKEN = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check.

    code: names the finding for programs, and stays the same when its words change; part and reason
    with a full stop between them. part: what the line is about, for people. hint: how to fix it,
    "" if there is nothing to do. account: the company it is about, "" for the whole machine.
    """

    code: str
    grade: Grade
    part: str
    what: str
    hint: str = ""
    account: str = ""

    @property
    def mark(self) -> str:
        """Return ✓, ! or ✗; i for what works and could be better."""
        if self.grade is Grade.OK and self.hint:
            return "i"
        return "✓!✗"[self.grade]


def listed(names: Sequence[str]) -> str:
    """Return names for one line, the first MOST_NAMES if there are more."""
    shown = [short(name) for name in names[:MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def short(text: str, most: int = 40) -> str:
    """Return the beginning of a text from outside, without what a terminal would obey."""
    return "".join(char for char in text[:most] if char.isprintable())
