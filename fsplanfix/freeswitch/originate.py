"""Click to call: FreeSWITCH calls the manager's phone first and, when it is picked up, the client.

The command is made of an ext and a number that are digits and nothing else, and of settings that were checked at the
start: there is no way to add a channel variable, a second leg or another command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import uuid4

import structlog

from ..errors import DialRefused, LinkError
from .link import Connection

log = structlog.get_logger(__name__)

RING_TIMEOUT = 30
"""Seconds the manager's phone rings."""

_EXT = re.compile(r"[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{2,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DialPlan:
    """How a client is dialled: by a dial string with {number} in it, or through a dialplan context if given."""

    dial_string: str
    dial_context: str = ""
    user_domain: str = ""
    caller_id: str = ""


def command(ext: str, number: str, plan: DialPlan, uuid: str) -> str:
    """Return the originate command. Raises DialRefused if ext or number is anything but digits."""
    if not _EXT.fullmatch(ext) or not _NUMBER.fullmatch(number):
        raise DialRefused("ext and number must be digits.")
    variables = {
        "origination_uuid": uuid,
        "origination_caller_id_number": number,
        "origination_caller_id_name": number,
        "originate_timeout": str(RING_TIMEOUT),
        "ignore_early_media": "true",
        "planfix_makecall": "1",
        "planfix_ext": ext,
        "planfix_phone": number,
    }
    if plan.caller_id:
        variables["effective_caller_id_number"] = plan.caller_id
    user = f"user/{ext}@{plan.user_domain}" if plan.user_domain else f"user/{ext}"
    listed = ",".join(f"{name}={value}" for name, value in variables.items())
    if plan.dial_context:
        return f"originate {{{listed}}}{user} {number} XML {plan.dial_context}"
    return f"originate {{{listed}}}{user} &bridge({plan.dial_string.replace('{number}', number)})"


def call(connection: Connection, ext: str, number: str, plan: DialPlan) -> str:
    """Place the call and wait for the manager's phone; return "" or why it did not come about.

    What becomes of the call is told to Planfix by the events it causes, not by this answer.
    """
    uuid = str(uuid4())
    try:
        answer = connection.bgapi(command(ext, number, plan, uuid), timeout=RING_TIMEOUT + 10)
    except LinkError as error:
        answer = f"-ERR {error}"
    if answer.startswith("+OK"):
        log.info("click_to_call", ext=ext, callid=uuid)
        return ""
    log.warning("click_to_call_failed", ext=ext, callid=uuid, reason=answer[:200])
    return answer
