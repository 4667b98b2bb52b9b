"""What the dialplan is told about a caller, from Planfix's contacts."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from ..calls.model import Role, Rules
from ..calls.parties import read_leg
from ..freeswitch.events import SwitchEvent
from ..freeswitch.socket_app import clean
from ..planfix.contacts import Contacts

log = structlog.get_logger(__name__)


class CallerLookup:
    """Looks callers up in Planfix."""

    def __init__(self, rules: Rules, contacts: Contacts) -> None:
        self._rules = rules
        self._contacts = contacts

    def find_variables(self, channel: SwitchEvent, seconds: float) -> dict[str, str]:
        """Return the variables for an outside caller within `seconds`, none for anybody else."""
        begun = time.monotonic()
        leg = read_leg(channel, self._rules)
        if leg.role is not Role.OUTSIDE or not leg.inbound or not leg.number:
            return {}

        # the call waits in the dialplan for this
        contact = self._contacts.find(leg.number, leg.uuid, seconds)
        name, manager = clean(contact.name), self._manager(contact.managers)
        took = round((time.monotonic() - begun) * 1000)
        log.info(
            "caller_lookup", callid=leg.uuid, known=bool(name), manager=manager, milliseconds=took
        )
        found = {
            "effective_caller_id_name": name,
            "planfix_contact_name": name,
            "planfix_manager": manager,
        }

        return {variable: value for variable, value in found.items() if value}

    def _manager(self, codes: Sequence[str]) -> str:
        """Return the first directory user behind the managers' short codes, "" if there is none."""
        # a mobile may have a code by its alias, and the dialplan calls only directory users
        for code in codes:
            for user in self._rules.users_of(code):
                if self._rules.ext_pattern.fullmatch(user):
                    return user
        return ""
