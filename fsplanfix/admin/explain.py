"""`fsplanfix explain`: the events of a call, the rule behind each notice, Planfix's answers.

The rules are those of docs/call-rules.md. The stored events are played through them once more, so
that each notice stands under the event that caused it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill

from ..calls.event_log import UNHEARD, UNTIL, unpacked
from ..calls.model import Leg, Notice, Role, Rules
from ..calls.tracker import Tracker
from ..freeswitch.events import SwitchEvent, moment
from ..outbox.history import Archive
from ..outbox.records import Entry, Queued
from ..outbox.schema import State
from ..planfix.forms import build_form
from ..printable import printable
from . import timeline
from .traces import write_trace

WIDTH = 80
MARKS = {
    State.DONE: "✓",
    State.WAITING: "…",
    State.REJECTED: "✗",
    State.SKIPPED: "-",
    State.SHADOW: "○",
}
MEANINGS = {
    "✓": "Planfix has it",
    "…": "waits for its turn, or to be sent again",
    "✗": "rejected by Planfix (fsplanfix queue list)",
    "-": "too late to matter, not sent",
    "○": "shadow mode, not sent",
}
HEARD = {
    "CHANNEL_PROGRESS": "rings",
    "CHANNEL_PROGRESS_MEDIA": "rings (with sound)",
    "CHANNEL_ANSWER": "picks up",
    "CHANNEL_UNBRIDGE": "is no longer connected",
    "CHANNEL_UUID": "goes on under another UUID",
    "RECORD_START": "recording begins",
    "RECORD_STOP": "recording ends",
}
RINGING = ("CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER")
INDENT = " " * 15


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a timeline.

    at: microseconds since 1970.
    """

    at: int
    text: str


def story(archive: Archive, rules: Rules, callid: str) -> list[str]:
    """Return the lines about a call, [] if nothing is stored of it."""
    said, noted = archive.about(callid)
    events = unpacked(archive.heard(callid))
    told = {_key(queued.notice): queued for queued in said}
    lines = [*_played(events, rules, told)]

    # no stored event led to these
    for queued in told.values():
        lines += _told(queued, _reason(queued.notice.rule, queued.notice))

    lines += [_written(entry) for entry in noted]
    if not lines:
        return []

    head = _header(said[0].notice) if said else f"Call {printable(callid)}"
    marks = {MARKS[queued.state] for queued in said}
    legend = [f"{mark} {meaning}" for mark, meaning in MEANINGS.items() if mark in marks]
    silent = [] if said else ["Planfix is told nothing of this call."]

    return [
        f"{head}  times in UTC",
        *(line.text for line in sorted(lines, key=lambda line: line.at)),
        *silent,
        *legend,
    ]


def _header(notice: Notice) -> str:
    fields = ("callid", "type", "phone", "diversion")
    return timeline.header({name: getattr(notice, name) for name in fields})


def _key(notice: Notice) -> tuple[str, str, int]:
    return notice.ext, notice.kind.value, notice.ordinal


def _played(
    events: list[SwitchEvent], rules: Rules, told: dict[tuple[str, str, int], Queued]
) -> Iterator[Line]:
    """Play the events and yield a line for each, followed by the notices it caused.

    Those notices are taken out of `told`.
    """
    tracker, marks = Tracker(rules), set[tuple[str, str]]()
    for event in events:
        if event.name == UNHEARD:
            since, until = _time(event.at), _time(moment(event.get(UNTIL)))
            what = f"unknown: the service was not listening from {since} to {until}"
            yield Line(event.at, _line(event.at, "?", "-", what))

        # a leg is forgotten with its last event, and that one needs its name, too
        before = tracker.book.get(event.leg)
        notices = tracker.feed(event)
        leg = tracker.book.get(event.leg) or before
        if leg is not None and (text := _what(event, leg, tracker, marks)):
            yield Line(event.at, _line(event.at, " ", _who(leg), text))

        marks.add((event.name, event.leg))
        for notice in notices:
            queued = told.pop(_key(notice), None)
            if queued is not None:
                # a notice that an older release stored names no rule
                rule = queued.notice.rule or notice.rule
                yield from _told(queued, _reason(rule, notice, event))


