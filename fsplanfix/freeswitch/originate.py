"""The commands of click to call: FreeSWITCH calls the employee's phone first, then the client.

A command is made of users and numbers that were checked to be nothing else, of names without any
sign that means something, and of settings that were checked at the start: there is no way to add a
channel variable, a second leg or another command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DialRefused
from . import tones
from .phones import USER

CLICK_TIMEOUT = 30
"""Seconds the employee's phone rings."""

CLIENT_TIMEOUT = 60
"""Seconds the client's phone rings."""

HIDDEN = "anonymous"
"""What the client sees if no number is known that he may see: never an ext."""

BEFORE_DIGITS = "WW"
"""What send_dtmf takes for a pause of two seconds."""

_NUMBER = re.compile(r"[0-9]{2,15}", re.ASCII)
_DIGITS = re.compile(r"[0-9*#]{0,10}", re.ASCII)
_AS_DIALLED = re.compile(r"[0-9*#]{2,20}", re.ASCII)
_CALLER_ID = re.compile(r"\+?[0-9]{0,15}", re.ASCII)
_SEEN_BY_COLLEAGUE = re.compile(rf"{_CALLER_ID.pattern}|{HIDDEN}", re.ASCII)
_DIAL_STRING = re.compile(r"[A-Za-z0-9_.@:+/-]*\{number\}[A-Za-z0-9_.@:+/-]*", re.ASCII)
_EXT = re.compile(r"[0-9]{1,15}", re.ASCII)
_NAME = re.compile(r"[^'\"\\,={}$\x00-\x1f\x7f]{0,60}")

AUTO_ANSWER = {
    "sip_auto_answer": "true",
    "alert_info": "<http://www.notused.com>;info=alert-autoanswer;delay=0",
}
"""Variables that make a phone answer by itself.

sip_auto_answer makes mod_sofia add `Call-Info: <sip:...>;answer-after=0`, which it then sets itself
(mod_sofia.c); Snom, Yealink, Grandstream and Polycom also know the Alert-Info.
"""

ONLY_WHEN_ANSWERED = {"group_confirm_early_ok": "false"}
"""Variables of the employee's leg: sound that it sends while it rings (183) is no answer.

ignore_early_media would do the same, but the client's leg inherits it, whatever dialplan places
that, and then the employee does not hear the client's network. This one is not inherited
(switch_ivr_originate.c, since 1.10.3).
"""


@dataclass(frozen=True, slots=True)
class DialPlan:
    """How clients are dialled: by a dial string with {number}, or through a dialplan context.

    dial_strings: by ext, where it differs. auto_answer: whether the employee's phone is asked to
    answer by itself. ringback: what the employee hears while the client's phone rings and the
    network sends no sound of its own. click_timeout, client_timeout: seconds that the two phones
    ring. recordings: FreeSWITCH's folder for recordings of clicks, "" if none are made. is_stereo:
    whether each side has a channel of its own in them. account: whose call it is, "" if there is
    one company.
    """

    dial_string: str
    dial_context: str = ""
    user_domain: str = ""
    auto_answer: bool = False
    ringback: str = tones.EUROPEAN
    dial_strings: Mapping[str, str] = field(default_factory=dict)
    click_timeout: int = CLICK_TIMEOUT
    client_timeout: int = CLIENT_TIMEOUT
    recordings: str = ""
    is_stereo: bool = False
    account: str = ""

    def way_out(self, ext: str, number: str) -> str:
        """Return how a number outside is reached for an ext. number: as the trunk takes it."""
        return self.dial_strings.get(ext, self.dial_string).replace("{number}", number)


@dataclass(frozen=True, slots=True)
class Callee:
    """The client of a click.

    number: E.164 digits. digits: what is sent as DTMF after the answer (an extension). name: what
    the employee's phone shows, "" for the number. caller_id: the number the client sees, "" if none
    is known. dialled: the number as the trunk or the dialplan takes it, "" for the number itself.
    """

    number: str
    digits: str = ""
    name: str = ""
    caller_id: str = ""
    dialled: str = ""


