"""Click to call: FreeSWITCH calls the manager's phone first, then the client.

The command is made of a user and a number that were checked to be nothing else, and of settings
that were checked at the start: there is no way to add a channel variable, a second leg or another
command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

import gevent
import structlog

from ..errors import DialRefused, LinkDown, LinkError
from . import tones
from .connection import Connection

log = structlog.get_logger(__name__)

RING_TIMEOUT = 30
"""Seconds the manager's phone rings."""

CLIENT_TIMEOUT = 60
"""Seconds the client's phone rings."""

CHECK_TIMEOUT = 2.0
"""Seconds FreeSWITCH has to say whether a phone is registered; Planfix waits for it."""

_USER = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{2,15}", re.ASCII)
_DOMAIN = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}", re.ASCII)
_CAUSE = re.compile(r"-ERR ([A-Z_]{3,40})\b", re.ASCII)

AUTO_ANSWER = {
    "sip_auto_answer": "true",
    "alert_info": "<http://www.notused.com>;info=alert-autoanswer;delay=0",
}
"""Variables that make a phone answer by itself.

sip_auto_answer makes mod_sofia add `Call-Info: <sip:...>;answer-after=0`, which it then sets itself
(mod_sofia.c); Snom, Yealink, Grandstream and Polycom also know the Alert-Info.
"""


ONLY_WHEN_ANSWERED = {"group_confirm_early_ok": "false"}
"""Variables of the manager's leg: sound that it sends while it rings (183) is no answer.

ignore_early_media would do the same, but the client's leg inherits it, whatever dialplan places
that, and then the manager does not hear the client's network. This one is not inherited
(switch_ivr_originate.c, since 1.10.3).
"""

HEARD_WHILE_RINGING = {
    "ignore_early_media": "false",
    "bridge_answer_timeout": str(CLIENT_TIMEOUT),
}
"""Variables of the client's leg with which the manager hears the client's network.

FreeSWITCH bridges the two as soon as the network sends sound. call_timeout is over then, so the
bridge has a timeout of its own.
"""


class Phone(StrEnum):
    """What FreeSWITCH says about a user's phone.

    UNCLEAR: FreeSWITCH cannot tell, so the phone is dialled.
    """

    REGISTERED = "registered"
    ABSENT = "no phone is registered"
    UNKNOWN = "FreeSWITCH's directory has no such user"
    UNCLEAR = "unclear"


_PREFERRED = (Phone.REGISTERED, Phone.UNCLEAR, Phone.ABSENT, Phone.UNKNOWN)
"""Of several FreeSWITCHes, the one whose answer stands first is called through."""


@dataclass(frozen=True, slots=True)
class DialPlan:
    """How a client is dialled: by a dial string with {number}, or through a dialplan context.

    caller_id: what the client sees, "" to leave it to FreeSWITCH. auto_answer: whether the
    manager's phone is asked to answer by itself. ringback: what the manager hears while the
    client's phone rings and the network sends no sound of its own.
    """

    dial_string: str
    dial_context: str = ""
    user_domain: str = ""
    caller_id: str = ""
    auto_answer: bool = False
    ringback: str = tones.EUROPEAN


@dataclass(frozen=True, slots=True)
class Click:
    """A click-to-call.

    outcome: "" if the manager answered, else FreeSWITCH's words.
    """

    callid: str
    ext: str
    number: str
    outcome: str

    @property
    def cause(self) -> str:
        """Return one word for the outcome: ANSWERED, or FreeSWITCH's hang-up cause."""
        if not self.outcome:
            return "ANSWERED"
        found = _CAUSE.match(self.outcome)
        if found is None:
            return "OTHER"
        return found[1]


def originate_command(
    user: str, number: str, plan: DialPlan, uuid: str, outside: bool = False
) -> str:
    """Return the originate command.

    user: a directory user or, if `outside`, a number reached like a client's. Raises DialRefused if
    user or number could be anything else.
    """
    allowed_user = _NUMBER if outside else _USER
    if not allowed_user.fullmatch(user) or not _NUMBER.fullmatch(number):
        raise DialRefused("The user or the number cannot be dialled.")

    variables = {
        "origination_uuid": uuid,
        "origination_caller_id_number": number,
        "origination_caller_id_name": number,
        "originate_timeout": str(RING_TIMEOUT),
        "call_timeout": str(CLIENT_TIMEOUT),
        **ONLY_WHEN_ANSWERED,
        # a comma inside a value would end it: FreeSWITCH reads {name=value,name=value}
        "transfer_ringback": plan.ringback.replace(",", r"\,"),
        "planfix_makecall": "1",
        "planfix_ext": user,
        "planfix_phone": number,
    }
    if plan.caller_id:
        # for the dialplan of DIAL_CONTEXT: the directory's variables replace effective_caller_id_*
        # once the employee's leg is there (mod_dptools.c, user_outgoing_channel)
        variables["planfix_caller_id"] = plan.caller_id
        variables["effective_caller_id_number"] = plan.caller_id
    if plan.auto_answer and not outside:
        variables |= AUTO_ANSWER

    first = _listed(variables) + _first_leg(user, plan, outside)
    if plan.dial_context:
        # the dialplan of this context places the client's leg, with variables of its own
        return f"originate {first} {number} XML {plan.dial_context}"

    of_client = dict(HEARD_WHILE_RINGING)
    if plan.caller_id:
        # the employee's name would go along with the number
        of_client["origination_caller_id_number"] = plan.caller_id
        of_client["origination_caller_id_name"] = plan.caller_id

    second = _listed(of_client) + plan.dial_string.replace("{number}", number)
    return f"originate {first} &bridge({second})"


