"""The call detail records that FreeSWITCH would write of the legs of a trace.

Made of a leg's own events: what mod_json_cdr writes stands in them (docs/facts/freeswitch.md, "Call
detail records").
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from .playback import Step

CALLER = {
    "Caller-Caller-ID-Number": "caller_id_number",
    "Caller-Destination-Number": "destination_number",
    "Caller-Context": "context",
    "Caller-Unique-ID": "uuid",
    "Caller-Channel-Name": "chan_name",
}
TIMES = ("Created", "Progress", "Progress-Media", "Answered", "Bridged", "Hangup", "Transfer")


@dataclass
class _Profile:
    """What a leg was between two transfers. others: by `originator` and `originatee`."""

    caller: dict[str, str] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class _Leg:
    profiles: dict[int, _Profile] = field(default_factory=dict)
    applications: list[dict[str, str]] = field(default_factory=list)


class Records:
    """Follows the events of calls and gives the record of each leg that has ended."""

    def __init__(self) -> None:
        self._legs: dict[str, _Leg] = {}

    def follow(self, step: Step) -> tuple[str, str] | None:
        """Take an event; return the name and the text of a record if it is now written.

        FreeSWITCH writes it directly before CHANNEL_HANGUP_COMPLETE.
        """
        headers = dict(line.split(": ", 1) for line in step.body.split("\n") if ": " in line)
        name, uuid = headers.get("Event-Name", ""), unquote(headers.get("Unique-ID", ""))
        if not uuid:
            return None
        if name == "CHANNEL_UUID":
            self._legs[uuid] = self._legs.pop(unquote(headers.get("Old-Unique-ID", "")), _Leg())

        leg = self._legs.setdefault(uuid, _Leg())
        _note(leg, headers)
        if name != "CHANNEL_HANGUP_COMPLETE":
            return None

        del self._legs[uuid]
        prefix = "" if "variable_originator" in headers else "a_"
        return f"{prefix}{uuid}.cdr.json", json.dumps(_record(uuid, leg, headers))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.rename(path)


def _note(leg: _Leg, headers: dict[str, str]) -> None:
    index = headers.get("Caller-Profile-Index", "")
    if not index.isdigit():
        return

    profile = leg.profiles.setdefault(int(index), _Profile())
    # the number shown and the number dialled of the first profile are those of the beginning
    for header, name in CALLER.items():
        if header in headers:
            profile.caller.setdefault(name, unquote(headers[header]))
    for what in TIMES:
        at = headers.get(f"Caller-Channel-{what}-Time", "0")
        key = f"{what.lower().replace('-', '_')}_time"
        if at != "0" or what not in ("Hangup", "Bridged", "Transfer"):
            profile.times[key] = at

    kind, other = headers.get("Other-Type", ""), unquote(headers.get("Other-Leg-Unique-ID", ""))
    if kind and other and other not in profile.others.setdefault(kind, []):
        profile.others[kind].append(other)

    if headers.get("Event-Name") == "CHANNEL_EXECUTE":
        leg.applications.append(
            {
                "app_name": unquote(headers.get("Application", "")),
                "app_data": unquote(headers.get("Application-Data", "")),
                "app_stamp": headers.get("Event-Date-Timestamp", "0"),
            }
        )


def _record(uuid: str, leg: _Leg, headers: dict[str, str]) -> dict[str, object]:
    begins = "variable_"
    variables = {
        name.removeprefix(begins): value
        for name, value in headers.items()
        if name.startswith(begins)
    }
    ended = headers.get("Caller-Channel-Hangup-Time", headers.get("Event-Date-Timestamp", "0"))
    flow = []
    for index, profile in sorted(leg.profiles.items(), reverse=True):
        caller: dict[str, object] = dict(profile.caller)
        for kind, others in profile.others.items():
            caller[kind] = {f"{kind}_caller_profiles": [{"uuid": other} for other in others]}
        times = {**profile.times}
        if index == max(leg.profiles):
            times["hangup_time"] = ended
        flow.append({"profile_index": str(index), "caller_profile": caller, "times": times})

    return {
        "core-uuid": headers.get("Core-UUID", ""),
        "variables": {**variables, "uuid": uuid},
        "app_log": {"applications": leg.applications},
        "callflow": flow,
    }
