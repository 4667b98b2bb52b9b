"""What the legs of some records did, told as the events that FreeSWITCH must have sent.

Pure: records in, events out. The call rules then decide, as they do for events that were heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..calls.event_log import BY_RECORD
from ..calls.variables import is_true
from ..freeswitch.events import CONFERENCE, SwitchEvent, is_uuid
from ..freeswitch.headers import OURS
from .record import Record

TICK = 100_000
"""Microseconds within which two legs' times mean the same moment: FreeSWITCH's clock ticks every
20 ms, and both ends of a bridge note it themselves."""

FROM_THE_START = (
    *("originating_leg_uuid", "ent_originate_aleg_uuid", "cc_member_session_uuid"),
    *("fifo_bridge_uuid", "other_loopback_leg_uuid", "user_name", "sip_auth_username"),
    *("number_alias", "presence_id", "sip_gateway_name", "sip_req_uri", "sip_to_user"),
    *("domain_name", "dialed_domain"),
)
"""Variables of a leg that stand on its CHANNEL_CREATE already and do not change."""

CAUSES = ("sip_term_status", "proto_specific_hangup_cause")
LEFT_BEHIND = (
    "originate_disposition",
    "dialed_user",
    "recording_follow_transfer",
    "domain_name",
    "cc_queue",
    "digits_dialed",
)
"""Variables that the rules read at the end of a leg."""

# what comes first of that which has the same time
ENDS, CREATES, RINGS, ANSWERS, LOSES, BRIDGES, RECORDS, ENDS_AT_ONCE, PARTS, STOPS, IS_GONE = range(
    11
)


@dataclass(frozen=True, slots=True)
class Bridge:
    """Two legs that were put together, from `stamp` to `until` (microseconds since 1970).

    is_left: before that, one of them was put together with a third.
    """

    one: Record
    other: Record
    stamp: int
    until: int
    is_left: bool


Told = tuple[int, int, int, SwitchEvent]
"""When, its rank among what has the same time, its place after that, and the event."""


def events_of(records: Iterable[Record]) -> list[SwitchEvent]:
    """Return the events that the legs of these records must have had, in their order."""
    return [event for *_, event in sorted(told_by(records), key=in_order)]


def in_order(told: Told) -> tuple[int, int, int]:
    """Return what events are sorted by."""
    return told[:3]


def told_by(records: Iterable[Record]) -> list[Told]:
    """Return the events that the legs of these records must have had, with their places."""
    legs: dict[str, Record] = {}
    for record in records:
        known = legs.get(record.uuid)
        # the file of a UUID that is used again holds its last leg
        if known is None or known.created < record.created:
            legs[record.uuid] = record

    bridges = bridges_of(legs)
    told = of_one(legs, bridges, legs)
    for bridge in bridges:
        told += of_two(bridge)
    return told


def of_one(
    legs: Mapping[str, Record], bridges: Iterable[Bridge], wanted: Iterable[str]
) -> list[Told]:
    """Return the events of single legs, of those that are wanted.

    legs: by UUID. bridges: those between them.
    """
    own: dict[str, list[Bridge]] = {}
    for bridge in bridges:
        for record in (bridge.one, bridge.other):
            own.setdefault(record.uuid, []).append(bridge)

    told: list[Told] = []
    for uuid in wanted:
        told += _life(legs[uuid], own.get(uuid, ()), depth_of(legs[uuid], legs))
    return told


def parents_of(record: Record) -> list[str]:
    """Return the legs that a leg was placed for, as far as its record names them."""
    if record.variable("direction") != "outbound":
        return []
    names = ("originating_leg_uuid", "ent_originate_aleg_uuid", "cc_member_session_uuid")
    named = [*map(record.variable, (*names, "fifo_bridge_uuid", "planfix_client_uuid"))]
    return [uuid for uuid in named if is_uuid(uuid)]


def depth_of(record: Record, legs: Mapping[str, Record]) -> int:
    """Return how many legs had to be there first: a call by loopback is created in one tick."""
    depth, passed = 0, {record.uuid}
    found = record
    while True:
        before = [*parents_of(found), *_pair(found)]
        known = [legs[uuid] for uuid in before if uuid in legs and uuid not in passed]
        if not known:
            return depth
        found = known[0]
        passed.add(found.uuid)
        depth += 1


def _pair(record: Record) -> list[str]:
    """Return the first half of a loopback, of its second."""
    is_second = record.variable("loopback_leg") == "B"
    return [record.variable("other_loopback_leg_uuid")] if is_second else []


# one leg


def _life(record: Record, bridges: Sequence[Bridge], depth: int) -> Iterator[Told]:
    yield record.created, CREATES, depth, _creation(record)

    name = record.variable("channel_name")
    is_placed = record.variable("direction") == "outbound"
    rang = [stamp for stamp in (record.first("progress"), record.first("progress_media")) if stamp]
    if rang and is_placed and not name.startswith("loopback/"):
        yield _told("CHANNEL_PROGRESS", record, max(min(rang), record.created), RINGS)

    answered = answered_at(record)
    if answered:
        yield _told("CHANNEL_ANSWER", record, answered, ANSWERS)

    yield from _conference(record)
    yield from _recordings(record, bridges)

    # a leg that did something in the tick in which it ended must have done it before
    moments = {record.created, answered, *(bridge.stamp for bridge in bridges)}
    stamp = max(record.ended, *moments)
    rank = ENDS_AT_ONCE if stamp in moments else ENDS
    cause = record.variable("hangup_cause")
    # what made it lose came before
    if cause == "LOSE_RACE":
        rank = LOSES
    # the leg that was called ends first, unless the caller gave up
    place = 1 if cause == "ORIGINATOR_CANCEL" else -depth
    yield _told("CHANNEL_HANGUP", record, stamp, rank, place, _end(record))

    # a phone that is gone with its client did not outlive it
    yield _told("CHANNEL_HANGUP_COMPLETE", record, stamp, IS_GONE, -depth, _end(record))


def answered_at(record: Record) -> int:
    """Return when a leg answered, 0 if it did not.

    One that `sofia recover` brought back has the time of its former answer.
    """
    answered = record.first("answered")
    return max(answered, record.created) if answered else 0


def _creation(record: Record) -> SwitchEvent:
    first, direction = record.profiles[0].caller, record.variable("direction")
    # a transfer of an outgoing call turns the two numbers of the client's leg round
    caller = record.variable("pre_transfer_caller_id_number") if direction == "outbound" else ""
    headers = {
        **_base("CHANNEL_CREATE", record, record.created),
        "Call-Direction": direction,
        "Channel-Name": first.get("chan_name") or record.variable("channel_name"),
        "Caller-Context": first.get("context", ""),
        "Caller-Channel-Created-Time": str(record.created),
        "Caller-Caller-ID-Number": caller or first.get("caller_id_number", ""),
        "Caller-Destination-Number": first.get("destination_number", ""),
        "Other-Leg-Unique-ID": next(iter(parents_of(record)), ""),
    }
    # A transfer while it rings copies the variables of the leg that transfers (report r16c).
    is_own = first.get("chan_name") in (None, record.variable("channel_name"))
    for name in FROM_THE_START if is_own or direction == "outbound" else ():
        if value := record.variable(name):
            headers[f"variable_{name}"] = value

    if direction == "outbound":
        user = record.variable("dialed_user")
        # a leg that has called others itself carries their `dialed_user`
        if record.variable("originate_disposition"):
            user = record.variable("presence_id").partition("@")[0]
        headers["variable_dialed_user"] = user
    return SwitchEvent.made_of(headers)


def _end(record: Record) -> dict[str, str]:
    headers = {
        "Hangup-Cause": record.variable("hangup_cause"),
        # where the dialplan has sent a client since his leg was created
        "Caller-Context": record.profiles[-1].caller.get("context", ""),
    }
    for name in (*CAUSES, *LEFT_BEHIND):
        if value := record.variable(name):
            headers[f"variable_{name}"] = value
    return headers


def _conference(record: Record) -> Iterator[Told]:
    room = record.variable("conference_name")
    for ran in record.applications:
        if room and ran.name == "conference":
            stamp = max(ran.stamp, answered_at(record))
            member = {
                "Event-Subclass": CONFERENCE,
                "Action": "add-member",
                "Conference-Name": room,
            }
            yield _told("CUSTOM", record, stamp, RECORDS, more=member)
            return


def _recordings(record: Record, bridges: Sequence[Bridge]) -> Iterator[Told]:
    """Yield when each file of `record_session` began and ended.

    What another program started by `uuid_record` stands in no record.
    """
    goes_on = is_true(record.variable("recording_follow_transfer"))
    cause = record.variable("record_completion_cause")
    # a file that could not be written leaves nothing behind
    if cause == "uri-failure" or not (goes_on or cause or record.variable("record_ms")):
        return

    stops = {
        ran.data: ran.stamp for ran in record.applications if ran.name == "stop_record_session"
    }
    begun: dict[str, int] = {}
    for path, stamp in _ordered(record):
        begun.setdefault(path, _begin(record, stamp, bridges))

    for n, (path, stamp) in enumerate(begun.items(), start=1):
        if not stamp:
            continue
        file = {"Record-File-Path": path}
        yield _told("RECORD_START", record, stamp, RECORDS, more=file)
        if goes_on and path not in stops:
            continue
        # only the cause of the last is known
        if n == len(begun):
            file["Record-Completion-Cause"] = cause
        yield _told("RECORD_STOP", record, stops.get(path, record.ended), STOPS, more=file)


def _ordered(record: Record) -> Iterator[tuple[str, int]]:
    """Yield the files that were ordered, and when (microseconds since 1970).

    FusionPBX orders its file by `uuid_record`, and a queue by a variable: both leave its name.
    """
    found = False
    for ran in record.applications:
        if ran.name == "record_session" and ran.data:
            found = True
            yield ran.data, ran.stamp
    if found or not record.variable("record_ms"):
        return

    folder, name = record.variable("record_path"), record.variable("record_name")
    if folder and name:
        yield f"{folder}/{name}", answered_at(record) or record.created
    elif queued := record.variable("cc_record_filename"):
        yield queued, record.first("bridged") or record.created


def _begin(record: Record, stamp: int, bridges: Sequence[Bridge]) -> int:
    """Return when a recording began that was ordered at a time, 0 if it never did."""
    if is_true(record.variable("RECORD_ANSWER_REQ")):
        answered = answered_at(record)
        stamp = max(stamp, answered) if answered else 0
    if is_true(record.variable("RECORD_BRIDGE_REQ")) and stamp:
        stamp = min((max(stamp, b.stamp) for b in bridges if b.until > stamp), default=0)
    return stamp


# two legs


def bridges_of(legs: Mapping[str, Record]) -> list[Bridge]:
    """Return the bridges between these legs, in their order."""
    named_by: dict[str, list[str]] = {}
    for uuid, record in legs.items():
        for named in _bridged_with(record):
            named_by.setdefault(named, []).append(uuid)

    found: dict[tuple[str, ...], list[int]] = {}
    for uuid, record in legs.items():
        for n, profile in enumerate(record.profiles):
            stamp = profile.times.get("bridged", 0)
            peer = _peer(record, n, legs, named_by.get(uuid, ())) if stamp else None
            if peer is None:
                continue
            moments = found.setdefault(tuple(sorted((uuid, peer.uuid))), [])
            if all(abs(stamp - known) > TICK for known in moments):
                moments.append(stamp)

    begun = sorted((stamp, pair) for pair, moments in found.items() for stamp in moments)
    bridges: list[Bridge] = []
    next_of: dict[str, int] = {}
    for stamp, pair in reversed(begun):
        one, other = sorted((legs[uuid] for uuid in pair), key=lambda leg: leg.created)
        until = _until(one, other, stamp)
        is_left = any(next_of.get(uuid, until + 1) <= until for uuid in pair)
        bridges.append(Bridge(one, other, stamp, until, is_left))
        next_of |= dict.fromkeys(pair, stamp)
    return bridges[::-1]


def _peer(
    record: Record, n: int, legs: Mapping[str, Record], named_by: Iterable[str]
) -> Record | None:
    """Return the leg that a leg was bridged with in its profile number n.

    named_by: the legs that name this one.
    """
    profile = record.profiles[n]
    stamp = profile.times["bridged"]
    is_last = not any("bridged" in later.times for later in record.profiles[n + 1 :])
    last = _last_peer(record)

    # both note the same moment
    named = {*profile.others, *named_by} | ({last} if is_last else set())
    known = [legs[uuid] for uuid in sorted(named - {record.uuid}) if uuid in legs]
    same = [(_distance(other, stamp), other.uuid != last, other.uuid) for other in known]
    near = min((one for one in same if one[0] <= TICK), default=None)
    if near is not None:
        return legs[near[-1]]
    if is_last:
        return legs.get(last)

    # the other one was bridged again since, which overwrites its time
    others = [legs[uuid] for uuid in profile.others if uuid in legs]
    return others[0] if len(others) == 1 else None


def _last_peer(record: Record) -> str:
    return record.variable("last_bridge_to") or record.variable("bridge_uuid")


def _bridged_with(record: Record) -> set[str]:
    return {_last_peer(record)}.union(*(profile.others for profile in record.profiles))


def _distance(record: Record, stamp: int) -> int:
    """Return how far from a moment the leg was bridged, microseconds."""
    bridged = [p.times["bridged"] for p in record.profiles if "bridged" in p.times]
    return min((abs(one - stamp) for one in bridged), default=2 * TICK)


def _until(one: Record, other: Record, stamp: int) -> int:
    ends = [one.ended, other.ended]
    for record in (one, other):
        for profile in record.profiles:
            if abs(profile.times.get("bridged", 0) - stamp) <= TICK and "transfer" in profile.times:
                ends.append(max(profile.times["transfer"], stamp))
    return min(ends)


def of_two(bridge: Bridge) -> Iterator[Told]:
    """Yield when two legs were bridged, and when no longer."""
    more = {
        "Other-Leg-Unique-ID": bridge.other.uuid,
        "Caller-Channel-Answered-Time": _answered_by(bridge.one, bridge.stamp),
        "Other-Leg-Channel-Answered-Time": _answered_by(bridge.other, bridge.stamp),
    }
    yield _told("CHANNEL_BRIDGE", bridge.one, bridge.stamp, BRIDGES, more=more)
    if bridge.is_left:
        return

    # of the leg that goes on; it knows of a transfer
    one, other = sorted((bridge.one, bridge.other), key=lambda leg: leg.ended, reverse=True)
    more = {"Other-Leg-Unique-ID": other.uuid}
    if consulted := one.variable("att_xfer_kill_uuid"):
        more["variable_att_xfer_kill_uuid"] = consulted
    is_at_end = bridge.until in (one.ended, other.ended)
    rank = PARTS if is_at_end else ENDS
    yield _told("CHANNEL_UNBRIDGE", one, bridge.until, rank, more=more)


def _answered_by(record: Record, stamp: int) -> str:
    """Return what the bridge said of a leg's answer: 0 if it came later or not at all."""
    answered = answered_at(record)
    return str(answered if answered <= stamp else 0)


# events


def _told(
    name: str,
    record: Record,
    stamp: int,
    rank: int,
    place: int = 0,
    more: Mapping[str, str] | None = None,
) -> Told:
    return stamp, rank, place, SwitchEvent.made_of(_base(name, record, stamp) | dict(more or {}))


def _base(name: str, record: Record, stamp: int) -> dict[str, str]:
    """Return the headers of any event of a leg; each carries what the dialplan has told us."""
    headers = {
        "Event-Name": name,
        "Core-UUID": record.core,
        "Unique-ID": record.uuid,
        "Event-Date-Timestamp": str(stamp),
        BY_RECORD: "true",
    }
    for variable, value in record.variables.items():
        if f"variable_{variable}".startswith(OURS):
            headers[f"variable_{variable}"] = value
    return headers
