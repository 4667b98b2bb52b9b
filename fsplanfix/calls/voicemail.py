"""Messages that clients leave (docs/call-rules.md, rule 13): `vm::maintenance`, mod_voicemail."""

from __future__ import annotations

from ..freeswitch.events import CONFERENCE, SwitchEvent, is_membership
from .model import Call, Leg, Rules

VOICEMAIL = "vm::maintenance"
"""The subclass of the events about messages."""


def subclasses(rules: Rules) -> list[str]:
    """Return the subclasses of CUSTOM that have a rule."""
    return [CONFERENCE, VOICEMAIL] if rules.voicemail else [CONFERENCE]


def has_rule(event: SwitchEvent, rules: Rules) -> bool:
    """Tell whether a CUSTOM event has a rule."""
    return is_membership(event) or (rules.voicemail and _is_message(event))


def _is_message(event: SwitchEvent) -> bool:
    is_left = event.get("VM-Action") == "leave-message"
    return is_left and event.get("Event-Subclass") == VOICEMAIL


def read_message(leg: Leg, event: SwitchEvent, rules: Rules) -> bool:
    """Read the file of a message; return whether that is news.

    FreeSWITCH says so once the file is in the mailbox, before the leg's HANGUP_COMPLETE.
    """
    if not rules.voicemail or event.name != "CUSTOM" or not _is_message(event):
        return False
    path = event.get("VM-File-Path")
    if not path or path in leg.messages:
        return False
    leg.messages.append(path)
    return True


def share_messages(call: Call, leg: Leg) -> None:
    """Let a call know the messages left on one of its legs."""
    call.messages += [path for path in leg.messages if path not in call.messages]


def may_get_a_message(call: Call, rules: Rules) -> bool:
    """Tell whether the client of a missed call may still have left a message.

    mod_voicemail may run on a leg of its own (`loopback/app=voicemail`), which ends after his.
    """
    return rules.voicemail and not call.talks and bool(call.legs)
