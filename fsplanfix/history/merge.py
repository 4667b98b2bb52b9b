"""What a tracker missed, told by FreeSWITCH's account of its channels and by the records of the
legs that are gone (docs/call-rules.md, rules 15 and 19)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from types import MappingProxyType

from ..calls.reconcile import Dump, missed
from ..calls.tracker import Tracker
from ..freeswitch.events import SwitchEvent, moment
from .calls import legs_named, together
from .record import Profile, Record, uuids_of
from .story import (
    ANSWERS,
    BRIDGES,
    CREATES,
    RECORDS,
    RINGS,
    Bridge,
    Told,
    bridges_of,
    depth_of,
    in_order,
    of_one,
    of_two,
)

RANKS = {
    "CHANNEL_CREATE": CREATES,
    "CHANNEL_PROGRESS": RINGS,
    "CHANNEL_ANSWER": ANSWERS,
    "CHANNEL_BRIDGE": BRIDGES,
}
"""The places of what live legs did; anything else comes where recordings begin."""

NOTHING: Mapping[str, int] = MappingProxyType({})

TOGETHER = ("CHANNEL_BRIDGE", "CHANNEL_UNBRIDGE")
ENDED = "CHANNEL_HANGUP_COMPLETE"


def missed_with_records(
    tracker: Tracker,
    dumps: Sequence[Dump],
    heard_since: Sequence[SwitchEvent] = (),
    records: Iterable[Record] = (),
    awaited: Set[str] = frozenset(),
    heard_until: Mapping[str, int] = NOTHING,
) -> list[SwitchEvent]:
    """Return the events to feed, as `calls.reconcile.missed` does.

    records: of legs that are gone; one tells the true end of its leg. awaited: legs whose record
    is still to come: if they are gone, their ends are left out. heard_until: up to when legs
    were heard (microseconds since 1970), where that is not the tracker's last event.
    """
    records = list(records)
    since = _since(records, heard_until, tracker.last_at)
    live = {dump.get("Unique-ID", ""): dump for dump in dumps}
    named = {(event.name, event.leg) for event in heard_since}
    ended = {}
    for record in records:
        is_there = record.uuid in live and _created(live[record.uuid]) in (0, record.created)
        is_heard = (ENDED, record.uuid) in named or ("CHANNEL_CREATE", record.uuid) in named
        if not is_there and not is_heard and not _is_over(tracker, record, since[record.uuid]):
            ended[record.uuid] = record

    there = [_of_live(dump) for uuid, dump in live.items() if uuid and uuid not in ended]
    legs = {record.uuid: record for record in (*ended.values(), *there)}

    first, told = [], list[Told]()
    for event in missed(tracker, dumps, heard_since):
        if event.name != ENDED:
            place = depth_of(legs[event.leg], legs) if event.leg in legs else 0
            told.append((event.at, RANKS.get(event.name, RECORDS), place, event))
        elif event.leg not in ended and event.leg not in awaited:
            first.append(event)

    # who was together with whom before: of live legs it stands in both accounts
    now = {_pair(event) for *_, event in told if event.name == "CHANNEL_BRIDGE"}
    bridges = bridges_of(legs)
    whole = of_one(legs, bridges, ended)
    for bridge in bridges:
        if not _is_old(tracker, bridge, since):
            whole += of_two(bridge)
    for one in whole:
        event = one[-1]
        is_shared = event.name in TOGETHER and _pair(event) not in now
        other = event.get("Other-Leg-Unique-ID")
        until = since.get(event.leg, since.get(other, tracker.last_at))
        if (event.leg in ended or is_shared) and not _is_known(tracker, event, until):
            told.append(one)
    return [*first, *(event for *_, event in sorted(told, key=in_order))]


def _since(
    records: Sequence[Record], heard_until: Mapping[str, int], last_at: int
) -> dict[str, int]:
    """Return up to when each leg was heard: all legs of a call as far as the one heard least."""
    found: dict[str, int] = {}
    for call in together(records):
        legs = {record.uuid for record in call}.union(*map(legs_named, call))
        until = min((heard_until[uuid] for uuid in legs if uuid in heard_until), default=last_at)
        found |= dict.fromkeys((record.uuid for record in call), until)
    return found


def _pair(event: SwitchEvent) -> frozenset[str]:
    return frozenset((event.leg, event.get("Other-Leg-Unique-ID")))


def legs_to_ask_for(tracker: Tracker, dumps: Iterable[Dump]) -> set[str]:
    """Return the legs whose records may tell what was missed: those that are gone, and those that
    live legs have called."""
    live = {dump.get("Unique-ID", ""): dump for dump in dumps}
    wanted = set(tracker.book.legs) - set(live)
    for dump in live.values():
        wanted.update(uuids_of(dump.get("variable_originated_legs", "")))
    return wanted - set(live)


def is_unknown_end(tracker: Tracker, event: SwitchEvent) -> bool:
    """Tell whether an event says that a call's client is gone, and nobody knows how (rule 15)."""
    if event.name != ENDED or event.get("Hangup-Cause"):
        return False
    leg = tracker.book.get(event.leg)
    return leg is not None and bool(leg.client_of) and not leg.hanging


def _is_over(tracker: Tracker, record: Record, since: int) -> bool:
    """Tell whether the tracker has heard of a leg from its beginning to its end."""
    known = tracker.book.get(record.uuid)
    if known is not None:
        return known.created not in (0, record.created)
    return record.ended <= since


def _is_known(tracker: Tracker, event: SwitchEvent, since: int) -> bool:
    """Tell whether the tracker has heard of something that a leg did."""
    leg = tracker.book.get(event.leg)
    if leg is None:
        return False

    path = event.get("Record-File-Path")
    files = [recording for recording in leg.recordings if recording.path == path]
    is_before = event.at < since
    known = {
        "CHANNEL_CREATE": True,
        "CHANNEL_PROGRESS": leg.ringing,
        "CHANNEL_ANSWER": leg.answered,
        "CHANNEL_BRIDGE": is_before or leg.peer == event.get("Other-Leg-Unique-ID"),
        "CHANNEL_UNBRIDGE": is_before,
        "CHANNEL_HANGUP": leg.hanging,
        "CUSTOM": bool(leg.room),
        "RECORD_START": bool(files),
        "RECORD_STOP": any(file.stopped is not None for file in files),
    }
    return known.get(event.name, False)


def _is_old(tracker: Tracker, bridge: Bridge, since: Mapping[str, int]) -> bool:
    """Tell whether the tracker has heard both when two live legs were bridged and when no longer.

    So it is with nearly all calls that go on.
    """
    uuids = (bridge.one.uuid, bridge.other.uuid)
    until = min(since.get(uuid, tracker.last_at) for uuid in uuids)
    is_before = bridge.stamp < until and bridge.until < until
    return is_before and all(uuid in tracker.book.legs for uuid in uuids)


def _of_live(dump: Dump) -> Record:
    """Return what is known of a live leg in the form of a record: who it was bridged with."""
    times = {}
    for what in ("Created", "Answered", "Bridged", "Transfer"):
        if stamp := moment(dump.get(f"Caller-Channel-{what}-Time", "")):
            times[what.lower()] = stamp

    begins = "variable_"
    variables = {n.removeprefix(begins): v for n, v in dump.items() if n.startswith(begins)}
    return Record(
        uuid=dump["Unique-ID"],
        core=dump.get("Core-UUID", ""),
        variables={**variables, "direction": dump.get("Call-Direction", "")},
        profiles=(Profile({}, frozenset(), times),),
    )


def _created(dump: Dump) -> int:
    return moment(dump.get("Caller-Channel-Created-Time", ""))
