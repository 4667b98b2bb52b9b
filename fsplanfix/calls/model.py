"""The words of the call rules as plain types. They mean what docs/call-rules.md says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .number_rules import NumberRule
from .numbers import Numbering

ACCOUNT = "default"
"""The name of the account that the settings make up; `planfix_account` may name it."""

MICROSECONDS = 1_000_000
"""In a second."""

RECORDS = "record"
"""What recordings are counted under, beside the parts of each ext."""

UNNAMED = 9
"""Nothing has named an account yet."""

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
    """Who is on a leg. HOUSE: a colleague without an ext (door phone, fax, a bot's login)."""

    GLUE = "glue"
    EMPLOYEE = "employee"
    HOUSE = "house"
    OUTSIDE = "outside"


class Missed(StrEnum):
    """For whom of those rung an unanswered call is Missed; the others get Canceled."""

    ALL = "all"
    FIRST = "first"
    LAST = "last"
    NONE = "none"


class Windows(StrEnum):
    """When the call window of an incoming call opens.

    RING: when the phone rings. ANSWER: when somebody takes the call, for him. KNOWN: as RING for a
    client Planfix knows, else as ANSWER.
    """

    RING = "ring"
    ANSWER = "answer"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the call rules depend on.

    aliases: a directory user or number (E.164 digits) to its ext. default_ext: a line to the ext a
    call is reported for that reached nobody; `*` stands for every other line. trunk_users: logins
    that are gateways. house_gateways: gateways that lead to colleagues. hidden_number: "" leaves
    such calls out. area_code, number_rules, dial_rules: see Numbering, which they make up.

    domains, lines: what belongs to the company, if a switch serves several; empty, all does.
    ignore_numbers: clients and exts that are left out. Lines and numbers may end with `*`.

    voicemail: the message of a missed call is its recording.
    data_fields: what the call knows by itself (own_data.py) to the field of Planfix it goes into.
    """

    country: str = "RU"
    area_code: str = ""
    number_rules: tuple[NumberRule, ...] = ()
    dial_rules: tuple[NumberRule, ...] = ()
    ext_pattern: re.Pattern[str] = re.compile(r"^\d{2,5}$", re.ASCII)
    aliases: Mapping[str, str] = field(default_factory=dict)
    hidden_number: str = "anonymous"
    default_ext: Mapping[str, str] = field(default_factory=dict)
    report_unrouted: bool = True
    missed: Missed = Missed.ALL
    windows: Windows = Windows.RING
    trusted_contexts: frozenset[str] = frozenset()
    trunk_users: frozenset[str] = frozenset()
    house_gateways: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    lines: tuple[str, ...] = ()
    data_fields: Mapping[str, str] = field(default_factory=dict)
    ignore_numbers: tuple[str, ...] = ()
    voicemail: bool = False
    numbering: Numbering = field(init=False, compare=False)

    def __post_init__(self) -> None:
        numbering = Numbering(self.country, self.area_code, self.number_rules, self.dial_rules)
        object.__setattr__(self, "numbering", numbering)

    def ext_for(self, user: str) -> str:
        """Return the ext Planfix knows for a directory user or a dialled number, "" if none."""
        if user in self.aliases:
            return self.aliases[user]
        if user and self.ext_pattern.fullmatch(user):
            return user
        return ""

    @property
    def is_narrowed(self) -> bool:
        """Tell whether only a part of the switch is the company's."""
        return bool(self.domains or self.lines)

    def ignores(self, number: str) -> bool:
        """Tell whether a client's number or an ext is left out."""
        return _matches(self.ignore_numbers, number)

    def default_ext_of(self, line: str) -> str:
        """Return the ext that a call by this line is reported for if it reached nobody, or ""."""
        return self.default_ext.get(line, self.default_ext.get("*", ""))

    def missed_of(self, count: int) -> range:
        """Return which of `count` employees who were rung missed the call, by their places."""
        if self.missed is Missed.FIRST:
            return range(min(count, 1))
        if self.missed is Missed.LAST:
            return range(max(count - 1, 0), count)
        if self.missed is Missed.ALL:
            return range(count)
        return range(0)

    def users_of(self, ext: str) -> list[str]:
        """Return the directory users and outside numbers behind an ext of Planfix, in the order to
        try them.

        A user that was named as its alias comes before one that only has the same name; mobiles
        come last.
        """
        named = [user for user, alias in self.aliases.items() if alias == ext and user != ext]
        if self.ext_for(ext) == ext:
            named.append(ext)
        return sorted(named, key=self.is_outside)

    def is_outside(self, user: str) -> bool:
        """Tell whether an alias is a number outside the PBX, such as a mobile, and not a directory
        user."""
        return bool(_OUTSIDE_NUMBER.fullmatch(user)) and not self.ext_pattern.fullmatch(user)


def _matches(patterns: Iterable[str], number: str) -> bool:
    """Tell whether a number is one of those named; a pattern with `*` at its end names many."""
    for pattern in patterns:
        if pattern == number:
            return True
        if pattern.endswith("*") and number.startswith(pattern[:-1]):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing Planfix must be told. (callid, ext, kind, ordinal) names it for ever.

    position: its place among the notices of its call, from 1. at: when the event that caused it
    happened, microseconds since 1970. duration: whole seconds. recording: the file's path on the
    FreeSWITCH machine. rule: the number of the call rule that decided it. contact: the client's
    name as the dialplan knows it, on COMPLETED; Planfix is not told. afterwards: nobody heard it
    happen; FreeSWITCH's records tell it.

    A COMPLETED with a recording may carry its link; linked_by is then the ordinal of the RECORD
    that need not be sent any more (rule 13).

    account: the company whose call it is.
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
    linked_by: int = 0
    rule: str = ""
    contact: str = ""
    afterwards: bool = False
    account: str = ACCOUNT

    @property
    def what(self) -> str:
        """Return its kind and, if it has one, its status, for people."""
        return f"{self.kind.value} {self.status or ''}".strip()


@dataclass(slots=True)
class Recording:
    """One recording file.

    started, stopped: microseconds since 1970; started is 0 if nobody heard it begin, stopped is
    None while it runs. leg: the leg it runs on. ext: whose leg that is; "" for the client's own
    leg, for glue, and for a file that has moved from one leg to another.
    """

    path: str
    leg: str
    started: int
    ext: str = ""
    stopped: int | None = None
    discarded: bool = False

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether the file holds anything said between start and end."""
        if self.discarded or self.started > end:
            return False
        return self.stopped is None or self.stopped >= start


@dataclass(slots=True)
class Leg:
    """One FreeSWITCH channel, as far as the rules care. The party on it is frozen at first sight.

    number: the outside party's number ("" hidden). line: the number it dialled (a leg that came in)
    or the caller number it was shown (a leg the PBX placed). dialled: what this leg itself dialled.
    created: FreeSWITCH's own time of its creation (microseconds), which tells a UUID's second leg
    from a repeated event. recovered: it is a former leg, brought back by `sofia recover`.
    is_trunk_user: it was placed to a gateway that logs in.

    contact: the client's name, which the dialplan has set on it. known: whether Planfix knows the
    client, as the `socket` application was told.

    parent: the leg it was placed for. pair: the other half of a loopback. peer: the leg it is
    bridged with. stands_for: the client's leg that takes over what was placed for this one. room:
    the conference it is in.

    account: the account that was named for it by the strongest of what names one (account_by, see
    whose.py); "" for none. With several accounts, read_for is the one by whose rules the party on
    it was read, and first the headers it was read from.

    client_of: the call whose client it is. calls: every call it has a part in. has_named_call: its
    UUID is a callid. seen: the Event-Sequence of the events taken for it.
    """

    uuid: str
    role: Role
    inbound: bool
    ext: str = ""
    number: str = ""
    line: str = ""
    dialled: str = ""
    created: int = 0
    recovered: bool = False
    is_trunk_user: bool = False

    parent: str = ""
    pair: str = ""
    peer: str = ""
    stands_for: str = ""
    room: str = ""

    client_of: str = ""
    calls: list[str] = field(default_factory=list)
    has_named_call: bool = False

    account: str = ""
    account_by: int = UNNAMED
    read_for: str = ""
    first: dict[str, str] = field(default_factory=dict)

    ringing: bool = False
    answered: bool = False
    hanging: bool = False

    ignored: bool = False
    diversion: str = ""
    contact: str = ""
    known: bool = False
    data: dict[str, str] = field(default_factory=dict)
    own_data: dict[str, str] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """One employee's part in a call, from INCOMING or OUTGOING to COMPLETED.

    legs: the employee's legs that still ring or, after ACCEPTED, talk and are not torn down yet.
    gave_up: he left an outgoing call before anybody answered. ended_by: who ended the talk: client,
    employee, or transfer.

    Times are microseconds since 1970, None until then. accepted_at: the talk began. parted_at: the
    client's leg was unbridged from his. ended_at: the talk ended. silent_since: his phone rang, and
    Planfix is not told of it yet (rule 18); None once it is.
    """

    ext: str
    ordinal: int
    type: Direction
    legs: list[str]
    accepted_at: int | None = None
    parted_at: int | None = None
    ended_at: int | None = None
    gave_up: bool = False
    silent_since: int | None = None
    ended_by: str = ""

    @property
    def is_offer(self) -> bool:
        """Tell whether the client's call is offered to him and he has not taken it."""
        return self.type is Direction.IN and self.accepted_at is None

    @property
    def is_talk(self) -> bool:
        """Tell whether he and the client hear each other."""
        return self.accepted_at is not None and self.ended_at is None


@dataclass(slots=True)
class Call:
    """A client call: everything that happens around one client, from first sight to last hang-up.

    first_leg: the UUID its callid is made of. clients: the client's legs that are up. legs: all its
    legs that are up. came_in: the client called us. tried: exts whose phones were called.

    untold: talks that Planfix is told of only if nothing else is: with somebody without an ext, or
    in a conference. unrouted: nobody was told of it yet. talks: when each talk that was told began
    and ended (microseconds). failure: how the last client leg of an outgoing call ended. unheard:
    the client's leg had answered (to a menu, a queue, somebody), and nobody heard how it ended.

    contact: the client's name, "" if the dialplan knows none. known: Planfix knows the client.
    account: whose call it is, by the leg with the strongest sign (account_by, see whose.py).
    ordinals: the parts begun so far, by ext. position: the notices said so far.
    """

    callid: str
    type: Direction
    phone: str
    diversion: str
    born: int
    clients: list[str] = field(default_factory=list)
    legs: list[str] = field(default_factory=list)
    came_in: bool = True
    first_leg: str = ""

    parts: list[Part] = field(default_factory=list)
    untold: list[Part] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    talks: list[tuple[int, int]] = field(default_factory=list)

    ordinals: dict[str, int] = field(default_factory=dict)
    position: int = 0
    unrouted: bool = True
    ignored: bool = False
    failure: Status = Status.NOT_AVAILABLE
    unheard: bool = False
    over: bool = False
    account: str = ""
    account_by: int = UNNAMED
    contact: str = ""
    known: bool = False
    data: dict[str, str] = field(default_factory=dict)
    own_data: dict[str, str] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
