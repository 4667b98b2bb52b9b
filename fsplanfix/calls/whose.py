"""Whose call it is, where a switch serves several companies (docs/call-rules.md, "Whose call")."""

from __future__ import annotations

from ..freeswitch.events import SwitchEvent
from .model import ACCOUNT, Call, Leg, Role, Rules

BY_VARIABLE, BY_LINE, BY_CONTEXT, BY_DOMAIN, BY_OTHER_DOMAIN = range(5)
"""What names an account, the strongest first."""


def read_account(leg: Leg, event: SwitchEvent, rules: Rules) -> bool:
    """Read from an event which account a leg belongs to; return whether that is news.

    Nothing is read that a stranger chooses: no sip_to_host, no presence id.
    """
    if not rules.is_narrowed:
        return False

    by, account = _named(leg, event, rules)
    if by >= leg.account_by:
        return False
    leg.account_by, leg.account = by, account
    return True


def _named(leg: Leg, event: SwitchEvent, rules: Rules) -> tuple[int, str]:
    account = event.get("variable_planfix_account")
    if account:
        return BY_VARIABLE, account
    if leg.role is Role.OUTSIDE and leg.line and rules.has_line(leg.line):
        return BY_LINE, ACCOUNT
    if event.get("Caller-Context").lower() in rules.domains:
        return BY_CONTEXT, ACCOUNT

    domain = _domain(leg, event).lower()
    if domain in rules.domains:
        return BY_DOMAIN, ACCOUNT
    # lines alone say nothing of domains
    if domain and rules.domains:
        return BY_OTHER_DOMAIN, f"@{domain}"
    return leg.account_by, leg.account


def _domain(leg: Leg, event: SwitchEvent) -> str:
    """Return the directory domain of a leg's user, "" if none is known."""
    own, called = event.get("variable_domain_name"), event.get("variable_dialed_domain")
    # a client's own leg says whom the dialplan rang for him (vanilla/unregistered_to_mobile)
    if leg.inbound:
        return own or called
    # a phone rung as part of a group has the presence id alone (vanilla/group_support); what a
    # stranger writes into his From is one only on a leg that came in
    presence = event.get("variable_presence_id").rpartition("@")[2]
    return called or own or presence


def take_account(call: Call, leg: Leg) -> None:
    """Let a leg name the account of its call, until the first word is said."""
    if not call.position and leg.account_by < call.account_by:
        call.account_by, call.account = leg.account_by, leg.account
