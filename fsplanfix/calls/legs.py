"""Raw bookkeeping of FreeSWITCH legs: who is on a leg, which legs hang together, who is bridged
with whom.

What any of it means for Planfix is the tracker's business. Rules: shared/call-rules.md, "Who is on
a leg" and "Which legs belong together".
"""

from __future__ import annotations

import re

from ..freeswitch.events import SwitchEvent
from .model import Leg, Role, Rules
from .numbers import normalize

PARENT_HEADERS = (
    "Other-Leg-Unique-ID",
    "variable_originating_leg_uuid",
    "variable_ent_originate_aleg_uuid",
    "variable_cc_member_session_uuid",
)
"""Where a leg names the one it was placed for, in the order of call-rules.md."""

DATA_NAME = re.compile(r"data_([A-Za-z0-9_]{1,64})", re.ASCII)
MOST_DATA_FIELDS = 50
LONGEST_DATA_VALUE = 1000
"""Characters of one `planfix_data_*` value that are passed on."""

LONGEST_UUID = 128
"""Characters; FreeSWITCH's own have 36, `origination_uuid` may be anything."""

_TRUE = frozenset(("true", "yes", "on", "1", "enable", "enabled", "active", "allow"))


def is_true(value: str) -> bool:
    """Tell whether FreeSWITCH would call a channel variable's value true (its switch_true())."""
    return value.lower() in _TRUE


def read_leg(event: SwitchEvent, rules: Rules) -> Leg:
    """Make the leg that a CHANNEL_CREATE announces, its party decided once and for all."""
    inbound = event.get("Call-Direction") != "outbound"
    leg = Leg(uuid=event.leg, role=Role.OUTSIDE, inbound=inbound)
    if event.get("Channel-Name").startswith("loopback/"):
        leg.role = Role.GLUE
        leg.pair = event.get("variable_other_loopback_leg_uuid")
    elif ext := _ext_of_phone(event, rules) if inbound else _ext_of_placed_leg(event, rules):
        leg.role, leg.ext = Role.EMPLOYEE, ext
    else:
        _read_outside_party(leg, event, rules)
    if not inbound:
        leg.parent = next(filter(None, map(event.get, PARENT_HEADERS)), "")
    return leg


def _ext_of_phone(event: SwitchEvent, rules: Rules) -> str:
    """Return the ext of the phone that placed this leg: by its login, not its caller number."""
    user = event.get("variable_user_name") or event.get("variable_sip_auth_username")
    if user:
        return rules.ext_for(user)
    if event.get("Caller-Context") in rules.trusted_contexts:
        return rules.ext_for(event.get("Caller-Caller-ID-Number"))
    return ""


def _ext_of_placed_leg(event: SwitchEvent, rules: Rules) -> str:
    """Return the ext of the phone the PBX is calling. Softphones register random users: not by the
    address first."""
    for header in ("variable_dialed_user", "variable_planfix_ext"):
        if ext := rules.ext_for(event.get(header)):
            return ext
    if event.get("variable_sip_gateway_name"):
        return ""
    return rules.ext_for(event.get("Caller-Destination-Number"))


def _read_outside_party(leg: Leg, event: SwitchEvent, rules: Rules) -> None:
    """Fill in the numbers of an outside party."""
    caller = normalize(event.get("Caller-Caller-ID-Number"), rules.country)
    called = normalize(event.get("Caller-Destination-Number"), rules.country)
    if leg.inbound:
        hidden = event.get("Caller-Privacy-Hide-Number") == "true"
        leg.number, leg.line = "" if hidden else caller, called
    else:
        leg.number, leg.line = called, "" if rules.ext_pattern.fullmatch(caller) else caller


def read_variables(leg: Leg, event: SwitchEvent) -> bool:
    """Read `planfix_ignore` and `planfix_data_*` into the leg; tell whether the event had any
    `planfix_` variable.

    They come from the dialplan or from us: what a stranger's SIP headers set is called
    `variable_sip_h_...`.
    """
    found = event.ours()
    data: dict[str, str] = {}
    for name, value in found.items():
        match = DATA_NAME.fullmatch(name)
        if value and match:
            data[match[1]] = value[:LONGEST_DATA_VALUE]
    leg.data = merged(leg.data, data)
    leg.ignored = leg.ignored or is_true(found.get("ignore", ""))
    return bool(found)


def merged(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """Return data fields with newer values, never more than MOST_DATA_FIELDS."""
    return dict(list({**old, **new}.items())[:MOST_DATA_FIELDS]) if new else old


class LegBook:
    """The legs that are up now."""

    def __init__(self) -> None:
        self.legs: dict[str, Leg] = {}

    def get(self, uuid: str) -> Leg | None:
        """Return the leg with this UUID if it is up and known."""
        return self.legs.get(uuid)

    def placed_for(self, leg: Leg) -> Leg | None:
        """Return the leg that `leg` was placed for, through loopback glue; None if unknown."""
        passed = {leg.uuid}
        found = self.legs.get(leg.parent) or self.legs.get(leg.pair)
        while found is not None and found.role is Role.GLUE and found.uuid not in passed:
            passed.add(found.uuid)
            parent, pair = self.legs.get(found.parent), self.legs.get(found.pair)
            found = parent or (pair if pair is not None and pair.uuid not in passed else None)
        return found if found is None or found.role is not Role.GLUE else None

    def bridge(self, one: str, other: str) -> tuple[Leg, Leg] | None:
        """Note that two legs are bridged; return the two parties who now hear each other, if both
        are known.

        A loopback leg is looked through to the party at its far end, once that end is bridged too.
        """
        first, second = self.legs.get(one), self.legs.get(other)
        if first is None or second is None:
            return None
        for leg in (first, second):
            self.unbridge(leg)
        first.peer, second.peer = second.uuid, first.uuid
        ends = self._far_end(first), self._far_end(second)
        if ends[0] is None or ends[1] is None or ends[0] is ends[1]:
            return None
        return ends[0], ends[1]

    def unbridge(self, leg: Leg) -> None:
        """Forget whom a leg was bridged with."""
        peer = self.legs.get(leg.peer)
        if peer is not None and peer.peer == leg.uuid:
            peer.peer = ""
        leg.peer = ""

    def _far_end(self, leg: Leg | None) -> Leg | None:
        """Follow loopback pairs and their bridges to a real party."""
        passed: set[str] = set()
        while leg is not None and leg.role is Role.GLUE:
            if leg.uuid in passed:
                return None
            passed.add(leg.uuid)
            pair = self.legs.get(leg.pair)
            leg = self.legs.get(pair.peer) if pair is not None else None
        return leg

    def rename(self, old: str, new: str) -> Leg | None:
        """Follow a CHANNEL_UUID: the leg `old` is called `new` from now on."""
        leg = self.legs.get(old)
        if leg is None or not new or len(new) > LONGEST_UUID or new in self.legs:
            return None
        del self.legs[old]
        leg.uuid = new
        self.legs[new] = leg
        for other in self.legs.values():
            for name in ("parent", "pair", "peer"):
                if getattr(other, name) == old:
                    setattr(other, name, new)
        return leg

    def remove(self, leg: Leg) -> None:
        """Forget a leg that has ended."""
        self.unbridge(leg)
        self.legs.pop(leg.uuid, None)
