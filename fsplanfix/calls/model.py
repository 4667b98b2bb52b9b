"""The words of the call rules as plain types. Source of their meaning: shared/call-rules.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

_OUTSIDE_NUMBER = re.compile(r"[0-9]{7,15}", re.ASCII)


class Kind(StrEnum):
    """What a notice says; all but RECORD are Planfix's own words for `event`."""

    INCOMING = "INCOMING"
    OUTGOING = "OUTGOING"
    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"
    RECORD = "record"


class Status(StrEnum):
    """How a call ended for one employee, in Planfix's words."""

    SUCCESS = "Success"
    MISSED = "Missed"
    CANCELED = "Canceled"
    BUSY = "Busy"
    NO_ANSWER = "NoAnswer"
    NOT_AVAILABLE = "NotAvailable"
    NOT_ALLOWED = "NotAllowed"


class Direction(StrEnum):
    """`type` of a notice: incoming or outgoing, as the employee sees it."""

    IN = "in"
    OUT = "out"


class Role(StrEnum):
    """Who is on a leg."""

    GLUE = "glue"
    EMPLOYEE = "employee"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the call rules depend on."""

    country: str = "RU"
    ext_pattern: re.Pattern[str] = re.compile(r"^\d{2,5}$", re.ASCII)
    aliases: dict[str, str] = field(default_factory=dict)
    hidden_number: str = "anonymous"
    default_ext: str = ""
    report_unrouted: bool = True
    trusted_contexts: frozenset[str] = frozenset()

    def ext_for(self, user: str) -> str:
        """Return the ext Planfix knows for a directory user or a dialled number, "" if none."""
        if user in self.aliases:
            return self.aliases[user]
        return user if user and self.ext_pattern.fullmatch(user) else ""

    def users_of(self, ext: str) -> list[str]:
        """Return the directory users and outside numbers behind an ext of Planfix, in the order to
        try them.

        A user that was named as its alias comes before one that only has the same name; mobiles
        come last.
        """
        named = [user for user, alias in self.aliases.items() if alias == ext and user != ext]
        own = [ext] if self.ext_for(ext) == ext else []
        return sorted([*named, *own], key=self.is_outside)

    def is_outside(self, user: str) -> bool:
        """Tell whether an alias is a number outside the PBX, such as a mobile, and not a directory
        user."""
        return bool(_OUTSIDE_NUMBER.fullmatch(user)) and not self.ext_pattern.fullmatch(user)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing Planfix must be told. (callid, ext, kind, ordinal) names it for ever.

    position: its place among the notices of its call, from 1. at: when the event that caused it
    happened, microseconds since 1970. duration: whole seconds. recording: the file's path on the
    FreeSWITCH machine.
    """

    callid: str
    kind: Kind
    position: int
    at: int
    type: Direction
    phone: str
    diversion: str = ""
    ext: str = ""
    ordinal: int = 1
    status: Status | None = None
    duration: int = 0
    is_recorded: bool = False
    data: dict[str, str] = field(default_factory=dict)
    recording: str = ""

    @property
    def what(self) -> str:
        """Return its kind and, if it has one, its status, for people."""
        return f"{self.kind.value} {self.status or ''}".strip()


@dataclass(slots=True)
class Recording:
    """One recording file: its path, start and stop (microseconds; 0 while it runs).

    leg: the leg it runs on. ext: whose leg that is, "" for the client's own leg and for glue.
    """

    path: str
    leg: str
    started: int
    ext: str = ""
    stopped: int = 0
    discarded: bool = False

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether the file holds anything said between start and end."""
        return (
            not self.discarded
            and self.started <= end
            and (not self.stopped or self.stopped >= start)
        )


@dataclass(slots=True)
class Leg:
    """One FreeSWITCH channel, as far as the rules care. The party on it is frozen at first sight.

    number: the outside party's number ("" hidden). line: the number it dialled (a leg that came in)
    or the caller number it was shown (a leg the PBX placed). client_of: the call whose client it
    is. calls: every call it has a part in. seen: the Event-Sequence of the events taken for it.
    """

    uuid: str
    role: Role
    inbound: bool
    ext: str = ""
    number: str = ""
    line: str = ""
    parent: str = ""
    pair: str = ""
    peer: str = ""
    client_of: str = ""
    calls: list[str] = field(default_factory=list)
    ringing: bool = False
    hanging: bool = False
    ignored: bool = False
    data: dict[str, str] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Engagement:
    """One employee's part in a call, from INCOMING or OUTGOING to COMPLETED.

    legs: the employee's legs that still ring or, after ACCEPTED, still talk. accepted_at: 0 until
    ACCEPTED. ended_at: when the client left an outgoing talk, 0 before.
    """

    ext: str
    ordinal: int
    type: Direction
    legs: list[str]
    accepted_at: int = 0
    ended_at: int = 0


@dataclass(slots=True)
class Call:
    """A client call: everything that happens around one client, from first sight to last hang-up.

    clients: the client's legs that are up. legs: all its legs that are up. tried: exts whose phones
    were called. unrouted: nobody was told of it yet. failure: how the last client leg of an
    outgoing call ended. position: notices said so far.
    """

    callid: str
    type: Direction
    phone: str
    diversion: str
    born: int
    clients: list[str] = field(default_factory=list)
    legs: list[str] = field(default_factory=list)
    came_in: bool = True
    engagements: list[Engagement] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    ordinals: dict[str, int] = field(default_factory=dict)
    position: int = 0
    unrouted: bool = True
    talked: bool = False
    ignored: bool = False
    failure: Status = Status.NOT_AVAILABLE
    over: bool = False
    data: dict[str, str] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
