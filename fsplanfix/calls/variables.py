"""What the dialplan tells us of a call by channel variables that begin with `planfix_`.

They come from the dialplan or from us: what a stranger's SIP headers set is called
`variable_sip_h_...`.
"""

from __future__ import annotations

import re

from ..freeswitch.events import SwitchEvent
from ..freeswitch.headers import OURS
from .model import Leg, Rules

DATA_NAME = re.compile(r"data_(\w{1,64})")
MOST_DATA_FIELDS = 50
LONGEST_DATA_VALUE = 1000
"""Characters of one `planfix_data_*` value that are passed on."""

LONGEST_NAME = 200
"""Characters of `planfix_contact_name`."""

_TRUE = frozenset(("true", "yes", "on", "1", "enable", "enabled", "active", "allow"))


def is_true(value: str) -> bool:
    """Tell whether FreeSWITCH would call a channel variable's value true (its switch_true())."""
    return value.lower() in _TRUE


def read_variables(leg: Leg, event: SwitchEvent, rules: Rules) -> bool:
    """Read `planfix_ignore`, `planfix_diversion`, `planfix_contact_name`, `planfix_known` and
    `planfix_data_*`.

    Return whether the event had any `planfix_` variable.
    """
    found = event.ours()
    if not found:
        return False

    data = {}
    for name, value in found.items():
        match = DATA_NAME.fullmatch(name)
        if match and value:
            data[match[1]] = value[:LONGEST_DATA_VALUE]
    leg.data = merged(leg.data, data)
    leg.contact = " ".join(found.get("contact_name", "").split())[:LONGEST_NAME] or leg.contact
    leg.known = leg.known or is_true(found.get("known", ""))
    leg.ignored = leg.ignored or is_true(found.get("ignore", ""))
    if leg.first and "diversion" in found:
        leg.first[f"{OURS}diversion"] = found["diversion"]
    leg.diversion = rules.numbering.normalize(found.get("diversion", "")) or leg.diversion
    return True


def merged(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """Return data fields with newer values, never more than MOST_DATA_FIELDS."""
    if not new:
        return old
    fields = {**old, **new}
    return dict(list(fields.items())[:MOST_DATA_FIELDS])