@dataclass(frozen=True, slots=True)
class Colleague:
    """The colleague of a click.

    ext: as it was clicked. user: a directory user or, if `is_outside`, a number reached like a
    client's. dialled: that number as the trunk takes it, "" for the number itself. caller_id: what
    he sees, "" for the employee's ext, which nobody outside sees.
    """

    ext: str
    user: str
    is_outside: bool = False
    dialled: str = ""
    caller_id: str = ""


def read_dial_string(value: str) -> str:
    """Return a dial string that cannot hold anything else. Raises ValueError with a sentence."""
    if not _DIAL_STRING.fullmatch(value):
        raise ValueError(
            "write it like sofia/gateway/trunk/{number}, with {number} once and no other brackets."
        )
    return value


def read_dial_strings(value: Any) -> Any:
    """Read `101:sofia/gateway/second/{number}`, several with commas between them.

    Returns dial strings by ext. Raises ValueError with a sentence.
    """
    if not isinstance(value, str):
        return value

    read = {}
    for item in filter(str.strip, value.split(",")):
        ext, _, dial_string = item.strip().partition(":")
        if not _EXT.fullmatch(ext) or not _DIAL_STRING.fullmatch(dial_string):
            raise ValueError("write it like 101:sofia/gateway/second/{number}, by ext.")
        read[ext] = dial_string
    return read


def originate_command(
    ext: str,
    user: str,
    callee: Callee,
    plan: DialPlan,
    uuid: str,
    outside: bool = False,
    user_dialled: str = "",
) -> str:
    """Return the command that calls a user of an ext, and then a client.

    user: a directory user or, if `outside`, a number reached like a client's. user_dialled: that
    number as the trunk takes it, "" for the number itself. Raises DialRefused if a part could be
    anything else.
    """
    dialled = callee.dialled or callee.number
    _check(
        (_NUMBER, callee.number),
        (_AS_DIALLED, dialled),
        (_DIGITS, callee.digits),
        (_NAME, callee.name),
        (_CALLER_ID, callee.caller_id),
    )
    employee = _user(ext, user, plan, outside, user_dialled)

    shown = callee.caller_id or HIDDEN
    of_client = _of_client(callee, plan, uuid)
    # a mobile is reached through the trunk, which must not learn the client's name
    name = callee.number if outside else callee.name or callee.number
    variables = {
        **_of_employee(name, callee.number, plan, uuid),
        "planfix_makecall": "1",
        "planfix_ext": user,
        "planfix_phone": callee.number,
        "effective_caller_id_number": shown,
        "effective_caller_id_name": shown,
    }
    if plan.auto_answer and not outside:
        variables |= AUTO_ANSWER
    if plan.dial_context:
        # the dialplan of the context places the client's leg, with these variables besides its own.
        # What is exported goes before a number that the context sets, so an unknown one is not.
        # Then effective_caller_id_* holds: it goes before the directory's, and a `set` of the
        # context before it (docs/facts/freeswitch.md, "Commands").
        seen = _seen_by_client(shown) if callee.caller_id else {}
        exported = {**seen, **_answered_within(plan), **of_client}
        variables["export_vars"] = r"\,".join(f"nolocal:{name}" for name in exported)
        variables |= {f"nolocal:{name}": value for name, value in exported.items()}

    first = _listed(variables) + employee
    if plan.dial_context:
        return f"originate {first} {dialled} XML {plan.dial_context}"

    second = _listed({**_heard_while_ringing(plan), **_seen_by_client(shown), **of_client})
    return f"originate {first} &bridge({second}{plan.way_out(ext, dialled)})"


def _check(*parts: tuple[re.Pattern[str], str]) -> None:
    """Raise DialRefused if a part of a command could be anything else than it should be."""
    if not all(pattern.fullmatch(part) for pattern, part in parts):
        raise DialRefused("The user or the number cannot be dialled.")


