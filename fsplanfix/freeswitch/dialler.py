"""Click to call: finds the phone to ring, and the FreeSWITCH it is registered at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import Protocol
from uuid import uuid4

import gevent
import structlog

from ..errors import DialRefused, LinkDown, LinkError
from .connection import Connection
from .originate import (
    HIDDEN,
    Callee,
    Colleague,
    DialPlan,
    originate_command,
    originate_inside_command,
)
from .phones import absent_users, outside_users

log = structlog.get_logger(__name__)

CHECK_TIMEOUT = 2.0
"""Seconds FreeSWITCH has to say whether a phone is registered; Planfix waits for it."""

AT_ONCE = {
    *("USER_NOT_REGISTERED", "SUBSCRIBER_ABSENT", "NO_ROUTE_DESTINATION", "UNALLOCATED_NUMBER"),
    *("DESTINATION_OUT_OF_ORDER", "NETWORK_OUT_OF_ORDER", "NORMAL_TEMPORARY_FAILURE"),
    *("SERVICE_UNAVAILABLE", "GATEWAY_DOWN", "INVALID_GATEWAY", "CHAN_NOT_IMPLEMENTED"),
    *("INCOMPATIBLE_DESTINATION", "FACILITY_NOT_IMPLEMENTED", "SERVICE_NOT_IMPLEMENTED"),
    *("INTERWORKING", "EXCHANGE_ROUTING_ERROR", "NUMBER_CHANGED", "INVALID_NUMBER_FORMAT"),
    "INVALID_PROFILE",
}
"""Causes for which no phone has rung, so the employee's next one is tried.

Not those by which somebody declines: phones send 480 (NO_USER_RESPONSE) and 486 for that, too.
"""

_DOMAIN = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}", re.ASCII)
_CAUSE = re.compile(r"-ERR ([A-Z_]{3,40})\b", re.ASCII)
# as long as an outside number: a client must never see an ext
_CALLER_ID = re.compile(r"\+?[0-9]{7,15}", re.ASCII)


class Phone(StrEnum):
    """What FreeSWITCH says about a user's phone.

    UNCLEAR: FreeSWITCH cannot tell, or knows another way than a registered phone, so it is dialled.
    HOMELESS: nobody can be looked up.
    """

    REGISTERED = "registered"
    UNCLEAR = "unclear"
    HOMELESS = "FreeSWITCH has no domain of its own; set USER_DOMAIN to the domain of your users"
    ABSENT = "no phone is registered"
    UNKNOWN = "FreeSWITCH's directory has no such user"


_PREFERRED = tuple(Phone)
"""Of several FreeSWITCHes, the one whose answer stands first is called through. Of several reasons
why nobody can be called, the first is told."""


@dataclass(frozen=True, slots=True)
class Click:
    """A click-to-call.

    outcome: "" if the employee answered, else FreeSWITCH's words.
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


Written = Callable[[Connection, str, str], str]
"""Takes a FreeSWITCH, a user of the employee and the callid; returns the command that calls him.

Raises DialRefused.
"""


class Clients(Protocol):
    """What is known of clients."""

    def name_of(self, number: str, callid: str) -> str:
        """Return a client's name for a phone's display, "" if it is not known at once."""

    def last_line_of(self, number: str) -> str:
        """Return the line that a client called last, "" if none is known."""


