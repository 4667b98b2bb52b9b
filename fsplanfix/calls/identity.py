"""What a client call is called and whose numbers it carries.

docs/call-rules.md, "Call identity".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .model import Call, Direction, Leg, Role, Rules
from .numbers import is_outside_number

REMEMBERED_CALLS = 10_000

_SAME_NUMBER = 10
"""Digits at the end by which two ways of writing a number are the same one."""


def ends_alike(one: str, other: str) -> bool:
    """Tell whether two numbers agree in their last ten digits."""
    return one[-_SAME_NUMBER:] == other[-_SAME_NUMBER:]


def number_called(leg: Leg, dialled: str, rules: Rules) -> str:
    """Return the number an outgoing call goes to, "" if it is unknown.

    leg: the client's. dialled: what the employee dialled, which is right where the leg carries a
    routing prefix (`5555#7916…`, report r17b) or what DIAL_RULES make of it.
    """
    wanted = rules.numbering.normalize(dialled)

    if not leg.number:
        if leg.is_trunk_user or is_outside_number(wanted):
            return wanted
        return ""

    # 98916… of DIAL_RULES is a whole number of another country, and a local number is none
    if leg.number == rules.numbering.normalize(rules.numbering.dialled(wanted)):
        return wanted
    if rules.numbering.is_whole(leg.number) or not rules.numbering.is_whole(dialled):
        return leg.number
    if ends_alike(wanted, leg.number):
        return wanted
    return leg.number


def is_foreign(call: Call, leg: Leg) -> bool:
    """Tell whether a leg in a call belongs to another company; the call's client is nobody's."""
    is_client = leg.client_of == call.callid
    return not is_client and "" not in (leg.account, call.account) and leg.account != call.account


def counts_as(rules: Rules, call: Call, leg: Leg) -> str:
    """Return the ext a leg goes by in a call, "" if it has none.

    An outside number that the PBX rings for the client is an employee: its alias, else itself. The
    client's own number is nobody's but his.
    """
    # for one company another's employee is an outside party without a number
    if is_foreign(call, leg):
        return ""
    if leg.role is not Role.OUTSIDE or leg.client_of == call.callid:
        return leg.ext

    if leg.number in rules.aliases:
        return rules.aliases[leg.number]
    if leg.number == call.phone:
        return ""
    return leg.number


@dataclass(slots=True)
class _Past:
    """What is still known of the calls that a leg's UUID has named."""

    times: int = 0
    callid: str = ""
    position: int = 0
    ordinals: dict[str, int] = field(default_factory=dict)
    account: str = ""


class Callids:
    """Gives calls their callids. FreeSWITCH may use a UUID again (`origination_uuid`).

    calls: those that are open, by callid. reopened: the calls that were over and go on, since a
    caller last cleared it.
    """

    def __init__(self, calls: Mapping[str, Call]) -> None:
        self.reopened: set[str] = set()
        self._calls = calls
        self._past: OrderedDict[str, _Past] = OrderedDict()

    def remember(self, callids: Iterable[str]) -> None:
        """Take over the callids of calls that were over before we started, the latest last."""
        for callid in callids:
            uuid, _, times = callid.rpartition("-")
            if uuid in self._past and times.isdigit():
                past = self._past[uuid]
                past.times, past.callid = max(past.times, int(times)), callid
            else:
                self._keep(callid, _Past(1, callid))

    def resume(self, call: Call) -> None:
        """Take over an open call that somebody else has begun, or we before a restart."""
        times = 1
        number = call.callid.removeprefix(call.first_leg).lstrip("-")
        if number.isdigit():
            times = int(number)
        self._keep(call.first_leg, _Past(times, call.callid))

    def _keep(self, uuid: str, past: _Past) -> None:
        self._past[uuid] = past
        self._past.move_to_end(uuid)
        if len(self._past) > REMEMBERED_CALLS:
            self._past.popitem(last=False)

    def begin(
        self, leg: Leg, direction: Direction, phone: str, diversion: str, at: int, client: Leg
    ) -> Call:
        """Begin a call that is named after a leg; at is microseconds since 1970.

        A leg that `sofia recover` brought back goes on with its former call (rule 17); any other
        leg of a UUID that was a callid before gets UUID-2, UUID-3 and so on.
        """
        past = self._past.get(leg.uuid)
        call = Call(leg.uuid, direction, phone, diversion, at, [client.uuid], first_leg=leg.uuid)
        leg.has_named_call = True

        if past is None:
            past = _Past(1, leg.uuid)
            self._keep(leg.uuid, past)
            if leg.uuid in self._calls:
                call.callid = past.callid = self._numbered(leg.uuid, past)
        elif leg.recovered:
            call.callid, call.position, call.ordinals = past.callid, past.position, past.ordinals
            call.unrouted = not past.position
            if past.position:
                call.account = past.account
            self.reopened.add(call.callid)
        else:
            call.callid = past.callid = self._numbered(leg.uuid, past)
        return call

    def _numbered(self, uuid: str, past: _Past) -> str:
        """Return the next name made of a UUID. A stranger's Call-ID may look like one."""
        while True:
            past.times += 1
            callid = f"{uuid}-{past.times}"
            if callid not in self._past and callid not in self._calls:
                return callid

    def end(self, call: Call) -> None:
        """Remember a call that is over."""
        past = self._past.setdefault(call.first_leg, _Past(1))
        past.callid, past.position, past.ordinals = call.callid, call.position, call.ordinals
        past.account = call.account
