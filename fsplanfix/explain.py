"""All that is known about a call: what FreeSWITCH said, which rule fired, the answer.

The rules are those of shared/call-rules.md. What was heard is played through them once more, so
that each thing Planfix was told stands under the event that caused it.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill

from . import timeline
from .calls.model import Kind, Leg, Notice, Role, Rules, Status
from .calls.tracker import Tracker
from .errors import RecordingFileError
from .freeswitch.events import SwitchEvent
from .outbox.archive import Archive
from .outbox.rows import Entry, Queued
from .outbox.tables import DEAD, DONE, SHADOW, SKIPPED, WAITING
from .planfix.messages import form
from .scribe import unpacked

WIDTH = 80
MARKS = {DONE: "✓", WAITING: "…", DEAD: "✗", SKIPPED: "-", SHADOW: "○"}
MEANINGS = {
    "✓": "Planfix has it",
    "…": "waits for its turn, or to be sent again",
    "✗": "set aside: Planfix refused it (fsplanfix queue list)",
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
    lines += [line for queued in told.values() for line in _told(queued, "")]
    lines += [_written(entry) for entry in noted]
    if not lines:
        return []
    head = _header(said[0].notice) if said else f"Call {callid}"
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
    """Play the events; take what was told out of `told` in turn, and show the rule that fired."""
    tracker, rang = Tracker(rules), set[str]()
    for event in events:
        before = tracker.book.get(event.leg)
        notices = tracker.feed(event)
        leg = tracker.book.get(event.leg) or before
        if event.name in RINGING:
            rang.add(event.leg)
        if leg is not None and (text := _what(event, leg, tracker, event.leg in rang)):
            yield Line(event.at, _line(event.at, " ", _who(leg), text))
        for notice in notices:
            queued = told.pop(_key(notice), None)
            if queued is not None:
                yield from _told(queued, _rule(notice, event))


def _who(leg: Leg) -> str:
    return leg.ext or ("client" if leg.role is Role.OUTSIDE else "(glue)")


def _what(event: SwitchEvent, leg: Leg, tracker: Tracker, rang: bool) -> str:
    """Return an event in words, "" if it says nothing to a person."""
    if event.name == "CHANNEL_CREATE":
        way = "calls" if leg.inbound else "is called"
        return f"{way}{', marked planfix_ignore' if leg.ignored else ''}"
    if event.name == "CHANNEL_BRIDGE":
        other = tracker.book.get(
            event.get("Other-Leg-Unique-ID") or event.get("Bridge-B-Unique-ID")
        )
        return f"is connected with {_who(other) if other is not None else 'somebody'}"
    if event.name == "CHANNEL_HANGUP_COMPLETE":
        never = leg.role is Role.EMPLOYEE and not leg.inbound and not rang
        remark = " (never rang: no window, rule 1)" if never else ""
        return f"hangs up: {event.get('Hangup-Cause')}{remark}"
    if event.name.startswith("RECORD_"):
        cause = event.get("Record-Completion-Cause")
        file = event.get("Record-File-Path").rpartition("/")[2]
        return f"{HEARD[event.name]}: {file} {cause}".rstrip()
    return HEARD.get(event.name, "")


def _rule(notice: Notice, event: SwitchEvent) -> str:
    """Return which of the call rules said so."""
    bridged = event.name == "CHANNEL_BRIDGE"
    if notice.kind is Kind.INCOMING:
        return "rule 5: got the client without ringing" if bridged else _incoming(event)
    if notice.kind is Kind.ACCEPTED:
        return (
            "rule 8: connected with the client"
            if notice.type == "out"
            else "rule 2: connected with the client"
        )
    by_kind = {
        Kind.OUTGOING: "rule 7: the client is being called",
        Kind.RECORD: "rule 13: a final file of a talk",
    }
    by_status = {
        Status.CANCELED: "rule 2: a colleague has the client"
        if bridged
        else "rule 3: the next phone rings",
        Status.MISSED: "rule 3: the call is over, nobody took it",
        Status.SUCCESS: "rule 4: the talk is over",
    }
    return (
        by_kind.get(notice.kind)
        or (by_status.get(notice.status) if notice.status else None)
        or _unanswered(event)
    )


def _incoming(event: SwitchEvent) -> str:
    rings = event.name.startswith("CHANNEL_PROGRESS")
    return (
        "rule 1: the phone rings"
        if rings
        else "rule 6: no phone rang, the call is shown all the same"
    )


def _unanswered(event: SwitchEvent) -> str:
    return f"rule 9: the client's leg ended with {event.get('Hangup-Cause') or 'nothing said'}"


def _told(queued: Queued, rule: str) -> Iterator[Line]:
    """Show a notice, the rule behind it, and what became of it."""
    notice = queued.notice
    fields = form(notice, _where)
    yield Line(notice.at, f"{MARKS[queued.state]}{timeline.line(fields, notice.at)[1:]}")
    tries = f"{queued.attempts} tries" if queued.attempts > 1 else ""
    sent = f"sent {_clock(queued.settled)}" if queued.state == DONE else ""
    about = "; ".join(
        part for part in (rule, sent, tries, queued.answer if queued.state != DONE else "") if part
    )
    if about:
        yield Line(
            notice.at, fill(about, WIDTH, initial_indent=INDENT * 2, subsequent_indent=INDENT * 2)
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
    return fill(
        f"{mark} {_clock(at / 1_000_000)}  {who:>11}  {what}", WIDTH, subsequent_indent=INDENT * 2
    )


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
    begun = events[0].at if events else 0
    head = {
        "scenario": callid,
        "what": "exported by fsplanfix",
        "freeswitch": "unknown",
        "events": len(events),
    }
    lines = [json.dumps(head)]
    for event in events:
        body = event.raw.decode("utf-8", "replace")
        text = "\n".join(_masked(line, numbers) if masked else line for line in body.split("\n"))
        lines.append(json.dumps({"t": round((event.at - begun) / 1_000_000, 3), "event": text}))
    try:
        file.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
    except OSError as error:
        raise RecordingFileError(f"{file} cannot be written ({error.strerror}).") from None
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
