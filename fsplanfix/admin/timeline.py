"""Requests to Planfix as lines that a person can read, in the time zone of this machine (or TZ)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

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
    """Return the line that introduces a call, from the fields of any of its events.

    With the callid, its beginning is shown: `explain` takes that, too.
    """
    way = "from" if fields.get("type") == "in" else "to"
    text = f"Call {way} {fields.get('phone', '?')}"
    if fields.get("diversion"):
        line = "on line" if way == "from" else "from line"
        text += f" {line} {fields['diversion']}"
    if fields.get("callid"):
        text += f"  ({fields['callid'][:8]})"
    return printable(text)


def line(fields: Mapping[str, str], at: float, is_short: bool = False) -> str:
    """Return one line: the time of day, the ext and the request in words.

    at: seconds since 1970. is_short: the time has no hundredths of a second.
    """
    time = clock(at)
    if is_short:
        time = time[:-3]
    return printable(f"  {time}  {fields.get('ext', '-'):>11}  {meaning(fields)}")


def clock(at: float) -> str:
    """Return a time of day with hundredths of a second. at: seconds since 1970."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-4]


def day(at: float) -> str:
    """Return a day and the time zone that clocks have on it. at: seconds since 1970."""
    moment = datetime.fromtimestamp(at).astimezone()
    offset, name = f"UTC{moment.isoformat()[-6:]}", moment.tzname() or ""
    zone = f"{name} ({offset})" if name.isalpha() and name != "UTC" else offset
    return f"{moment:%Y-%m-%d}, times in {'UTC' if offset == 'UTC+00:00' else zone}"


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
    link = ", with the link" if "record_link" in fields else ""
    return f"{event:<9}  {fields['status']}: {words}{recorded}{link}"
