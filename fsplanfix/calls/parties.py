"""Who is on a leg, decided once, at its CHANNEL_CREATE (docs/call-rules.md, "Who is on a leg").

FreeSWITCH rewrites caller-ID headers later. Nothing here is read from what a stranger's phone can
set, but the numbers of an outside party themselves.
"""

from __future__ import annotations

from ..freeswitch.events import SwitchEvent
from .model import Leg, Role, Rules
from .numbers import Numbering, is_outside_number

PARENT_HEADERS = (
    "Other-Leg-Unique-ID",
    "variable_originating_leg_uuid",
    "variable_ent_originate_aleg_uuid",
    "variable_cc_member_session_uuid",
    "variable_fifo_bridge_uuid",
    "variable_planfix_client_uuid",
)
"""Where a leg names the one it was placed for, in the order of docs/call-rules.md."""


PARTY_HEADERS = (
    *("Unique-ID", "Call-Direction", "Channel-Name", "Caller-Context"),
    *("Caller-Caller-ID-Number", "Caller-Destination-Number", "Caller-Privacy-Hide-Number"),
    *("variable_user_name", "variable_sip_auth_username", "variable_number_alias"),
    *("variable_sip_to_user", "variable_sip_req_uri", "variable_sip_gateway_name"),
    *("variable_dialed_user", "variable_presence_id", "variable_planfix_ext"),
)
"""What says who is on a leg."""


def read_leg(event: SwitchEvent, rules: Rules) -> Leg:
    """Make the leg that a CHANNEL_CREATE announces, its party decided for good."""
    leg = Leg(
        uuid=event.leg,
        role=Role.OUTSIDE,
        inbound=event.get("Call-Direction") != "outbound",
        created=event.number("Caller-Channel-Created-Time"),
        recovered=event.get("variable_recovered") == "true",
    )
    if event.get("Channel-Name").startswith("loopback/"):
        leg.role = Role.GLUE
        leg.pair = event.get("variable_other_loopback_leg_uuid")
    elif leg.inbound:
        _read_phone(leg, event, rules)
    else:
        _read_placed_leg(leg, event, rules)

    if leg.ext and rules.ignores(leg.ext):
        leg.ext, leg.role = "", Role.HOUSE

    if leg.inbound:
        leg.dialled = event.get("Caller-Destination-Number")
    else:
        leg.dialled = event.get("variable_planfix_phone")
    return leg


def parents_of(event: SwitchEvent) -> list[str]:
    """Return the legs that a placed leg may have been placed for, the likeliest first."""
    if event.get("Call-Direction") != "outbound":
        return []
    named = [event.get(header) for header in PARENT_HEADERS]
    return [uuid for uuid in named if uuid]


# a leg placed by a phone


def _read_phone(leg: Leg, event: SwitchEvent, rules: Rules) -> None:
    """Read a leg that came in: somebody of the house if he is logged in, else an outside party."""
    user = event.get("variable_user_name") or event.get("variable_sip_auth_username")
    number = _caller_number(event, rules.numbering)

    if user and user not in rules.trunk_users:
        leg.ext = rules.ext_for(user) or rules.ext_for(event.get("variable_number_alias"))
        if leg.ext:
            leg.role = Role.EMPLOYEE
            return
        # a gateway that logs in brings the numbers of its callers, a colleague's phone its own
        if not _shows_another_number(user, number, rules):
            leg.role = Role.HOUSE
            return
    elif not user and event.get("Caller-Context") in rules.trusted_contexts:
        leg.ext = rules.ext_for(event.get("Caller-Caller-ID-Number"))
        if leg.ext:
            leg.role = Role.EMPLOYEE
            return

    # a gateway that does not know the caller shows its own login
    hidden = event.get("Caller-Privacy-Hide-Number") == "true" or (user and number == user)
    leg.number = number
    if hidden:
        leg.number = ""
    leg.line = line_of(event, inbound=True, numbering=rules.numbering)


def _shows_another_number(user: str, number: str, rules: Rules) -> bool:
    """Tell whether a login shows an outside caller number that is not its own."""
    is_own = number in (user, rules.numbering.normalize(user))
    return is_outside_number(number) and not is_own and not rules.ext_for(number)


def line_of(event: SwitchEvent, inbound: bool, numbering: Numbering) -> str:
    """Return the line that a client dialled or, on a placed leg, that he is shown; "" for none.

    FreeSWITCH turns a request to `gw+trunk` into the gateway's login before the CREATE; the number
    is then in To (report r11b).
    """
    if not inbound:
        shown = _caller_number(event, numbering)
        return shown if is_outside_number(shown) else ""

    request = event.get("Caller-Destination-Number")
    to = event.get("variable_sip_to_user")
    if not numbering.is_whole(request) and numbering.is_whole(to):
        return numbering.normalize(to)
    return numbering.normalize(request)


# a leg placed by the PBX


def _read_placed_leg(leg: Leg, event: SwitchEvent, rules: Rules) -> None:
    """Read a leg that the PBX placed: to a directory user, through a gateway, or to an address."""
    dialled_user = event.get("variable_dialed_user")
    presence = event.get("variable_presence_id").partition("@")[0]
    user = dialled_user or presence
    gateway = event.get("variable_sip_gateway_name")

    if user in rules.trunk_users:
        _read_number_behind(leg, event, rules)
        return

    number = rules.numbering.normalize(event.get("Caller-Destination-Number"))
    leg.ext = (
        rules.ext_for(dialled_user)
        or rules.ext_for(event.get("variable_planfix_ext"))
        or rules.ext_for(presence)
        or rules.aliases.get(number, "")
    )
    is_within = not dialled_user and (not gateway or gateway in rules.house_gateways)
    if not leg.ext and not presence and is_within:
        # softphones register under random users (group_sales_random_contacts): the address is last
        leg.ext = rules.ext_for(event.get("Caller-Destination-Number"))

    if leg.ext:
        leg.role = Role.EMPLOYEE
    elif dialled_user or gateway in rules.house_gateways or (presence and not gateway):
        leg.role = Role.HOUSE
    else:
        leg.number = number
        leg.line = line_of(event, inbound=False, numbering=rules.numbering)


def _read_number_behind(leg: Leg, event: SwitchEvent, rules: Rules) -> None:
    """Read a leg placed to a gateway that logs in; its own number is in the request it is sent.

    If that is no outside number, the client is whom the employee dialled (the tracker knows).
    """
    request = rules.numbering.normalize(event.get("variable_sip_req_uri"))
    leg.is_trunk_user = True
    leg.ext = rules.aliases.get(request, "")
    if leg.ext:
        leg.role = Role.EMPLOYEE
        return

    leg.number = ""
    if is_outside_number(request):
        leg.number = request
    leg.line = line_of(event, inbound=False, numbering=rules.numbering)


def _caller_number(event: SwitchEvent, numbering: Numbering) -> str:
    """Return the caller number; one of zeros only is hidden."""
    raw = event.get("Caller-Caller-ID-Number")
    if not raw.strip("+0"):
        return ""
    return numbering.normalize(raw)