def _who(leg: Leg) -> str:
    if leg.role is Role.GLUE:
        return "(glue)"
    if leg.role is Role.HOUSE:
        return "colleague"
    if leg.ext:
        return leg.ext
    if leg.client_of:
        return "client"
    return leg.number or "outside"


def _what(event: SwitchEvent, leg: Leg, tracker: Tracker, marks: set[tuple[str, str]]) -> str:
    """Return an event in words, "" if it is of no interest to a person.

    marks: name and leg of the events before it.
    """
    name = event.name
    if name == "CHANNEL_CREATE":
        text = "calls" if leg.inbound else "is called"
        if leg.ignored:
            text += ", marked planfix_ignore"
    elif name == "CHANNEL_BRIDGE":
        text = _connected(event, leg, tracker)
    elif name == "CUSTOM":
        verb = {"add-member": "joins", "del-member": "leaves"}.get(event.get("Action"))
        text = f"{verb} the conference {event.get('Conference-Name')}" if verb else ""
    elif name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
        # HANGUP_COMPLETE may come much later than HANGUP (docs/facts/freeswitch.md,
        # "Order of events"): the end is shown once
        is_shown = ("CHANNEL_HANGUP", leg.uuid) in marks
        text = "" if is_shown else _hung_up(event, leg, marks)
    elif name.startswith("RECORD_"):
        file = event.get("Record-File-Path").rpartition("/")[2]
        text = f"{HEARD[name]}: {file} {event.get('Record-Completion-Cause')}".rstrip()
    else:
        text = HEARD.get(name, "")

    return text


def _hung_up(event: SwitchEvent, leg: Leg, marks: set[tuple[str, str]]) -> str:
    cause = event.get("Hangup-Cause")
    if not cause:
        # FreeSWITCH names a cause for each hang-up: this one was made up afterwards
        return "is gone: nobody heard its end (rule 15)"

    was_called = leg.role is Role.EMPLOYEE and not leg.inbound
    rang = any((name, leg.uuid) in marks for name in RINGING)
    if was_called and not rang:
        return f"hangs up: {cause} (never rang: no window, rule 1)"
    return f"hangs up: {cause}"


def _connected(event: SwitchEvent, leg: Leg, tracker: Tracker) -> str:
    """Return a bridge in words; early media is not an answer (rule 2)."""
    other = tracker.book.get(event.get("Other-Leg-Unique-ID") or event.get("Bridge-B-Unique-ID"))
    if other is None:
        return "is connected with somebody"
    if Role.GLUE not in (leg.role, other.role) and not (leg.answered and other.answered):
        return "hears the network's sound, not answered yet"
    return f"is connected with {_who(other)}"


REASONS: dict[tuple[str, str], str] = {
    ("1", "INCOMING"): "the phone rings",
    ("2", "ACCEPTED"): "connected with the client, both have answered",
    ("2", "Canceled"): "a colleague has the client",
    ("3", "Canceled"): "the next phone rings",
    ("3", "Missed"): "the call is over, nobody took it",
    ("4", "Success"): "the talk is over",
    ("5", "INCOMING"): "got the client without ringing",
    ("6", "INCOMING"): "no phone rang, the call is shown all the same",
    ("6", "ACCEPTED"): "talked without an ext or in a conference",
    ("6", "Success"): "talked without an ext or in a conference",
    ("6", "Missed"): "nobody was reached",
    ("6", "Canceled"): "MISSED counts the call for a colleague",
    ("7", "OUTGOING"): "the client is being called",
    ("8", "ACCEPTED"): "connected with the client, both have answered",
    ("10", "INCOMING"): "gets the client of an outgoing call",
    ("13", "record"): "a final file of a talk",
    ("15", "Canceled"): "the client was through, how it went on is not known",
}
"""Why a rule makes a notice, by the rule's number and the notice's kind or status."""


