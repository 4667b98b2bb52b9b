"""What is known about a call, as one timeline: what Planfix was told, with its answers, and what it was not told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from textwrap import fill

from . import timeline
from .outbox.rows import Entry, Queued
from .outbox.store import Store
from .outbox.tables import DEAD, DONE, SHADOW, SKIPPED, WAITING
from .planfix.messages import form

WIDTH = 80

MARKS = {DONE: "✓", WAITING: "…", DEAD: "✗", SKIPPED: "-", SHADOW: "○"}
MEANINGS = {
    "✓": "Planfix has it",
    "…": "waits for its turn, or to be sent again",
    "✗": "set aside: Planfix refused it (fsplanfix queue list)",
    "-": "too late to matter, not sent",
    "○": "shadow mode, not sent",
}


def story(store: Store, query: str, number: str) -> list[str]:
    """Return the lines about a callid or, if nothing is kept under that, about all calls with a number."""
    said, noted = store.about(callid=query)
    if not said and not noted and number:
        said, noted = store.about(phone=number)
    lines = [text for _, text in sorted([*_told(said), *_written(noted)], key=lambda line: line[0])]
    found = {MARKS[queued.state] for queued in said}
    return [*lines, *(f"{mark} {meaning}" for mark, meaning in MEANINGS.items() if mark in found)]


def _told(said: list[Queued]) -> Iterator[tuple[float, str]]:
    known: set[str] = set()
    for queued in said:
        notice = queued.notice
        fields = form(notice, _where)
        at = notice.at / 1_000_000
        if notice.callid not in known:
            known.add(notice.callid)
            yield at, timeline.header({**fields, "type": notice.type, "phone": notice.phone})
        yield at, f"{MARKS[queued.state]}{timeline.line(fields, notice.at)[1:]}"
        if queued.answer:
            yield at, fill(queued.answer, WIDTH, initial_indent=" " * 15, subsequent_indent=" " * 15)


def _where(_: str, path: str) -> str:
    """Show a recording by its file: no link here, it would let anybody listen."""
    return path


def _written(noted: list[Entry]) -> Iterator[tuple[float, str]]:
    for entry in noted:
        clock = datetime.fromtimestamp(entry.at, UTC).strftime("%H:%M:%S.%f")[:-4]
        yield entry.at, fill(f"  {clock}  {entry.ext or '-':>11}  {entry.what}", WIDTH, subsequent_indent=" " * 28)
