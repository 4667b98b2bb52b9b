"""What a call knows by itself, for Planfix's data fields (docs/call-rules.md, rule 14)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from ..freeswitch.events import SwitchEvent
from .model import MICROSECONDS, RECORDS, Call, Leg, Part, Rules, Status
from .variables import LONGEST_DATA_VALUE

FIELDS = ("wait", "queue", "menu", "ended_by", "hops", "recording")
"""What DATA_FIELDS may ask for."""


def read_own_data(leg: Leg, event: SwitchEvent, rules: Rules) -> bool:
    """Read the queue a client waits in and the digits he dialled; return whether that is news.

    FreeSWITCH keeps all digits of a leg, in a menu and later, and says "none" for none.
    """
    if not rules.data_fields:
        return False
    digits = event.get("variable_digits_dialed")
    queue = event.get("variable_cc_queue").partition("@")[0]
    found = {}
    if digits and digits != "none":
        found["menu"] = digits[:LONGEST_DATA_VALUE]
    if queue:
        found["queue"] = queue[:LONGEST_DATA_VALUE]

    is_news = not found.items() <= leg.own_data.items()
    leg.own_data |= found
    return is_news


def own_data(
    call: Call, part: Part, status: Status, at: int, spans: Sequence[tuple[int, int]], rules: Rules
) -> dict[str, str]:
    """Return what a part of a call that ends now knows, under the names of DATA_FIELDS.

    at: microseconds since 1970. spans: when its talks began and ended.
    """
    if not rules.data_fields:
        return {}

    begun = at if part.accepted_at is None else part.accepted_at
    # after a transfer he waits from the end of the talk before
    free_since = max([call.born, *(end for _, end in call.talks if end <= begun)])
    known = {
        "wait": str(max(begun - free_since, 0) // MICROSECONDS),
        "queue": call.own_data.get("queue", ""),
        "menu": call.own_data.get("menu", ""),
        "hops": str(sum(count for ext, count in call.ordinals.items() if ext != RECORDS)),
        "ended_by": "",
        "recording": _first_file(call, spans),
    }
    if status is Status.SUCCESS:
        known["ended_by"] = part.ended_by
    return {name: known[field] for field, name in rules.data_fields.items() if known[field]}


def _first_file(call: Call, spans: Sequence[tuple[int, int]]) -> str:
    """Return the name of the first recording of these talks, "" if there is none."""
    for recording in call.recordings:
        for begun, ended in spans:
            if recording.overlaps(begun, ended):
                return PurePosixPath(recording.path).name[:LONGEST_DATA_VALUE]
    return ""
