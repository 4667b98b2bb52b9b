"""Requests to Planfix as lines that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ..printable import printable

SAID = {
    "INCOMING": "rings: call window opens",
    "OUTGOING": "calls the client",
    "ACCEPTED": "talks with the client",
}
ENDED = {
    "Success": "talked {duration} s",
    "Missed": "nobody picked up",
    "Canceled": "the call went elsewhere",
    "Busy": "the client is busy",
    "NoAnswer": "no answer",
    "NotAvailable": "client cannot be reached",
    "NotAllowed": "the call is not allowed",
}


def header(fields: Mapping[str, str]) -> str:
    """Return the line that introduces a call, from the fields of any of its events."""
    way = "from" if fields.get("type") == "in" else "to"
    text = f"Call {way} {fields.get('phone', '?')}"
    if fields.get("diversion"):
        text += f" by {fields['diversion']}"
    return printable(f"{text}  ({fields['callid'][:8]})")


def line(fields: Mapping[str, str], at: int) -> str:
    """Return one line: the time of day (UTC), the ext and the request in words.

    at: microseconds since 1970.
    """
    clock = datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%H:%M:%S.%f")[:-4]
    return printable(f"  {clock}  {fields.get('ext', '-'):>11}  {meaning(fields)}")


def meaning(fields: Mapping[str, str]) -> str:
    """Return a request to Planfix in words."""
    if fields["cmd"] == "record":
        return "record     link to the recording"

    event = fields["event"]
    if event != "COMPLETED":
        return f"{event:<9}  {SAID[event]}"

    # an unknown status is shown as it is
    words = ENDED.get(fields["status"], fields["status"]).format(duration=fields["duration"])
    recorded = ", recorded" if fields["is_recorded"] == "1" else ""
    return f"{event:<9}  {fields['status']}: {words}{recorded}"