class Dialler:
    """Places click-to-calls on the FreeSWITCH where the phone is registered.

    connections: returns those that are up. is_outside: whether a user is a number outside the PBX
    and not a directory user. caller_id: what clients see, "" if that depends on the employee.
    on_done: called with each call and its outcome. as_dialled: returns a number (E.164 digits) as
    the trunk or the dialplan takes it.
    """

    def __init__(
        self,
        connections: Callable[[], Sequence[Connection]],
        plan: DialPlan,
        caller_id: str,
        clients: Clients,
        is_outside: Callable[[str], bool],
        on_done: Callable[[Click], None],
        as_dialled: Callable[[str], str] = lambda number: number,
    ) -> None:
        self._connections = connections
        self._plan = plan
        self._caller_id = caller_id
        self._clients = clients
        self._is_outside = is_outside
        self._on_done = on_done
        self._as_dialled = as_dialled

    def start(self, ext: str, users: Sequence[str], number: str, digits: str = "") -> None:
        """Begin a call to the first of an ext's users that can be reached, then to a client.

        number: E.164 digits. digits: an extension, sent as DTMF after the answer. Raises
        DialRefused with the reason if no user can be reached, LinkDown if no FreeSWITCH is linked.
        """
        phones = self._reachable(ext, users)
        first = next(phones)
        callee = Callee(number, digits, dialled=self._as_dialled(number))
        # Planfix waits for the answer to its click: the phone may ring for 30 s
        gevent.spawn(self._call_client, ext, chain([first], phones), callee)

    def start_inside(
        self, ext: str, users: Sequence[str], dialled: str, colleagues: Sequence[str]
    ) -> None:
        """Begin a call to the first of an ext's users that can be reached, then to a colleague.

        dialled: the colleague's ext. colleagues: its users; a mobile is rung through the trunk if
        no directory user has a phone. Raises what `start` raises, also if the colleague cannot be
        reached.
        """
        inside_first = sorted(colleagues, key=self._is_outside)
        where, colleague = next(self._reachable(dialled, inside_first))
        # one FreeSWITCH cannot ring what is registered at another, but each has the trunk
        is_outside = self._is_outside(colleague)
        phones = self._reachable(ext, users, () if is_outside else [where])
        try:
            first = next(phones)
        except DialRefused:
            next(self._reachable(ext, users))
            raise DialRefused(
                f"Extension {dialled} cannot be called: it is at another FreeSWITCH than {ext}"
            ) from None

        def written(connection: Connection, user: str, callid: str) -> str:
            seen = ""
            if is_outside or self._is_behind_a_trunk(connection, colleague):
                seen = self._number_of(connection, ext, user) or HIDDEN
            to = Colleague(dialled, colleague, *self._way_to(colleague), seen)
            return originate_inside_command(
                *(ext, user, to, self._plan, callid), *self._way_to(user)
            )

        click = Click(str(uuid4()), ext, dialled, "")
        gevent.spawn(self._place, click, chain([first], phones), written)

    def _reachable(
        self, ext: str, users: Sequence[str], connections: Sequence[Connection] = ()
    ) -> Iterator[tuple[Connection, str]]:
        """Yield the users of an ext that can be reached, each with its FreeSWITCH.

        connections: those to ask, none for all. Raises DialRefused if there is no such user.
        """
        connections = connections or self._connections()
        if not connections:
            raise LinkDown("There is no connection to FreeSWITCH.")

        best = Phone.UNKNOWN
        for user in users:
            connection, found = self._find(connections, user)
            best = min(best, found, key=_PREFERRED.index)
            if found in (Phone.REGISTERED, Phone.UNCLEAR):
                yield connection, user

        if best not in (Phone.REGISTERED, Phone.UNCLEAR):
            raise DialRefused(f"Extension {ext} cannot be called: {best}")

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

    def _call_client(
        self, ext: str, phones: Iterator[tuple[Connection, str]], callee: Callee
    ) -> None:
        """Place the call to a client, whose name the employee's phone shows."""
        click = Click(str(uuid4()), ext, callee.number, "")
        name = self._clients.name_of(callee.number, click.callid)

        def written(connection: Connection, user: str, callid: str) -> str:
            # a trunk must not learn the name
            shown = "" if name and self._is_behind_a_trunk(connection, user) else name
            seen = self._number_of(connection, ext, user)
            seen = seen or self._clients.last_line_of(callee.number)
            return originate_command(
                *(ext, user, replace(callee, name=shown, caller_id=seen), self._plan, callid),
                *self._way_to(user),
            )

        self._place(click, phones, written)

    def _place(
        self, click: Click, phones: Iterator[tuple[Connection, str]], written: Written
    ) -> None:
        """Place a call, through the employee's next phone where one fails at once.

        What becomes of the call after that is known from its events.
        """
        for connection, user in phones:
            try:
                command = written(connection, user, click.callid)
            except DialRefused as problem:
                # Planfix has its answer already; the journal and `explain` still get theirs
                done = replace(click, outcome=f"-ERR {problem}")
                break
            done = self._call(connection, click, command)
            if done.cause not in AT_ONCE:
                break
            # FreeSWITCH may still know the leg that has failed
            click = replace(click, callid=str(uuid4()))

        self._finish(done)

    def _way_to(self, user: str) -> tuple[bool, str]:
        """Return whether a user is outside, and his number as the trunk takes it."""
        return (True, self._as_dialled(user)) if self._is_outside(user) else (False, "")

    def _is_behind_a_trunk(self, connection: Connection, user: str) -> bool:
        """Tell whether a directory user may be reached otherwise than by his registered phones."""
        return bool(outside_users(connection, [user], self._plan.user_domain, CHECK_TIMEOUT))

    def _number_of(self, connection: Connection, ext: str, user: str) -> str:
        """Return the number that an employee shows outside: ours, his own, or ""."""
        if self._caller_id:
            return self._caller_id
        # a mobile shows the number of its employee, whom the directory knows by the ext
        owner = ext if self._is_outside(user) else user
        return outbound_number(connection, owner, self._plan.user_domain)

    def _call(self, connection: Connection, click: Click, command: str) -> Click:
        """Place the call and wait for the employee's phone."""
        try:
            answer = connection.bgapi(command, timeout=self._plan.click_timeout + 10)
        except LinkError as error:
            answer = f"-ERR {error}"

        if answer.startswith("+OK"):
            return click
        printable = "".join(char if char.isprintable() else " " for char in answer[:200])
        return replace(click, outcome=printable or "no answer")

    def _finish(self, click: Click) -> None:
        about = {"ext": click.ext, "phone": click.number, "callid": click.callid}
        if click.outcome:
            log.warning("click_to_call_failed", **about, reason=click.outcome)
        else:
            log.info("click_to_call", **about)

        self._on_done(click)


