"""What the dialplan is told about a caller: who he is, and who should ring for him."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from typing import Protocol

import gevent
import structlog

from ..calls.model import ACCOUNT, Leg, Role, Rules
from ..calls.parties import read_leg
from ..freeswitch.events import SwitchEvent
from ..freeswitch.ring import Shown, ring_string
from ..freeswitch.socket_app import clean
from ..outbox.records import LOOKED_UP, Entry, whose
from ..planfix.contacts import NOBODY, Contact, Contacts
from .ring import First, Order, RingPlan, Wanted, group_of

log = structlog.get_logger(__name__)

TIME_TO_ASK = 0.1
"""Seconds kept, of those a call may wait, for asking FreeSWITCH about the phones."""

MOST_TIME_TO_ASK = 0.4
"""Seconds that a call waits for FreeSWITCH's words about the phones, if it may be held so long."""

FindLast = Callable[[str, float], str]
"""Takes a number (E.164 digits) and seconds, returns the ext that talked with it last, or ""."""


class Phones(Protocol):
    """What FreeSWITCH knows of users' phones; see CallPhones in freeswitch/phones.py."""

    def absent(
        self, channel: SwitchEvent, users: Sequence[str], domain: str, seconds: float
    ) -> Set[str]:
        """Return which of a domain's users have no phone, within `seconds` or a little more."""

    def unknown(
        self, channel: SwitchEvent, users: Sequence[str], domain: str, seconds: float
    ) -> Set[str]:
        """Return which users a domain does not have, within `seconds`."""

    def outside(
        self, channel: SwitchEvent, users: Sequence[str], domain: str, seconds: float
    ) -> Set[str]:
        """Return which of a domain's users are shown to a trunk, within `seconds`."""


FindBusy = Callable[[float], Set[str]]
"""Takes seconds, returns the exts that are in a call."""


WriteDown = Callable[[Entry], object]
"""Keeps a line of the journal. It raises nothing, and the call need not wait for it."""

GONE_WRONG = {
    "failed": "Planfix gave no answer that can be used",
    "late": "Planfix did not answer in time",
    "paused": "Planfix was not asked, because it failed several times in a row",
}
"""What came of a lookup without an answer; see OnLookup in planfix/contacts.py."""


def in_words(contact: Contact, how: str, seconds: float) -> str:
    """Return a lookup as a line of the journal."""
    if how in GONE_WRONG:
        return f"{LOOKED_UP} {GONE_WRONG[how]} ({seconds * 1000:.0f} ms)"

    source = "asked" if how == "asked" else "remembered from before"
    managers = ", ".join(contact.managers)
    known = contact.name or "no name"
    if managers:
        known += f", manager {managers}"
    if contact == NOBODY:
        known = "Planfix does not know the number, or could not say"
        if how == "asked":
            known = "Planfix does not know the number"
    return f"{LOOKED_UP} {known} ({source}, {seconds * 1000:.0f} ms)"


