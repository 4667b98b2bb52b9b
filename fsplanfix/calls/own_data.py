"""What a call knows by itself, for Planfix's data fields (docs/call-rules.md, rule 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    read = {"menu": "" if digits == "none" else digits, "queue": queue}
    found = {name: value[:LONGEST_DATA_VALUE] for name, value in read.items() if value}

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
    files = [file.path for file in call.recordings for span in spans if file.overlaps(*span)]
    begun = part.accepted_at if part.accepted_at is not None else at
    # after a transfer he waits from the end of the talk before
    free_since = max([call.born, *(end for _, end in call.talks if end <= begun)])
    known: Mapping[str, str] = {
        "wait": str(max(begun - free_since, 0) // MICROSECONDS),
        "queue": call.own_data.get("queue", ""),
        "menu": call.own_data.get("menu", ""),
        "ended_by": part.ended_by if status is Status.SUCCESS else "",
        "hops": str(sum(count for ext, count in call.ordinals.items() if ext != RECORDS)),
        "recording": PurePosixPath(files[0]).name[:LONGEST_DATA_VALUE] if files else "",
    }
    return {name: known[field] for field, name in rules.data_fields.items() if known[field]}