def _user(ext: str, user: str, plan: DialPlan, outside: bool, user_dialled: str) -> str:
    """Return how a user of an ext is called. Raises DialRefused if that could be anything else."""
    user_dialled = user_dialled or user
    if not outside:
        _check((USER, user))
        return f"user/{user}@{plan.user_domain}" if plan.user_domain else f"user/{user}"
    _check((_NUMBER, user), (_AS_DIALLED, user_dialled))
    return plan.way_out(ext, user_dialled)


def originate_inside_command(
    ext: str,
    user: str,
    colleague: Colleague,
    plan: DialPlan,
    uuid: str,
    outside: bool = False,
    user_dialled: str = "",
) -> str:
    """Return the command that calls a user of an ext, and then a colleague.

    user, outside, user_dialled: as for originate_command. Raises DialRefused if a part could be
    anything else.
    """
    _check((USER, ext), (USER, colleague.ext), (_SEEN_BY_COLLEAGUE, colleague.caller_id))
    employee = _user(ext, user, plan, outside, user_dialled)
    called = _user(colleague.ext, colleague.user, plan, colleague.is_outside, colleague.dialled)
    shown = colleague.caller_id or (HIDDEN if colleague.is_outside else ext)
    variables = {
        **_of_employee(colleague.ext, colleague.ext, plan, uuid),
        **_whose(ext, outside),
    }
    if plan.auto_answer and not outside:
        variables |= AUTO_ANSWER

    of_colleague = _whose(colleague.ext, colleague.is_outside)
    second = _listed({**_heard_while_ringing(plan), **_seen_by_client(shown), **of_colleague})
    return f"originate {_listed(variables)}{employee} &bridge({second}{called})"


def _of_employee(name: str, number: str, plan: DialPlan, uuid: str) -> dict[str, str]:
    """Return the variables with which the employee's phone rings, and he waits for the other."""
    return {
        "origination_uuid": uuid,
        "origination_caller_id_number": number,
        "origination_caller_id_name": name,
        "originate_timeout": str(plan.click_timeout),
        "planfix_account": plan.account,
        **ONLY_WHEN_ANSWERED,
        "call_timeout": str(plan.client_timeout),
        # a comma inside a value would end it: FreeSWITCH reads {name=value,name=value}
        "transfer_ringback": plan.ringback.replace(",", r"\,"),
    }


def _whose(ext: str, outside: bool) -> dict[str, str]:
    """Return the variables that tell whose leg it is, where the number dialled may not."""
    return {"planfix_ext": ext} if outside else {}


def _heard_while_ringing(plan: DialPlan) -> dict[str, str]:
    """Return the variables of the second leg with which the employee hears its network."""
    return {"ignore_early_media": "false", **_answered_within(plan)}


def _answered_within(plan: DialPlan) -> dict[str, str]:
    """Return the variables of the second leg that end it if it is not answered.

    FreeSWITCH bridges the two as soon as the network sends sound. call_timeout is over then, so the
    bridge has a timeout of its own.
    """
    return {"bridge_answer_timeout": str(plan.client_timeout)}


def _seen_by_client(number: str) -> dict[str, str]:
    # the name, too: FreeSWITCH would send the employee's along with the number
    return {"origination_caller_id_number": number, "origination_caller_id_name": number}


def _of_client(callee: Callee, plan: DialPlan, uuid: str) -> dict[str, str]:
    """Return what the client's leg does once it is answered."""
    found = {}
    # the employee's leg has answered before, and FreeSWITCH never runs its execute_on_answer. The
    # dialplan's own recording has the same name and takes the place of ours, wherever it puts the
    # file (docs/facts/freeswitch.md, "Recordings").
    if plan.recordings:
        found["execute_on_answer"] = f"record_session {plan.recordings}/{uuid}.wav"
        if plan.is_stereo:
            found["RECORD_STEREO"] = "true"
    if callee.digits:
        found["execute_on_answer_2"] = f"send_dtmf {BEFORE_DIGITS}{callee.digits}"
    return found


def _listed(variables: Mapping[str, str]) -> str:
    """Return {name=value,...} for an API command, whose arguments end at a space."""
    pairs = (f"{name}={value}" for name, value in variables.items() if value)
    return "{" + ",".join(pairs).replace(" ", r"\s") + "}"
