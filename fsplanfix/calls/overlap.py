"""Which events the stored states of the open calls hold already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ..freeswitch.events import SwitchEvent

NAMES_ANOTHER_LEG = (
    *("Other-Leg-Unique-ID", "Bridge-B-Unique-ID", "variable_originating_leg_uuid"),
    *("variable_ent_originate_aleg_uuid", "variable_cc_member_session_uuid"),
    *("variable_fifo_bridge_uuid", "variable_other_loopback_leg_uuid"),
)


def without_known(events: Sequence[SwitchEvent], states: Iterable[str]) -> list[SwitchEvent]:
    """Return the events that the states of the open calls do not hold yet.

    states: as the store keeps them. An event belongs to a call if it names one of its legs, or a
    leg that does.
    """
    if not events:
        return []

    # Another worker may have received more of a call meanwhile. Fed to what is known of it, the
    # beginning of the call would become a second call.
    known_until: dict[str, int] = {}
    for state in states:
        try:
            found = json.loads(state)
            legs = {found["call"]["first_leg"], *(leg["uuid"] for leg in found["legs"])}
            known_until |= dict.fromkeys(legs, int(found["last_at"]))
        except (ValueError, KeyError, TypeError):
            continue

    # until nothing is added: a leg may belong to a call only through two or three others
    links = [{event.leg, *map(event.get, NAMES_ANOTHER_LEG)} - {""} for event in events]
    before = -1
    while before != len(known_until):
        before = len(known_until)
        for named in links:
            until = max((known_until[leg] for leg in named & known_until.keys()), default=0)
            if until:
                known_until |= dict.fromkeys(named - known_until.keys(), until)

    # Of the last moment known all are returned, since FreeSWITCH's clock ticks every 20 ms: the
    # tracker ignores those it has seen.
    return [event for event in events if event.at >= known_until.get(event.leg, 0)]
