"""What the tracker missed while FreeSWITCH could not be heard, told as events (delivery-rules.md,
rule 7).

Pure: takes the tracker and FreeSWITCH's own account of its live channels (`uuid_dump ... json`),
gives events to feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..freeswitch.events import SwitchEvent
from .model import Leg
from .tracker import Tracker

Dump = Mapping[str, str]
"""The headers of one live channel, decoded."""


def missed(
    tracker: Tracker, dumps: Iterable[Dump], heard_since: Iterable[SwitchEvent] = ()
) -> list[SwitchEvent]:
    """Return the events to feed so that the tracker agrees with FreeSWITCH again.

    dumps: every live channel. heard_since: events that arrived while the dumps were taken; they are
    fed afterwards, so what they tell themselves (a leg's creation or end) is not made up here.
    After a restart of FreeSWITCH none of the known legs is live: all of them have ended.
    """
    live = {dump["Unique-ID"]: dump for dump in dumps if dump.get("Unique-ID")}
    told = {(event.name, event.leg) for event in heard_since}
    gone = [
        leg
        for leg in list(tracker.book.legs.values())
        if leg.uuid not in live and ("CHANNEL_HANGUP_COMPLETE", leg.uuid) not in told
    ]
    born = [
        dump
        for uuid, dump in sorted(live.items(), key=lambda item: _microseconds(item[1], "Created"))
        if tracker.book.get(uuid) is None and ("CHANNEL_CREATE", uuid) not in told
    ]
    there = [dump for uuid, dump in live.items() if ("CHANNEL_CREATE", uuid) not in told]
    return [
        *(_hangup(leg, tracker.last_at) for leg in _clients_last(gone)),
        *(_creation(dump) for dump in born),
        *(_progress(dump) for dump in there if _has_rung(dump)),
        *(_bridge(live[one], other) for one, other in _bridged(live)),
    ]


def _clients_last(legs: list[Leg]) -> list[Leg]:
    """A phone that is gone with its client did not outlive it: let the employees leave first."""
    return sorted(legs, key=lambda leg: bool(leg.client_of))


def _microseconds(dump: Dump, what: str) -> int:
    text = dump.get(f"Caller-Channel-{what}-Time", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0


def _hangup(leg: Leg, at: int) -> SwitchEvent:
    """The leg is gone and nobody knows why; the last moment known is its end."""
    return SwitchEvent.made_of(
        {
            "Event-Name": "CHANNEL_HANGUP_COMPLETE",
            "Unique-ID": leg.uuid,
            "Event-Date-Timestamp": str(at),
        }
    )


def _creation(dump: Dump) -> SwitchEvent:
    """The leg as it was at first: FreeSWITCH rewrites caller-ID and destination of an incoming leg
    later."""
    first = dict(dump) | {"Event-Name": "CHANNEL_CREATE", "Event-Sequence": "0"}
    first["Event-Date-Timestamp"] = str(_microseconds(dump, "Created"))
    if dump.get("Call-Direction") == "inbound":
        first["Caller-Caller-ID-Number"] = dump.get("Caller-Orig-Caller-ID-Number") or dump.get(
            "Caller-Caller-ID-Number", ""
        )
        first["Caller-Destination-Number"] = dump.get("variable_sip_req_user") or dump.get(
            "Caller-Destination-Number", ""
        )
    return SwitchEvent.made_of(first)


def _has_rung(dump: Dump) -> bool:
    return any(_microseconds(dump, what) for what in ("Progress", "Progress-Media", "Answered"))


def _progress(dump: Dump) -> SwitchEvent:
    at = max(_microseconds(dump, what) for what in ("Progress", "Progress-Media", "Answered"))
    return SwitchEvent.made_of(
        {
            "Event-Name": "CHANNEL_PROGRESS",
            "Unique-ID": dump["Unique-ID"],
            "Event-Date-Timestamp": str(at),
        }
    )


def _bridged(live: Mapping[str, Dump]) -> list[tuple[str, str]]:
    """Return the pairs of live legs that are bridged now.

    `signal_bond` also names the leg a ringing phone was called for; only a bridged leg has a
    Bridged-Time. A leg that is itself bound to a third one has left: in an attended transfer the
    old pair lingers for a moment.
    """
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for uuid, dump in live.items():
        other = dump.get("variable_signal_bond", "")
        if not _microseconds(dump, "Bridged") or other not in live or other == uuid:
            continue
        bound_to = live[other].get("variable_signal_bond", "")
        if bound_to in ("", uuid) or bound_to not in live:
            pairs.setdefault(frozenset((uuid, other)), (uuid, other))
    return sorted(pairs.values(), key=lambda pair: _microseconds(live[pair[0]], "Bridged"))


def _bridge(dump: Dump, other: str) -> SwitchEvent:
    return SwitchEvent.made_of(
        {
            "Event-Name": "CHANNEL_BRIDGE",
            "Unique-ID": dump["Unique-ID"],
            "Other-Leg-Unique-ID": other,
            "Event-Date-Timestamp": str(_microseconds(dump, "Bridged")),
        }
    )
