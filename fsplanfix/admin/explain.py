"""All that is known about a call: what FreeSWITCH said, which rule fired, the answer.

The rules are those of docs/call-rules.md. What was heard is played through them once more, so
that each thing Planfix was told stands under the event that caused it.
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
from ..planfix.forms import form
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
    """One line of a timeline. at: microseconds since 1970."""

    at: int
    text: str


def story(archive: Archive, rules: Rules, callid: str) -> list[str]:
    """Return the lines about a call, [] if nothing is kept of it."""
    said, noted = archive.about(callid)
    events = unpacked(archive.heard(callid))
    told = {_key(queued.notice): queued for queued in said}
    lines = [*_played(events, rules, told)]
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
    """Play the events; show each, and under it what was told because of it.

    What was told is taken out of `told` as it comes up.
    """
    tracker, marks = Tracker(rules), set[tuple[str, str]]()
    for event in events:
        if event.name == UNHEARD:
            since, until = _time(event.at), _time(moment(event.get(UNTIL)))
            what = f"unknown: the service was not listening from {since} to {until}"
            yield Line(event.at, _line(event.at, "?", "-", what))

        before = tracker.book.get(event.leg)
        notices = tracker.feed(event)
        leg = tracker.book.get(event.leg) or before
        if leg is not None and (text := _what(event, leg, tracker, marks)):
            yield Line(event.at, _line(event.at, " ", _who(leg), text))

        marks.add((event.name, event.leg))
        for notice in notices:
            queued = told.pop(_key(notice), None)
            if queued is not None:
                rule = queued.notice.rule or notice.rule
                yield from _told(queued, _reason(rule, notice, event))


def _who(leg: Leg) -> str:
    if leg.role is Role.GLUE:
        return "(glue)"
    if leg.role is Role.HOUSE:
        return "colleague"
    return leg.ext or ("client" if leg.client_of else leg.number or "outside")


def _what(event: SwitchEvent, leg: Leg, tracker: Tracker, marks: set[tuple[str, str]]) -> str:
    """Return an event in words, "" if it says nothing to a person.

    marks: name and leg of the events before it.
    """
    name = event.name
    if name == "CHANNEL_CREATE":
        way = "calls" if leg.inbound else "is called"
        text = f"{way}{', marked planfix_ignore' if leg.ignored else ''}"
    elif name == "CHANNEL_BRIDGE":
        text = _connected(event, leg, tracker)
    elif name == "CUSTOM":
        verb = {"add-member": "joins", "del-member": "leaves"}.get(event.get("Action"))
        text = f"{verb} the conference {event.get('Conference-Name')}" if verb else ""
    elif name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
        # the leg may be torn down much later than it hung up: that is said once
        text = "" if ("CHANNEL_HANGUP", leg.uuid) in marks else _hung_up(event, leg, marks)
    elif name.startswith("RECORD_"):
        file = event.get("Record-File-Path").rpartition("/")[2]
        text = f"{HEARD[name]}: {file} {event.get('Record-Completion-Cause')}".rstrip()
    else:
        text = HEARD.get(name, "")

    return text


def _hung_up(event: SwitchEvent, leg: Leg, marks: set[tuple[str, str]]) -> str:
    was_called = leg.role is Role.EMPLOYEE and not leg.inbound
    rang = any((name, leg.uuid) in marks for name in RINGING)
    remark = " (never rang: no window, rule 1)" if was_called and not rang else ""
    cause = event.get("Hangup-Cause")
    if not cause:
        return "is gone: nobody heard its end (rule 15)"

    return f"hangs up: {cause}{remark}"


def _connected(event: SwitchEvent, leg: Leg, tracker: Tracker) -> str:
    """Return a bridge in words: one in early media is no answer (rule 2)."""
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
"""What a rule said of a notice, by the rule's number and the notice's kind or status."""


def _reason(rule: str, notice: Notice, event: SwitchEvent | None = None) -> str:
    """Return the rule that decided, and why, for people; "" if an older release did not say."""
    if rule == "9":
        cause = event.get("Hangup-Cause") if event is not None else ""
        return f"rule 9: ended unanswered{f' ({cause})' if cause else ''}"
    reason = REASONS.get((rule, notice.status or notice.kind), "")
    return f"rule {rule}: {reason}" if reason else ""


def _told(queued: Queued, rule: str) -> Iterator[Line]:
    """Show a notice, the rule behind it, and what became of it."""
    notice = queued.notice
    fields = form(notice, _where)
    yield Line(notice.at, f"{MARKS[queued.state]}{timeline.line(fields, notice.at)[1:]}")
    tries = f"{queued.attempts} tries" if queued.attempts > 1 else ""
    sent = f"sent {_clock(queued.settled)}" if queued.state == State.DONE else ""
    about = "; ".join(
        part
        for part in (rule, sent, tries, queued.answer if queued.state != State.DONE else "")
        if part
    )

    if about:
        yield Line(
            notice.at,
            fill(printable(about), WIDTH, initial_indent=INDENT * 2, subsequent_indent=INDENT * 2),
        )


def _where(_: str, path: str) -> str:
    """Show a recording by its file: no link here, it would let anybody listen."""
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


# a call to attach to a report of a mistake

_NUMBER = re.compile(r"(?<![0-9A-Za-z_-])(?:%2B)?[0-9]{7,15}(?![0-9A-Za-z_-])")


def export(packed: bytes, file: Path, callid: str, masked: bool) -> int:
    """Write a call as a recording that `replay` plays; return how many events it has.

    masked: put made-up numbers in the place of real ones, the same for the same. Raises
    RecordingFileError if the file cannot be written.
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
        text = "\n".join(_masked(line, numbers) if masked else line for line in body.split("\n"))
        bodies.append((event.at, text))

    write_trace(file, head, bodies)
    return len(events)


def _masked(line: str, numbers: dict[str, str]) -> str:
    """Mask the phone numbers in a header's value; its UUIDs and times are none."""
    name, colon, value = line.partition(":")
    if name.endswith(("Unique-ID", "UUID", "Timestamp", "Sequence", "uuid")):
        return line

    def made_up(found: re.Match[str]) -> str:
        plus = "%2B" if found[0].startswith("%2B") else ""
        digits = found[0].removeprefix("%2B")
        code = digits[:4] if len(digits) > 9 else digits[:1]
        rest = str(len(numbers) + 1).rjust(len(digits) - len(code), "5")
        return plus + numbers.setdefault(digits, code + rest)

    return name + colon + _NUMBER.sub(made_up, value)
