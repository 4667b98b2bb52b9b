"""What Planfix was told, in lines a person can read."""

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
    line = f" by {fields['diversion']}" if fields.get("diversion") else ""
    return printable(f"Call {way} {fields.get('phone', '?')}{line}  ({fields['callid'][:8]})")


def line(fields: Mapping[str, str], at: int) -> str:
    """Return one line: time of day (UTC), ext, what Planfix is told. at: µs since 1970."""
    clock = datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%H:%M:%S.%f")[:-4]
    return printable(f"  {clock}  {fields.get('ext', '-'):>11}  {meaning(fields)}")


def meaning(fields: Mapping[str, str]) -> str:
    """Return a request to Planfix in words."""
    if fields["cmd"] == "record":
        return "record     link to the recording"

    event = fields["event"]
    if event != "COMPLETED":
        return f"{event:<9}  {SAID[event]}"

    words = ENDED.get(fields["status"], fields["status"]).format(duration=fields["duration"])
    recorded = ", recorded" if fields["is_recorded"] == "1" else ""
    return f"{event:<9}  {fields['status']}: {words}{recorded}"
