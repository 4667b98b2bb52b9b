"""Which users have a phone that could ring, and whose phone is outside: asked of FreeSWITCH."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from uuid import uuid4

import gevent
from cachetools import TTLCache

from ..errors import LinkError
from .connection import Connection
from .events import SwitchEvent

USER = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
"""A directory user as he may stand in a command."""

DOMAIN = re.compile(r"[A-Za-z0-9_.:-]{1,255}", re.ASCII)

REMEMBERED = 60.0
"""Seconds for which a user's dial string is not asked for again."""

TIME_TO_LEARN = 5.0
"""Seconds for a directory whose answer is too late for its call: the next call has it."""

MOST_REMEMBERED = 10_000
"""Users."""

_NO_PHONE = "error/"
"""How `sofia_contact` and `verto_contact` begin if no phone is registered."""

_REGISTERED = re.compile(r"\$\{(?:sofia|verto)_contact\(.*?\)\}", re.DOTALL)
"""The part of a dial string that stands for the phones that are registered."""

_ANOTHER_WAY = re.compile(r"(?:^|[\s,|:>}\]])(?!error/)[a-z_]+/", re.IGNORECASE)
"""A dial string's way to something else: `sofia/gateway/…`, `loopback/…`, `user/…`."""


def absent_users(
    connection: Connection, users: Sequence[str], domain: str, seconds: float
) -> frozenset[str]:
    """Return those of a domain's users who have no phone, none if FreeSWITCH cannot tell.

    domain: "" for FreeSWITCH's own. seconds: for each of two questions at the most. Never raises.
    """
    names, where = _named(users), _where(domain)
    contacts = _ask(connection, [f"sofia_contact({name}@{where})" for name in names], seconds)
    suspects = [
        name
        for name, contact in zip(names, contacts, strict=False)
        if contact.startswith(_NO_PHONE)
    ]
    if not suspects:
        return frozenset()

    # a user may be reached without a registration: by verto, or by a dial string of his own, such
    # as his mobile's. The directory is read for this, so only where it matters.
    questions = [f"user_data({name}@{where} param dial-string)" for name in suspects]
    questions += [f"verto_contact({name}@{where})" for name in suspects]
    found = _ask(connection, questions, seconds)
    if not found:
        return frozenset()
    dial_strings, vertos = found[: len(suspects)], found[len(suspects) :]
    return frozenset(
        name
        for name, dial_string, verto in zip(suspects, dial_strings, vertos, strict=True)
        if not _leads_elsewhere(dial_string) and (not verto or verto.startswith(_NO_PHONE))
    )


def unknown_users(
    connection: Connection, users: Sequence[str], domain: str, seconds: float
) -> frozenset[str]:
    """Return those of whom a domain's directory knows nothing, none if FreeSWITCH cannot tell.

    domain: "" for FreeSWITCH's own. seconds: at the most. Never raises.
    """
    names, where = _named(users), _where(domain)
    answers = _ask(connection, [f"user_exists(id {name} {where})" for name in names], seconds)
    return frozenset(
        name for name, answer in zip(names, answers, strict=False) if answer == "false"
    )


def outside_users(
    connection: Connection, users: Sequence[str], domain: str, seconds: float
) -> frozenset[str]:
    """Return those of a domain's users who are dialled otherwise than by their registered phones.

    What they are shown may go out to a trunk. domain: "" for FreeSWITCH's own. seconds: at the
    most. All of them if FreeSWITCH cannot tell: a trunk must not learn what it may not. Never
    raises.
    """
    told = _told_of(connection, users, domain, seconds)
    return frozenset(user for user in _named(users) if told.get(user, True))


def _told_of(
    connection: Connection, users: Sequence[str], domain: str, seconds: float
) -> dict[str, bool]:
    """Return of users whether they are outside, nothing of any if FreeSWITCH cannot tell."""
    names, where = _named(users), _where(domain)
    questions = [f"user_data({name}@{where} param dial-string)" for name in names]
    dial_strings = _ask(connection, questions, seconds)
    return dict(zip(names, map(_leads_elsewhere, dial_strings), strict=False))


class CallPhones:
    """Asks the FreeSWITCH that a call is on. connections: returns those that are up.

    now: seconds, for how long an answer is remembered.
    """

    def __init__(
        self,
        connections: Callable[[], Sequence[Connection]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._known: TTLCache[tuple[str, str, str], bool] = TTLCache(
            MOST_REMEMBERED, REMEMBERED, now
        )

    def absent(
        self, channel: SwitchEvent, users: Sequence[str], domain: str, seconds: float
    ) -> frozenset[str]:
        """Return which users have no phone. channel: the call's data. See absent_users."""
        connection = self._connection_of(channel)
        return absent_users(connection, users, domain, seconds) if connection else frozenset()

    def unknown(
        self, channel: SwitchEvent, users: Sequence[str], domain: str, seconds: float
    ) -> frozenset[str]:
        """Return which users do not exist. channel: the call's data. See unknown_users."""
        connection = self._connection_of(channel)
        return unknown_users(connection, users, domain, seconds) if connection else frozenset()

    def outside(
        self, channel: SwitchEvent, users: Sequence[str], domain: str, seconds: float
    ) -> frozenset[str]:
        """Return which users may be outside. channel: the call's data. See outside_users."""
        connection = self._connection_of(channel)
        if connection is None:
            return frozenset(_named(users))

        # the directory may be a database or a web server, and it is the same for every call
        found = {user: self._known.get((connection.core, domain, user)) for user in _named(users)}
        unknown = [user for user, is_outside in found.items() if is_outside is None]
        if unknown:
            learning = gevent.spawn(self._learn, connection, unknown, domain)
            learning.join(seconds)
            found |= learning.value or {}
        return frozenset(user for user, is_outside in found.items() if is_outside is not False)

    def _learn(self, connection: Connection, users: Sequence[str], domain: str) -> dict[str, bool]:
        """Return of users whether they are outside, and remember it."""
        told = _told_of(connection, users, domain, TIME_TO_LEARN)
        for user, is_outside in told.items():
            self._known[connection.core, domain, user] = is_outside
        return told

    def _connection_of(self, channel: SwitchEvent) -> Connection | None:
        linked, core = self._connections(), channel.get("Core-UUID")
        asked = [one for one in linked if one.core == core] or linked[: len(linked) == 1]
        return asked[0] if asked else None


def _named(users: Sequence[str]) -> list[str]:
    return [user for user in users if USER.fullmatch(user)]


def _where(domain: str) -> str:
    return domain if DOMAIN.fullmatch(domain) else "${domain}"


def _leads_elsewhere(dial_string: str) -> bool:
    """Tell whether a user's dial string rings something besides his registered phones."""
    rest, registered = _REGISTERED.subn("", dial_string.strip())
    # FusionPBX gives error/user_busy to those who are not to be disturbed
    if registered or rest.startswith(_NO_PHONE):
        return bool(_ANOTHER_WAY.search(rest))
    return bool(rest)


def _ask(connection: Connection, questions: Sequence[str], seconds: float) -> list[str]:
    """Return FreeSWITCH's answers to several API calls, asked in one command; [] without them."""
    if not questions:
        return []

    # a phone chooses what its registration says, so it must not be able to write the separator
    mark = uuid4().hex
    command = "expand echo " + mark.join(f"${{{question}}}" for question in questions)
    try:
        answers = connection.api(command, seconds).rstrip("\n").split(mark)
    except LinkError:
        return []
    return answers if len(answers) == len(questions) else []