class CallerLookup:
    """Looks callers up in Planfix and in our own history, and builds the ring.

    is_ours: tells whether the company's users may be in a domain. needs_domain: FreeSWITCH's own
    domain may be another company's, so nobody is rung where no domain is known.
    """

    def __init__(
        self,
        rules: Rules,
        contacts: Contacts,
        plan: RingPlan,
        find_last: FindLast,
        phones: Phones,
        find_busy: FindBusy,
        write_down: WriteDown | None = None,
        account: str = ACCOUNT,
        is_ours: Callable[[str], bool] = lambda _: True,
        needs_domain: bool = False,
    ) -> None:
        self._rules = rules
        self._contacts = contacts
        self._plan = plan
        self._order = Order(rules, plan.first)
        self._find_last = find_last
        self._phones = phones
        self._find_busy = find_busy
        self._journal = write_down
        self._account = account
        self._is_ours = is_ours
        self._needs_domain = needs_domain

    def find_variables(self, channel: SwitchEvent, seconds: float) -> dict[str, str]:
        """Return the variables for an outside caller within `seconds`, none for anybody else."""
        begun = time.monotonic()
        leg = read_leg(channel, self._rules)
        if leg.role is not Role.OUTSIDE or not leg.inbound:
            return {}

        group = channel.get("variable_planfix_group")
        if not leg.number and not group:
            return {}

        # the call waits in the dialplan for this
        contact, last = NOBODY, ""
        if leg.number:
            time_to_know = max(seconds - TIME_TO_ASK, 0)
            asking = gevent.spawn(self._last, leg.number, time_to_know)
            contact, how, took = self._contacts.look_up(leg.number, leg.uuid, time_to_know)
            self._write_down(leg, in_words(contact, how, took))
            asking.join(max(time_to_know - (time.monotonic() - begun), 0))
            last = asking.value or ""

        name = clean(contact.name)
        left = seconds - (time.monotonic() - begun)
        wanted = Wanted(contact.managers, last, group_of(group), leg.number)
        ring = self._ring(channel, leg, wanted, name, max(left, 0))

        found = {
            # shown by the phones where the dialplan rings them itself; else each phone of the
            # ring has the name on its own leg, and no trunk sees it
            "effective_caller_id_name": "" if group else name,
            "planfix_contact_name": name,
            "planfix_known": "true" if contact.is_known else "",
            "planfix_manager": self._manager(contact.managers),
            "planfix_ring": ring,
        }
        log.info(
            "caller_lookup",
            callid=leg.uuid,
            phone=leg.number,
            known=contact.is_known,
            manager=found["planfix_manager"],
            last=last,
            rung=ring.count("leg_timeout="),
            milliseconds=round((time.monotonic() - begun) * 1000),
            **whose(self._account),
        )
        return {variable: value for variable, value in found.items() if value}

    def _write_down(self, leg: Leg, what: str) -> None:
        if self._journal is not None:
            self._journal(Entry(time.time(), what, leg.uuid, "", leg.number, self._account))

    def _last(self, number: str, seconds: float) -> str:
        return self._find_last(number, seconds) if First.LAST in self._plan.first else ""

    def _ring(
        self, channel: SwitchEvent, leg: Leg, wanted: Wanted, name: str, seconds: float
    ) -> str:
        """Return the dial string of the ring, "" if nobody is known who could ring."""
        # FusionPBX has many domains and says in each call which one is meant
        domain = channel.get("variable_domain_name")
        if not domain or not self._is_ours(domain):
            domain = self._plan.user_domain
        if not domain and self._needs_domain:
            return ""

        outside: Set[str] = frozenset()

        def find_absent(users: list[str]) -> Set[str]:
            nonlocal outside
            # in greenlets of their own: whoever asks FreeSWITCH takes a LinkDown as an answer, and
            # the end of the time that this call may be held is one
            time_to_ask = min(seconds, MOST_TIME_TO_ASK)
            gone = gevent.spawn(self._phones.absent, channel, users, domain, time_to_ask / 2)
            # only a name must be kept from the trunks
            named = users if name else []
            away = gevent.spawn(self._phones.outside, channel, named, domain, time_to_ask / 2)
            gevent.joinall([gone, away], timeout=time_to_ask)
            # whose phone is not known to be of the house is shown the number
            outside = frozenset(named) if away.value is None else away.value
            return gone.value or frozenset()

        def find_unknown(users: list[str]) -> Set[str]:
            time_to_ask = min(seconds, TIME_TO_ASK)
            asking = gevent.spawn(self._phones.unknown, channel, users, domain, time_to_ask)
            asking.join(time_to_ask)
            return asking.value or frozenset()

        busy = self._find_busy(min(seconds, TIME_TO_ASK))
        steps = self._order.steps(wanted, find_absent, busy, find_unknown)
        shown, plan = Shown(name, leg.number, outside), self._plan
        return ring_string(steps, plan.seconds, shown, domain, plan.dial_string, plan.dial_strings)

    def _manager(self, codes: Sequence[str]) -> str:
        """Return the first directory user behind the managers' short codes, "" if there is none."""
        # a mobile may have a code by its alias, and the dialplan calls only directory users
        for code in codes:
            for user in self._rules.users_of(code):
                if self._rules.ext_pattern.fullmatch(user):
                    return user
        return ""
