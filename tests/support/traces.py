"""The recorded calls and what is expected of them, for every test that plays some.

A call is named by its folder and its name, such as `vanilla/fifo_park`; those of `lab` by their
name alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fsplanfix.admin.traces import read_trace, settings_of
from fsplanfix.calls.model import Kind, Notice, Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.calls.whose import AccountRules
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.settings import RuleSettings

TRACES = Path(__file__).parent.parent / "traces"
WIRE = Path(__file__).parent.parent / "wire"
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


@dataclass(frozen=True)
class Expected:
    """What Planfix must be told of the call in a trace.

    calls: alternatives, none of which is a lie; each is a list of calls in the shorthand
    of docs/call-rules.md. talk: the least and the most seconds that an ext may be credited with.
    """

    calls: list[list[str]]
    talk: dict[str, list[int]]


@cache
def expected() -> dict[str, Expected]:
    found: dict[str, Expected] = {}
    for page in sorted(TRACES.glob("*/expected.json")):
        for name, wanted in json.loads(page.read_text(encoding="utf-8")).items():
            key = f"{page.parent.name}/{name}".removeprefix("lab/")
            found[key] = Expected(wanted["calls"], wanted.get("talk", {}))
    return found


NAMES = sorted(expected())


def path_of(name: str) -> Path:
    return TRACES / f"{name if '/' in name else f'lab/{name}'}.jsonl.gz"


@cache
def rules_of(name: str) -> Rules:
    """The settings that a trace brings; nothing comes from the environment."""
    own = {key.lower(): value for key, value in settings_of(path_of(name)).items()}
    return RuleSettings.model_validate(own).rules()


def wire(name: str) -> list[str]:
    """What FreeSWITCH said in a recorded conversation, in order."""
    lines = (WIRE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["received"] for entry in map(json.loads, lines) if "received" in entry]


@cache
def bodies(name: str) -> tuple[bytes, ...]:
    return tuple(body.encode() for _, body in read_trace(path_of(name)))


@cache
def events(name: str) -> tuple[SwitchEvent, ...]:
    """Only the events that have a rule: the others are what the subscription leaves out."""
    wanted = set(Tracker(Rules()).event_names)
    return tuple(event for body in bodies(name) if (event := SwitchEvent(body)).name in wanted)


def told(stream: Iterable[SwitchEvent], rules: Rules | AccountRules | None = None) -> list[Notice]:
    tracker = Tracker(rules or Rules())
    notices = [notice for event in stream for notice in tracker.feed(event)]
    assert not tracker.calls
    assert not tracker.book.legs
    return notices


def shorthand(notices: Iterable[Notice]) -> dict[str, list[str]]:
    """Return per callid: the head of the call rules' shorthand, then a token for each notice."""
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


def is_one_of(calls: Iterable[list[str]], alternatives: list[list[str]]) -> bool:
    """Tell whether calls in shorthand are what `expected.json` wants."""
    said = [(tokens[0].split(), by_ext(tokens[1:])) for tokens in calls]
    return any(_agree(said, wanted) for wanted in alternatives)


def _agree(said: list[tuple[list[str], dict[str, list[str]]]], wanted: list[str]) -> bool:
    if len(said) != len(wanted):
        return False
    for (head, tokens), line in zip(said, wanted, strict=True):
        wanted_head, _, wanted_tokens = line.partition(": ")
        parts = wanted_head.split()
        diversion = head[2] if parts[2] == "*" else parts[2]
        if head != [*parts[:2], diversion] or tokens != by_ext(wanted_tokens.split()):
            return False
    return True


def wanted(name: str) -> list[str]:
    return expected()[name].calls[0][0].split(": ")[1].split()


def assert_every_part_ends_once(notices: list[Notice]) -> None:
    begun = [
        (n.callid, n.ext, n.ordinal) for n in notices if n.kind in (Kind.INCOMING, Kind.OUTGOING)
    ]
    ended = [(n.callid, n.ext, n.ordinal) for n in notices if n.kind is Kind.COMPLETED]
    assert sorted(begun) == sorted(ended)
    assert len(set(begun)) == len(begun)
