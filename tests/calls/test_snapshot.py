"""An open call as the store keeps it, also as older releases wrote it."""

import json
from typing import Any

import pytest

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import Notice
from fsplanfix.calls.tracker import Tracker

from ..support.traces import events, rules_of

NAMES = ["group_answered", "blind_transfer_answered", "queue_answered", "out_answered"]


def as_0_1_wrote_it(state: str) -> str:
    """Parts were engagements, and 0 stood for a time that was not yet."""
    old: dict[str, Any] = json.loads(state)
    old["call"]["engagements"] = old["call"].pop("parts")
    for part in (*old["call"]["engagements"], *old["call"]["untold"]):
        for name in ("accepted_at", "parted_at", "ended_at"):
            part[name] = part[name] or 0
    for recordings in (old["call"]["recordings"], *(leg["recordings"] for leg in old["legs"])):
        for recording in recordings:
            recording["stopped"] = recording["stopped"] or 0
    return json.dumps(old)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_an_older_release_began_goes_on(name: str) -> None:
    """At every event: what is told from there on is what would have been told."""
    heard = events(name)
    whole, before = Tracker(rules_of(name)), list[Notice]()
    for at, event in enumerate(heard):
        before += whole.feed(event)
        upgraded = Tracker(rules_of(name))
        for callid in whole.calls:
            state = snapshot.dump(whole, callid)
            assert state is not None
            snapshot.restore(upgraded, as_0_1_wrote_it(state))
            assert snapshot.dump(upgraded, callid) == state
        rest = [notice for later in heard[at + 1 :] for notice in upgraded.feed(later)]
        if whole.calls:
            expected = [n for n in told(name) if n not in before]
            assert [n for n in rest if n.callid in whole.calls] == expected


def told(name: str) -> list[Notice]:
    tracker = Tracker(rules_of(name))
    return [notice for event in events(name) for notice in tracker.feed(event)]
