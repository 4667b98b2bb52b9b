"""Event streams made of the recorded calls: as many calls as wanted, each with UUIDs of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

from fsplanfix.admin.traces import read_trace
from fsplanfix.calls.model import Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent

TRACES = Path(__file__).parent.parent / "tests" / "traces" / "lab"
GROUP = "group_answered"
"""Three phones ring, one answers, recorded: 22 events with a rule."""

REQUESTS = 7
"""Of such a call: three INCOMING, ACCEPTED, two Canceled, Success with the link."""

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Moment:
    """An event of a stream: seconds after its start, its body, and the call it belongs to."""

    at: float
    body: bytes
    callid: str


def frame(body: bytes) -> bytes:
    """Return an event as FreeSWITCH sends it."""
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(body), body)


@cache
def recorded(name: str) -> list[tuple[float, bytes]]:
    """Return the events of a trace that have a rule: what a subscription brings."""
    wanted = set(Tracker(Rules()).event_names)
    found = [(at, body.encode()) for at, body in read_trace(TRACES / f"{name}.jsonl.gz")]
    return [(at, body) for at, body in found if SwitchEvent(body).name in wanted]


def every_trace() -> list[bytes]:
    """Return the events of all traces, one call after the other."""
    return [
        body
        for path in sorted(TRACES.glob("*.jsonl.gz"))
        for _, body in recorded(path.name.split(".")[0])
    ]


def call(number: int, events: Sequence[tuple[float, bytes]], begin: float = 0.0) -> list[Moment]:
    """Return the `number`-th call like a recorded one: the same events, UUIDs of its own."""
    known, pieces = _cut(tuple(body for _, body in events))
    fresh = {
        old: str(UUID(int=(number + 1) << 32 | place)).encode() for place, old in enumerate(known)
    }
    callid = fresh[SwitchEvent(events[0][1]).leg.encode()].decode()
    return [
        Moment(begin + at, b"".join([fresh.get(piece, piece) for piece in body]), callid)
        for (at, _), body in zip(events, pieces, strict=True)
    ]


@cache
def _cut(bodies: tuple[bytes, ...]) -> tuple[list[bytes], list[list[bytes]]]:
    """Return the UUIDs in some events, and each event cut into UUIDs and what is between them."""
    pieces = [re.split(b"(%b)" % _UUID.pattern, body) for body in bodies]
    # every other piece is a UUID
    return sorted({uuid for body in pieces for uuid in body[1::2]}), pieces


def calls(count: int, apart: float, name: str = GROUP, first: int = 0) -> list[Moment]:
    """Return the events of `count` calls in the order of time, one begun every `apart` seconds."""
    events = recorded(name)
    every = [moment for n in range(count) for moment in call(first + n, events, n * apart)]
    return sorted(every, key=lambda moment: moment.at)


def ringing(count: int, name: str = GROUP, first: int = 0) -> Iterator[Moment]:
    """Yield the events of calls that go on: all legs are up, three phones ring, no one hung up."""
    events = recorded(name)
    end = next(
        n for n, (_, body) in enumerate(events) if SwitchEvent(body).name == "CHANNEL_HANGUP"
    )
    for n in range(first, first + count):
        yield from call(n, events[:end])


@cache
def talking(name: str = GROUP) -> list[tuple[float, bytes]]:
    """Return the events of a recorded call until its client or the one who answered hangs up."""
    events = recorded(name)
    names = [SwitchEvent(body).name for _, body in events]
    return events[: names.index("CHANNEL_HANGUP", names.index("CHANNEL_BRIDGE"))]


@cache
def first_notice(name: str = GROUP) -> int:
    """Return which event of a recorded call is the first that Planfix is told of."""
    tracker = Tracker(Rules())
    return next(n for n, (_, body) in enumerate(recorded(name)) if tracker.feed(SwitchEvent(body)))


def group_of(size: int) -> list[Moment]:
    """Return the beginning of a call to a group of phones that all ring at once."""
    events = call(0, recorded(GROUP))
    legs = {
        SwitchEvent(m.body).get("variable_dialed_user"): SwitchEvent(m.body).leg.encode()
        for m in events
    }
    ext, leg = next((ext, leg) for ext, leg in legs.items() if ext)
    client = [
        m
        for m in events
        if SwitchEvent(m.body).leg == m.callid and SwitchEvent(m.body).name == "CHANNEL_CREATE"
    ]
    phone = [m for m in events if SwitchEvent(m.body).leg.encode() == leg]
    made: list[list[Moment]] = []
    for wanted in ("CHANNEL_CREATE", "CHANNEL_PROGRESS"):
        event = next(m for m in phone if SwitchEvent(m.body).name == wanted)
        for n in range(size):
            other = str(UUID(int=n + 1)).encode()
            body = re.sub(
                rb"(?<![0-9A-Za-z])%s(?![0-9A-Za-z])" % ext.encode(), b"%d" % (201 + n), event.body
            )
            made.append([Moment(0.0, body.replace(leg, other), event.callid)])
    return [*client, *(moment for moments in made for moment in moments)]
