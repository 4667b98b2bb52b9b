"""An open call as JSON and back, so that a restart knows what was already said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from .model import Call, Leg
from .tracker import Tracker


@dataclass(slots=True)
class OpenCall:
    """A call that is not over, with its legs."""

    call: Call
    legs: list[Leg]
    last_at: int


_json = TypeAdapter(OpenCall)


def dump(tracker: Tracker, callid: str) -> str | None:
    """Return the state of a call, None if it is over."""
    call = tracker.calls.get(callid)
    if call is None:
        return None
    found = [tracker.book.get(uuid) for uuid in call.legs]
    legs = [leg for leg in found if leg is not None]
    return _json.dump_json(OpenCall(call, legs, tracker.last_at)).decode()


def restore(tracker: Tracker, state: str) -> str:
    """Put a call and its legs back unless the tracker knows as much; return its callid.

    Raises ValueError if the state cannot be read.
    """
    return put_back(tracker, read(state))


def put_back(tracker: Tracker, found: OpenCall) -> str:
    """Put a call that was read back, as `restore` does; return its callid."""
    callid = found.call.callid
    mine = tracker.calls.get(callid)
    if mine is not None and mine.position >= found.call.position:
        return callid
    tracker.calls[callid] = found.call
    tracker.callids.resume(found.call)
    for leg in found.legs:
        known = tracker.book.legs.setdefault(leg.uuid, leg)
        known.ringing = known.ringing or leg.ringing
        known.calls = sorted({*known.calls, *leg.calls})
        known.answered = known.answered or leg.answered
        known.client_of = known.client_of or leg.client_of
    tracker.last_at = max(tracker.last_at, found.last_at)
    return callid


def read(state: str) -> OpenCall:
    """Read a state, also one of an older release. Raises ValueError."""
    if '"engagements"' in state:
        found = _json.validate_python(_brought_up_to_date(json.loads(state)))
    else:
        found = _json.validate_json(state)

    call = found.call
    if not call.first_leg:  # before the second edition of the rules
        call.first_leg = call.callid
        if '"talked":true' in state:  # when is not known: any of its recordings may hold a talk
            call.talks.append((call.born, found.last_at))
    return found


def _brought_up_to_date(raw: Any) -> Any:
    """Change a state of 0.1: parts were engagements, and 0 stood for a time that was not yet."""
    call = raw.get("call", {}) if isinstance(raw, dict) else {}
    if "engagements" not in call:
        return raw
    call["parts"] = call.pop("engagements")

    for part in (*call["parts"], *call.get("untold", [])):
        for name in ("accepted_at", "parted_at", "ended_at"):
            part[name] = part.get(name) or None

    for recordings in (call["recordings"], *(leg["recordings"] for leg in raw["legs"])):
        for recording in recordings:
            recording["stopped"] = recording.get("stopped") or None
    return raw