def own_domain(connection: Connection) -> str | None:
    """Return FreeSWITCH's own domain, "" if it has none, None if it does not tell.

    Raises LinkError.
    """
    answer = connection.api("global_getvar domain", CHECK_TIMEOUT).strip()
    # FusionPBX has none: USER_DOMAIN names it there (docs/facts/freeswitch.md)
    if answer in ("", "-ERR no reply"):
        return ""
    return answer if _DOMAIN.fullmatch(answer) else None


def find_phone(connection: Connection, user: str, domain: str) -> Phone:
    """Ask a FreeSWITCH about a user's phone; never raises.

    `sofia_contact` answers `error/user_not_registered`, `user_exists` true or false, and takes no
    user without a domain (mod_commands.c). If FreeSWITCH answers neither, the originate decides.
    """
    try:
        asked = domain or own_domain(connection)
        if asked and (
            connection.api(f"user_exists id {user} {asked}", CHECK_TIMEOUT).strip() == "false"
        ):
            return Phone.UNKNOWN
        where = f"{user}@{asked}" if asked else user
        contact = connection.api(f"sofia_contact {where}", CHECK_TIMEOUT).strip()
    except LinkError:
        return Phone.UNCLEAR

    found = Phone.REGISTERED if "sip:" in contact else Phone.UNCLEAR
    if contact.startswith("error/"):
        if asked == "":
            found = Phone.HOMELESS
        elif absent_users(connection, [user], asked or "", CHECK_TIMEOUT):
            found = Phone.ABSENT
    return found


def outbound_number(connection: Connection, user: str, domain: str) -> str:
    """Return the number that a directory user shows outside, "" if he has none; never raises.

    It is his `outbound_caller_id_number`, which FreeSWITCH's and FusionPBX's directories know.
    """
    try:
        asked = domain or own_domain(connection)
        if not asked:
            return ""
        question = f"user_data {user}@{asked} var outbound_caller_id_number"
        number = connection.api(question, CHECK_TIMEOUT).strip()
    except LinkError:
        return ""

    # vanilla's directory gives everybody 0000000000 until somebody changes it
    if not _CALLER_ID.fullmatch(number) or not number.strip("+0"):
        return ""
    return number