def _listed(variables: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={value}" for name, value in variables.items()) + "}"


def _first_leg(user: str, plan: DialPlan, outside: bool) -> str:
    if outside:
        return plan.dial_string.replace("{number}", user)
    return f"user/{user}@{plan.user_domain}" if plan.user_domain else f"user/{user}"


def find_phone(connection: Connection, user: str, domain: str) -> Phone:
    """Ask a FreeSWITCH about a user's phone; never raises.

    `sofia_contact` answers `error/user_not_registered`, `user_exists` true or false, and takes no
    user without a domain (mod_commands.c). If FreeSWITCH answers neither, the originate decides.
    """
    try:
        # FusionPBX has no global `domain`: USER_DOMAIN names it there (docs/facts/freeswitch.md)
        asked = domain or connection.api("global_getvar domain", CHECK_TIMEOUT).strip()
        if _DOMAIN.fullmatch(asked):
            if connection.api(f"user_exists id {user} {asked}", CHECK_TIMEOUT).strip() == "false":
                return Phone.UNKNOWN
            user = f"{user}@{asked}"
        contact = connection.api(f"sofia_contact {user}", CHECK_TIMEOUT).strip()
    except LinkError:
        return Phone.UNCLEAR

    if contact.startswith("error/"):
        return Phone.ABSENT
    if "sip:" in contact:
        return Phone.REGISTERED
    return Phone.UNCLEAR


class Dialler:
    """Places click-to-calls on the FreeSWITCH where the phone is registered.

    connections: returns those that are up. is_outside: whether a user is a number outside the PBX
    and not a directory user. on_done: called with each call and its outcome.
    """

    def __init__(
        self,
        connections: Callable[[], Sequence[Connection]],
        plan: DialPlan,
        is_outside: Callable[[str], bool],
        on_done: Callable[[Click], None],
    ) -> None:
        self._connections = connections
        self._plan = plan
        self._is_outside = is_outside
        self._on_done = on_done

    def start(self, ext: str, users: Sequence[str], number: str) -> None:
        """Begin a call to the first of an ext's users that can be reached, then to a number.

        Raises DialRefused with the reason if none can be reached, LinkDown if no FreeSWITCH is
        linked.
        """
        connections = self._connections()
        if not connections:
            raise LinkDown("There is no connection to FreeSWITCH.")

        problem = Phone.UNKNOWN
        for user in users:
            connection, found = self._find(connections, user)
            if found in (Phone.REGISTERED, Phone.UNCLEAR):
                click = Click(str(uuid4()), ext, number, "")
                outside = self._is_outside(user)
                command = originate_command(user, number, self._plan, click.callid, outside)
                # Planfix waits for the answer to its click: the phone may ring for 30 s
                gevent.spawn(self._call, connection, click, command)
                return
            if found is Phone.ABSENT:
                problem = Phone.ABSENT

        raise DialRefused(f"Extension {ext} cannot be called: {problem}")

    def _find(self, connections: Sequence[Connection], user: str) -> tuple[Connection, Phone]:
        """Return the FreeSWITCH to call a user through, and what it says about the phone."""
        if self._is_outside(user):
            return connections[0], Phone.REGISTERED

        # all at once: Planfix waits, and each may take CHECK_TIMEOUT
        asked = [
            gevent.spawn(find_phone, connection, user, self._plan.user_domain)
            for connection in connections
        ]
        gevent.joinall(asked)
        answers = list(zip(connections, (job.value or Phone.UNCLEAR for job in asked), strict=True))
        return min(answers, key=lambda answer: _PREFERRED.index(answer[1]))

    def _call(self, connection: Connection, click: Click, command: str) -> None:
        """Place the call and wait for the manager's phone.

        What becomes of the call after that is known from its events.
        """
        try:
            answer = connection.bgapi(command, timeout=RING_TIMEOUT + 10)
        except LinkError as error:
            answer = f"-ERR {error}"

        outcome = ""
        if not answer.startswith("+OK"):
            printable = "".join(char if char.isprintable() else " " for char in answer[:200])
            outcome = printable or "no answer"

        click = Click(click.callid, click.ext, click.number, outcome)
        if outcome:
            log.warning("click_to_call_failed", ext=click.ext, callid=click.callid, reason=outcome)
        else:
            log.info("click_to_call", ext=click.ext, callid=click.callid)

        self._on_done(click)
