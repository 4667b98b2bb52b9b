"""Writes the dial string of a ring: who rings at once, and who after them.

FreeSWITCH reads it as a command, so whatever is in it was checked to be a directory user, a domain,
digits or a cleaned name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import MappingProxyType

from .phones import DOMAIN, USER
from .socket_app import clean

MOST_RUNG = 40
"""Legs of one ring; FreeSWITCH takes 128 at a time."""

_NUMBER = re.compile(r"[0-9*#]{2,20}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{2,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Phone:
    """Somebody to ring: a directory user or, if `is_outside`, a number reached like a client's.

    ext: whose it is, which may choose the trunk.
    """

    name: str
    is_outside: bool = False
    ext: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the phones show.

    name: the client's, "" if unknown. number: E.164 digits, or "". outside: directory users who
    are reached through a trunk, and so are shown the number.
    """

    name: str = ""
    number: str = ""
    outside: Set[str] = frozenset()


def ring_string(
    steps: Sequence[Sequence[Phone]],
    seconds: int,
    shown: Shown,
    domain: str,
    dial_string: str,
    dial_strings: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return what `bridge` takes, "" if nobody is to be rung.

    steps: who rings at once, one step after the other. seconds: how long each step rings. domain:
    of the users, "" for FreeSWITCH's own. dial_string: how a number outside is dialled;
    dial_strings: by ext, where it differs.
    """
    left = MOST_RUNG
    written = []
    for step in steps:
        legs = [
            _leg(phone, seconds, shown, domain, dial_strings.get(phone.ext, dial_string))
            for phone in step
        ]
        legs = list(dict.fromkeys(filter(None, legs)))[:left]
        left -= len(legs)
        if legs:
            written.append(",".join(legs))

    # without it the first network that sends sound of its own would end the ring
    # (docs/facts/freeswitch.md, "Early media")
    return "{ignore_early_media=true}" + "|".join(written) if written else ""


def _leg(phone: Phone, seconds: int, shown: Shown, domain: str, dial_string: str) -> str:
    """Return the dial string of one leg, "" if its user or number cannot be dialled."""
    variables, name = f"leg_timeout={seconds}", clean(shown.name)
    if phone.is_outside or phone.name in shown.outside:
        # the client's name stays in the house, whatever effective_caller_id_name says
        name = shown.number if _DIGITS.fullmatch(shown.number) else ""
    if name:
        variables += f",origination_caller_id_name={name}"

    if phone.is_outside:
        if not _NUMBER.fullmatch(phone.name):
            return ""
        # by the number alone he is not known where a rule changes what the trunk is given
        if USER.fullmatch(phone.ext):
            variables += f",planfix_ext={phone.ext}"
        return f"[{variables}]" + dial_string.replace("{number}", phone.name)
    if not USER.fullmatch(phone.name):
        return ""
    at = f"@{domain}" if DOMAIN.fullmatch(domain) else ""
    return f"[{variables}]user/{phone.name}{at}"
