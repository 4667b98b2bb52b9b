"""Messages that clients leave (docs/call-rules.md, rule 13): `vm::maintenance`, mod_voicemail."""

from __future__ import annotations

from collections.abc import Iterable

from ..freeswitch.events import CONFERENCE, SwitchEvent, is_membership
from .identity import is_foreign
from .model import Call, Leg, Rules
from .whose import AccountRules

VOICEMAIL = "vm::maintenance"
"""The subclass of the events about messages."""


def _are_wanted(rules: AccountRules) -> bool:
    return rules.shared.voicemail or any(own.voicemail for own in rules.values())


def subclasses(rules: AccountRules) -> list[str]:
    """Return the subclasses of CUSTOM that have a rule."""
    return [CONFERENCE, VOICEMAIL] if _are_wanted(rules) else [CONFERENCE]


def has_rule(event: SwitchEvent, rules: AccountRules) -> bool:
    """Tell whether a CUSTOM event has a rule."""
    return is_membership(event) or (_is_message(event) and _are_wanted(rules))


def _is_message(event: SwitchEvent) -> bool:
    is_left = event.get("VM-Action") == "leave-message"
    return is_left and event.get("Event-Subclass") == VOICEMAIL


def note_message(leg: Leg, calls: Iterable[Call], event: SwitchEvent, rules: AccountRules) -> None:
    """Note the file of a message in the calls it was left in, if the event is about one.

    FreeSWITCH says so once the file is in the mailbox, before the leg's HANGUP_COMPLETE.
    """
    path = event.get("VM-File-Path")
    if not path or not _is_message(event):
        return
    for call in calls:
        is_his = rules.of(call.account).voicemail and not is_foreign(call, leg)
        if is_his and path not in call.messages:
            call.messages.append(path)


def may_get_a_message(call: Call, rules: Rules) -> bool:
    """Tell whether the client of a missed call may still have left a message.

    mod_voicemail may run on a leg of its own (`loopback/app=voicemail`), which ends after his.
    """
    return rules.voicemail and not call.talks and bool(call.legs)
