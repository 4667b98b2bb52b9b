"""The recorded calls and what is expected of them, for every test that plays some."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from fsplanfix.calls.model import Kind, Notice, Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.replay import read_trace

TRACES = Path(__file__).parent / "traces"
WIRE = Path(__file__).parent / "wire"
SHORT = {"INCOMING": "I", "OUTGOING": "O", "ACCEPTED": "A"}
ENDS = {
    "Success": "S",
    "Missed": "M",
    "Canceled": "X",
    "Busy": "B",
    "NoAnswer": "N",
    "NotAvailable": "V",
    "NotAllowed": "F",
}


@cache
def expected() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads((TRACES / "expected.json").read_text())
    return found


NAMES = sorted(expected())


def wire(name: str) -> list[str]:
    """What FreeSWITCH said in a recorded conversation, in order."""
    lines = (WIRE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["received"] for entry in map(json.loads, lines) if "received" in entry]


@cache
def bodies(name: str) -> tuple[bytes, ...]:
    return tuple(body.encode() for _, body in read_trace(TRACES / f"{name}.jsonl.gz"))


@cache
def events(name: str) -> tuple[SwitchEvent, ...]:
    """Only the events that have a rule: the others are what the subscription leaves out."""
    wanted = set(Tracker(Rules()).event_names)
    return tuple(event for body in bodies(name) if (event := SwitchEvent(body)).name in wanted)


def told(stream: Iterable[SwitchEvent], rules: Rules | None = None) -> list[Notice]:
    tracker = Tracker(rules or Rules())
    notices = [notice for event in stream for notice in tracker.feed(event)]
    assert not tracker.calls
    assert not tracker.book.legs
    return notices


def shorthand(notices: Iterable[Notice]) -> dict[str, list[str]]:
    """Return per callid: the head of the shorthand of call-rules.md, then a token for each notice."""
    calls: dict[str, list[str]] = {}
    for n in notices:
        tokens = calls.setdefault(n.callid, [f"{n.type} {n.phone} {n.diversion or '-'}"])
        if n.kind is Kind.RECORD:
            tokens.append("R")
        elif n.status is not None:
            tokens.append(ENDS[n.status] + (n.ext or "-") + ("!" if n.is_recorded else ""))
        else:
            tokens.append(SHORT[n.kind] + (n.ext or "-"))
    return calls


def by_ext(tokens: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for token in tokens:
        found.setdefault(token[1:].rstrip("!") if token != "R" else "R", []).append(token)
    return found
