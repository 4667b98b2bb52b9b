"""How an outgoing call failed, by the hang-up of the client's leg (docs/call-rules.md, rule 9)."""

from __future__ import annotations

from ..freeswitch.events import SwitchEvent
from .model import Status

BUSY_CAUSES = frozenset(("USER_BUSY", "486", "600", "603"))
NOT_ALLOWED_CAUSES = frozenset(
    ("403", "OUTGOING_CALL_BARRED", "CALL_BARRED", "BEARERCAPABILITY_NOTAUTH")
)
NO_ANSWER_CAUSES = frozenset(("NO_ANSWER", "ALLOTTED_TIMEOUT", "ORIGINATOR_CANCEL"))

NO_PHONE = frozenset(("USER_NOT_REGISTERED", "SUBSCRIBER_ABSENT"))
"""What `variable_originate_disposition` says if a user was called who has no phone (rule 6)."""


def failure_of(event: SwitchEvent, rang: bool) -> Status:
    """Return how an outgoing call failed, from the hang-up of the client's leg.

    rang: whether the client's phone rang. FreeSWITCH gives 408 to its own timer (a silent trunk)
    and to the network's 408 alike; only the ringing tells them apart.
    """
    sip = event.get("variable_sip_term_status") or event.get("variable_proto_specific_hangup_cause")
    causes = {event.get("Hangup-Cause"), sip.removeprefix("sip:")}
    if causes == {"NORMAL_CLEARING", ""}:
        return Status.NO_ANSWER  # no answer of the network: we hung up ourselves
    if causes & BUSY_CAUSES:
        return Status.BUSY
    if causes & NOT_ALLOWED_CAUSES:
        return Status.NOT_ALLOWED
    if causes & NO_ANSWER_CAUSES or (rang and "408" in causes):
        return Status.NO_ANSWER
    return Status.NOT_AVAILABLE
