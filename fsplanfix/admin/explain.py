"""`fsplanfix explain`: the events of a call, the rule behind each notice, Planfix's answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from textwrap import fill

from ..calls.event_log import unpacked
from ..calls.model import MICROSECONDS, Kind, Notice
from ..calls.whose import AnyRules, all_rules
from ..outbox.archive import Archive, Known
from ..outbox.call_list import ListedCall
from ..outbox.queue import SENT_BEFORE
from ..outbox.records import Entry, Queued
from ..outbox.schema import State
from ..planfix.forms import build_form
from ..printable import WIDTH, printable
from . import colors, timeline
from .story import CAUSES, Step, Voice, steps
from .traces import write_trace

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
    "-": "not sent, for the reason that is given",
    "○": "shadow mode, not sent",
    "!": "went wrong",
    "?": "nobody listened",
}
COLORS = {
    "✓": colors.GOOD,
    "…": colors.ODD,
    "✗": colors.BAD,
    "!": colors.BAD,
    "?": colors.ODD,
}
INDENT = " " * 15


def story(archive: Archive, rules: AnyRules, callid: str, account: str = "") -> list[str]:
    """Return the lines about a call, [] if nothing is stored of it. account: see `steps`."""
    found = steps(archive, rules, callid, Voice(str, _time, _with_meaning), account)
    if not found:
        return []

    said = [step.queued for step in found if step.queued is not None]
    head = [_header(said[0].notice)] if said else []
    if said and not all_rules(rules).is_one:
        head.append(f"account {said[0].notice.account}")
    marks = {_mark(step) for step in found}
    legend = [f"{mark} {meaning}" for mark, meaning in MEANINGS.items() if mark in marks]
    silent = [] if said else ["Planfix is told nothing of this call."]

    return [
        *head,
        f"callid {printable(callid)}",
        timeline.day(found[0].at),
        *(line for step in found for line in _lines(step)),
        *silent,
        *legend,
    ]


def _with_meaning(cause: str) -> str:
    """Return a hang-up cause as FreeSWITCH names it, with its meaning where that says more."""
    if cause == "NORMAL_CLEARING" or cause not in CAUSES:
        return cause
    return f"{cause}, {CAUSES[cause]}"


def _header(notice: Notice) -> str:
    return timeline.header({name: getattr(notice, name) for name in ("type", "phone", "diversion")})


def _lines(step: Step) -> Iterator[str]:
    """Yield the lines of a step."""
    if step.queued is not None:
        yield from _told(step.queued, step.reason)
        return

    yield _line(step.at, _mark(step), step.who or "-", step.text)


def _mark(step: Step) -> str:
    """Return the sign before a step; MEANINGS explains it."""
    if step.queued is not None:
        return MARKS[step.queued.state]
    if step.is_gap:
        return "?"
    return "!" if step.is_trouble else " "


def _told(queued: Queued, rule: str) -> Iterator[str]:
    """Yield the lines of a notice: its request, then the rule behind it and its delivery."""
    notice = queued.notice
    # whether its link went out with a COMPLETED stands beside the recording
    is_end = notice.kind is Kind.COMPLETED
    if is_end:
        notice = replace(notice, recording="")
    fields = build_form(notice, _where)
    yield f"{MARKS[queued.state]}{timeline.line(fields, notice.at / MICROSECONDS)[1:]}"

    about = [rule]
    if queued.state == State.DONE:
        about.append(f"sent {timeline.clock(queued.settled)}")
    if queued.attempts > 1:
        about.append(f"{queued.attempts} tries")
    if queued.state != State.DONE or queued.answer == SENT_BEFORE:
        about.append(queued.answer)

    text = "; ".join(part for part in about if part)
    if text:
        indent = INDENT * 2
        yield fill(printable(text), WIDTH, initial_indent=indent, subsequent_indent=indent)


def _where(_: str, path: str) -> str:
    """Return a recording's file instead of its link, which would let anybody listen."""
    return path


def refusal(entry: Entry) -> str:
    """Return a line about something that led to no call, with its date."""
    line = _line(entry.at, "!", entry.ext or "-", entry.what)
    return f"{timeline.day(entry.at)}\n{line}"


def one_line(archive: Archive, known: Known, call: ListedCall | None) -> str:
    """Return a call in one line, with its whole callid. call: None if it is not over, or none."""
    result = "not over"
    if call is None and not archive.about(known.callid)[0]:
        # a click that nobody picked up, or for a colleague, is never over
        result = "Planfix not told"
    if call is not None:
        talked = f" {call.talked} s" if call.talked else ""
        ext = call.shares[0].ext if call.shares else "-"
        result = f"{call.direction} {ext} {call.result}"
        result += talked
    when = f"{datetime.fromtimestamp(known.at):%Y-%m-%d %H:%M:%S}"
    return printable(f"{when}  {result:<21} {known.callid}")


def _line(at: float, mark: str, who: str, what: str) -> str:
    line = printable(f"{mark} {timeline.clock(at)}  {who:>11}  {what}")
    return fill(line, WIDTH, subsequent_indent=INDENT * 2)


def _time(at: float) -> str:
    """Return a time of day to the second. at: seconds since 1970."""
    return timeline.clock(at)[:-3]


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
