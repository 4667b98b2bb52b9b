"""What the tracker missed while FreeSWITCH could not be heard, told as events
(docs/call-rules.md, rules 15 and 16).

Pure: takes the tracker and FreeSWITCH's own account of its live channels (`uuid_dump ... json`),
gives events to feed. The account is read with the same care as events: a bridge whose leg answered
later was one of early media.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..freeswitch.events import CONFERENCE, SwitchEvent, hanging_up, is_uuid, moment
from ..freeswitch.headers import OURS
from .legs import end_unheard
from .model import Leg
from .tracker import Tracker

Dump = Mapping[str, str]
"""The headers of one live channel, decoded."""


def missed(
    tracker: Tracker, dumps: Iterable[Dump], heard_since: Iterable[SwitchEvent] = ()
) -> list[SwitchEvent]:
    """Return the events to feed so that the tracker agrees with FreeSWITCH again.

    dumps: every live channel; of one that hangs up, no more than that (`hanging_up`): if we heard
    it hang up, we shall hear its end. heard_since: events that arrived while the dumps were taken;
    they are fed afterwards, so what they tell themselves (a leg's creation or end) is not made up
    here. After a restart of FreeSWITCH none of the known legs is live: all of them have ended.
    """
    live, leaving = {}, set()
    for dump in dumps:
        uuid = dump.get("Unique-ID", "")
        if dump == hanging_up(uuid):
            leaving.add(uuid)
        elif is_uuid(uuid):
            live[uuid] = dump

    told = {(event.name, event.leg) for event in heard_since}
    gone = []
    for leg in tracker.book.legs.values():
        is_there = leg.uuid in leaving and leg.hanging
        if leg.uuid in live:
            is_there = not _is_new(leg, live[leg.uuid])
        if not is_there and ("CHANNEL_HANGUP_COMPLETE", leg.uuid) not in told:
            gone.append(leg)

    # what was heard since tells of these legs itself, and better
    there = {uuid: dump for uuid, dump in live.items() if ("CHANNEL_CREATE", uuid) not in told}
    born = [dump for uuid, dump in there.items() if _is_new(tracker.book.get(uuid), dump)]

    happened = [*_bridges(tracker, live)]
    for uuid, dump in there.items():
        known = tracker.book.get(uuid)
        if _is_new(known, dump):
            known = None
        happened += _life(known, dump)

    # ends first: a UUID that is used again must be free before it is created anew
    return [
        # the last sign of life is their end (rule 15)
        *(end_unheard(leg, tracker.last_at) for leg in _clients_last(gone)),
        *(_creation(dump) for dump in sorted(born, key=_created)),
        *sorted(happened, key=lambda event: event.at),
    ]


def _clients_last(legs: list[Leg]) -> list[Leg]:
    """A phone that is gone with its client did not outlive it: let the employees leave first."""
    return sorted(legs, key=lambda leg: bool(leg.client_of))


# how a leg began


def _is_new(leg: Leg | None, dump: Dump) -> bool:
    """Tell whether a live leg is not the one known by its UUID, which may be used again."""
    if leg is None or not leg.created:
        return leg is None and bool(_created(dump))
    return _created(dump) not in (0, leg.created)


def _creation(dump: Dump) -> SwitchEvent:
    """The leg as it was at first: caller-ID and destination of an incoming leg change later.

    A leg that has called others itself (a consultation, a call-back) carries their `dialed_user`
    and names them as its other leg.
    """
    first = {**dump, "Event-Name": "CHANNEL_CREATE", "Event-Sequence": "0"}
    first["Event-Date-Timestamp"] = str(_created(dump))

    if dump.get("Call-Direction") == "inbound":
        caller, called = "Caller-Caller-ID-Number", "Caller-Destination-Number"
        first[caller] = dump.get("Caller-Orig-Caller-ID-Number") or dump.get(caller, "")
        first[called] = dump.get("variable_sip_req_user") or dump.get(called, "")
        return SwitchEvent.made_of(first)

    # a transfer of an outgoing call turns the two numbers of the client's leg round
    if shown := dump.get("variable_pre_transfer_caller_id_number"):
        first["Caller-Caller-ID-Number"] = shown
    if dump.get("variable_originate_disposition"):
        first["variable_dialed_user"] = dump.get("variable_presence_id", "").partition("@")[0]
        first["Other-Leg-Unique-ID"] = dump.get("variable_originating_leg_uuid", "")

    return SwitchEvent.made_of(first)


# what has become of a leg since


def _life(leg: Leg | None, dump: Dump) -> Iterator[SwitchEvent]:
    """Yield what the leg did and the tracker does not know of.

    A leg that `sofia recover` brought back carries the time of its former answer. Only a leg that
    the PBX placed to a party rings.
    """
    answered = _microseconds(dump, "Answered")
    if answered:
        answered = max(answered, _created(dump))

    progress = (_microseconds(dump, "Progress"), _microseconds(dump, "Progress-Media"))
    rang = min((at for at in progress if at), default=0)
    is_placed = dump.get("Call-Direction") == "outbound"
    is_rung = is_placed and not dump.get("Channel-Name", "").startswith("loopback/")

    if rang and is_rung and not (leg is not None and leg.ringing):
        yield _event("CHANNEL_PROGRESS", dump, rang)
    if answered and not (leg is not None and leg.answered):
        yield _event("CHANNEL_ANSWER", dump, answered)

    room = dump.get("variable_conference_name", "")
    is_member = dump.get("variable_current_application") == "conference"
    if room and is_member and not (leg is not None and leg.room):
        member = {
            "Event-Subclass": CONFERENCE,
            "Action": "add-member",
            "Conference-Name": room,
        }
        yield _event("CUSTOM", dump, answered, member)


def _bridges(tracker: Tracker, live: Mapping[str, Dump]) -> Iterator[SwitchEvent]:
    """Yield the bridges there are now and the tracker does not know of."""
    for one, other in _bridged(live):
        leg = tracker.book.get(one)
        if leg is not None and leg.peer == other:
            continue

        dump = live[one]
        at = _microseconds(dump, "Bridged")
        yield _event(
            "CHANNEL_BRIDGE",
            dump,
            at,
            {
                "Other-Leg-Unique-ID": other,
                "Caller-Channel-Answered-Time": _answered_by(dump, at),
                "Other-Leg-Channel-Answered-Time": _answered_by(live[other], at),
            },
        )


def _answered_by(dump: Dump, at: int) -> str:
    """Return what the bridge said of a leg's answer: 0 if it came later or not yet."""
    answered = _microseconds(dump, "Answered")
    if answered > at:
        return "0"
    return str(answered)


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


def _event(name: str, dump: Dump, at: int, more: Mapping[str, str] | None = None) -> SwitchEvent:
    """Make an event of a live leg; it carries what the dialplan has told us, as any event does."""
    headers = {
        "Event-Name": name,
        "Unique-ID": dump["Unique-ID"],
        "Event-Date-Timestamp": str(at),
    }

    for header, value in dump.items():
        if header.startswith(OURS) or header == "variable_att_xfer_kill_uuid":
            headers[header] = value
    return SwitchEvent.made_of(headers | dict(more or {}))


def _created(dump: Dump) -> int:
    return _microseconds(dump, "Created")


def _microseconds(dump: Dump, what: str) -> int:
    return moment(dump.get(f"Caller-Channel-{what}-Time", ""))