def _reason(rule: str, notice: Notice, event: SwitchEvent | None = None) -> str:
    """Return the rule that decided, and why; "" if an older release did not store it."""
    if rule == "9":
        # one reason for its four statuses: the hang-up cause tells them apart
        cause = event.get("Hangup-Cause") if event is not None else ""
        return f"rule 9: ended unanswered ({cause})" if cause else "rule 9: ended unanswered"

    reason = REASONS.get((rule, notice.status or notice.kind), "")
    return f"rule {rule}: {reason}" if reason else ""


def _told(queued: Queued, rule: str) -> Iterator[Line]:
    """Yield the lines of a notice: its request, then the rule behind it and its delivery."""
    notice = queued.notice
    fields = build_form(notice, _where)
    yield Line(notice.at, f"{MARKS[queued.state]}{timeline.line(fields, notice.at)[1:]}")

    about = [rule]
    if queued.state == State.DONE:
        about.append(f"sent {_clock(queued.settled)}")
    if queued.attempts > 1:
        about.append(f"{queued.attempts} tries")
    if queued.state != State.DONE:
        about.append(queued.answer)

    text = "; ".join(part for part in about if part)
    if text:
        indent = INDENT * 2
        yield Line(
            notice.at,
            fill(printable(text), WIDTH, initial_indent=indent, subsequent_indent=indent),
        )


def _where(_: str, path: str) -> str:
    """Return a recording's file instead of its link, which would let anybody listen."""
    return path


def _written(entry: Entry) -> Line:
    at = int(entry.at * 1_000_000)
    return Line(at, _line(at, "!", entry.ext or "-", entry.what))


def refusal(entry: Entry) -> str:
    """Return a line about something that led to no call."""
    return _written(entry).text


def _line(at: int, mark: str, who: str, what: str) -> str:
    line = printable(f"{mark} {_clock(at / 1_000_000)}  {who:>11}  {what}")
    return fill(line, WIDTH, subsequent_indent=INDENT * 2)


def _time(at: int) -> str:
    """Return a time of day to the second. at: microseconds since 1970."""
    return _clock(at / 1_000_000)[:-3]


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-4]


# a call to attach to a bug report

_NUMBER = re.compile(r"(?<![0-9A-Za-z_-])(?:%2B)?[0-9]{7,15}(?![0-9A-Za-z_-])")


def export(packed: bytes, file: Path, callid: str, masked: bool) -> int:
    """Write a call as a trace that `replay` plays; return how many events it has.

    masked: replace each phone number by a made-up one, always the same. Raises TraceError
    if the file cannot be written.
    """
    events = unpacked(packed)
    numbers: dict[str, str] = {}
    head: dict[str, object] = {
        "scenario": callid,
        "what": "exported by fsplanfix",
        "freeswitch": "unknown",
    }
    bodies = []

    for event in events:
        body = event.raw.decode("utf-8", "replace")
        if masked:
            body = "\n".join(_masked(line, numbers) for line in body.split("\n"))
        bodies.append((event.at, body))

    write_trace(file, head, bodies)
    return len(events)


def _masked(line: str, numbers: dict[str, str]) -> str:
    """Return a header line with its phone numbers replaced."""
    name, colon, value = line.partition(":")
    if name.endswith("planfix_contact_name"):
        return f"{name}{colon} client"
    # these hold long runs of digits that are no phone numbers
    if name.endswith(("Unique-ID", "UUID", "Timestamp", "Sequence", "uuid")):
        return line

    def made_up(found: re.Match[str]) -> str:
        plus = "%2B" if found[0].startswith("%2B") else ""
        digits = found[0].removeprefix("%2B")
        # the code stays: the rules tell a country and a line by it
        code = digits[:4] if len(digits) > 9 else digits[:1]
        rest = str(len(numbers) + 1).rjust(len(digits) - len(code), "5")
        return plus + numbers.setdefault(digits, code + rest)

    return name + colon + _NUMBER.sub(made_up, value)
