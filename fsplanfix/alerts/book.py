"""Which troubles there are, and which of them a person has not been told yet. It has no clock.

Each alarm is told once when it begins and once when it ends. What happens within PAUSE of an alert
is said in the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

PAUSE = 300.0
"""Seconds between two alerts."""

LONGEST_LINE = 900
"""Characters of an alert: it may become a short message."""


@dataclass(slots=True)
class Change:
    """An alarm that began or ended since the last alert.

    what: in words. since, until: seconds since 1970, until None while it is on. times: how often it
    was on.
    """

    what: str
    since: float
    until: float | None = None
    times: int = 1

    def in_words(self) -> str:
        """Return the change as a part of the line."""
        again = f", {self.times} times" if self.times > 1 else ""
        if self.until is None:
            return f"{self.what} (since {_moment(self.since)}{again})"
        return f"over: {self.what} ({_moment(self.since)} to {_moment(self.until)}{again})"


@dataclass(frozen=True, slots=True)
class Alert:
    """What a person is told: one line, and the same for programs."""

    line: str
    changes: Mapping[str, Change] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is posted to ALERT_URL."""
        changes = [
            {
                "alarm": name,
                "state": "on" if change.until is None else "over",
                "what": change.what,
                "since": _iso(change.since),
                "until": _iso(change.until),
                "times": change.times,
            }
            for name, change in self.changes.items()
        ]
        return {"text": self.line, "changes": changes}


@dataclass(slots=True)
class Book:
    """What is on, and what was not told yet, both by the alarm's name.

    told_at: when the last alert was sent. owner, until: the worker that sends alerts, and how long
    it may. partners: the address of the Planfix that each account was paired with last.
    Times are seconds since 1970.
    """

    on: dict[str, Change] = field(default_factory=dict)
    untold: dict[str, Change] = field(default_factory=dict)
    told_at: float = 0.0
    owner: str = ""
    until: float = 0.0
    partners: dict[str, str] = field(default_factory=dict)

    def see(self, seen: Mapping[str, str], unsure: Set[str], now: float) -> None:
        """Note what is on now. seen: the alarms in words. unsure: those that nobody can judge."""
        for name, what in seen.items():
            if name not in self.on:
                self._begin(name, what, now)
            self.on[name].what = what
            if name in self.untold:
                self.untold[name].what = what

        for name in [*self.on]:
            if name not in seen and name not in unsure:
                self._end(name, now)

    def _begin(self, name: str, what: str, now: float) -> None:
        self.on[name] = Change(what, now)
        before = self.untold.setdefault(name, Change(what, now, times=0))
        before.until = None
        before.times += 1

    def _end(self, name: str, now: float) -> None:
        was = self.on.pop(name)
        change = self.untold.get(name)
        if change is None:
            self.untold[name] = Change(was.what, was.since, now)
        else:
            change.until = now

    def note(self, name: str, what: str, now: float) -> None:
        """Note something that happened and does not last."""
        self.untold[name] = Change(what, now)

    def due(self, now: float) -> bool:
        """Tell whether there is something to say, and the last alert is old enough."""
        # a clock that was set back must not silence it for years
        return bool(self.untold) and not 0 <= now - self.told_at < PAUSE

    def alert(self, host: str) -> Alert:
        """Return what is to be told now."""
        parts = "; ".join(change.in_words() for change in self.untold.values())
        line = f"fsplanfix on {host}: {parts}. fsplanfix check says more."
        return Alert(one_line(line), {name: _copy(c) for name, c in self.untold.items()})

    def told(self, alert: Alert, now: float) -> None:
        """Note that a person was told."""
        self.told_at = now
        for name, change in alert.changes.items():
            # one that changed while the alert was on its way is for the next one
            if self.untold.get(name) == change:
                del self.untold[name]

    def dump(self) -> str:
        """Return the book as the text of a fact."""
        return _json.dump_json(self).decode()


def read(text: str) -> Book:
    """Return the book in a fact, an empty one if there is none that we understand."""
    try:
        return _json.validate_json(text)
    except ValidationError:
        return Book()


_json = TypeAdapter(Book)


def one_line(text: str) -> str:
    """Return a text without anything but printable characters, cut to LONGEST_LINE."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= LONGEST_LINE else f"{clean[: LONGEST_LINE - 1]}…"


def _copy(change: Change) -> Change:
    return Change(**asdict(change))


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _iso(at: float | None) -> str | None:
    return None if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
