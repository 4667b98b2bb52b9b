"""Who may not be what the settings say, for `fsplanfix check`. Nothing is decided by it.

A login whose calls show many outside numbers is probably a gateway (TRUNK_USERS), and a gateway
through which short numbers are dialled probably leads to colleagues (HOUSE_GATEWAYS).
"""

from __future__ import annotations

import json

from ..freeswitch.events import SwitchEvent
from .model import Leg, Role
from .numbers import is_outside_number, is_service_number
from .whose import AccountRules

DOUBTS = "doubts"
"""The name under which they are kept in the store."""

ENOUGH_CALLERS = 3
"""Numbers a login has shown. One may be its own line, two the caller of a call it picked up."""

ENOUGH_EXTS = 2
MOST_NAMES = 100


class Doubts:
    """Collects doubts. changed: there is a new one since a caller last cleared it."""

    def __init__(self, rules: AccountRules) -> None:
        self.changed = False
        self._rules = rules
        self._shown: dict[str, set[str]] = {}
        self._carried: dict[str, set[str]] = {}

    def look_at(self, leg: Leg, event: SwitchEvent) -> None:
        """Look at a leg that was created."""
        rules = self._rules.of(leg.read_for)
        if leg.role is Role.EMPLOYEE and leg.inbound:
            user = event.get("variable_user_name") or event.get("variable_sip_auth_username")
            number = rules.numbering.normalize(event.get("Caller-Caller-ID-Number"))
            is_to_a_line = rules.numbering.is_whole(leg.dialled)
            if is_to_a_line and is_outside_number(number) and number != user:
                self._note(self._shown, user, number, ENOUGH_CALLERS)
        elif leg.role is Role.OUTSIDE and not leg.inbound:
            gateway = event.get("variable_sip_gateway_name")
            is_ext = bool(rules.ext_for(leg.number))
            if gateway and is_ext and not is_service_number(leg.number, rules.country):
                self._note(self._carried, gateway, leg.number, ENOUGH_EXTS)

    def _note(self, seen: dict[str, set[str]], name: str, number: str, enough: int) -> None:
        if not name or (name not in seen and len(seen) >= MOST_NAMES):
            return
        numbers = seen.setdefault(name[:64], set())
        if len(numbers) < enough:
            numbers.add(number)
            self.changed = self.changed or len(numbers) == enough

    def with_those_of(self, known: str) -> str:
        """Return these and those that others have noted before, as JSON."""
        before = json.loads(known or "{}")
        return json.dumps(
            {
                what: sorted({*names, *before.get(what, [])})[:MOST_NAMES]
                for what, names in self.named().items()
            }
        )

    def named(self) -> dict[str, list[str]]:
        """Return the `users` that look like gateways, and the `gateways` that carry exts."""
        return {
            "users": sorted(n for n, seen in self._shown.items() if len(seen) >= ENOUGH_CALLERS),
            "gateways": sorted(n for n, seen in self._carried.items() if len(seen) >= ENOUGH_EXTS),
        }
