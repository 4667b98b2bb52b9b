"""What FreeSWITCH says about itself, and what follows for our settings: for `fsplanfix init`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import LinkError, LoginRefused
from ..freeswitch.connection import Connection, Server
from .findings import MOST_NAMES, listed, short

CLICK_CONTEXT = "planfix_click"
"""The context in freeswitch-dialplan/50_planfix_click.xml."""

USUAL_EXT = re.compile(r"\d{2,5}", re.ASCII)
LONGEST_EXT = 7
"""Digits; a user with more is called by a phone number."""

WORKING = ("REGED", "NOREG")
"""States of a gateway that can call; NOREG is one that does not register."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}", re.ASCII)
_GATEWAY = re.compile(r"^\s*\S+::(\S+)\s+gateway\s+\S+\s+(\S+)", re.MULTILINE)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    password: the one that FreeSWITCH accepted. domain: its own, "" if it has none. users: with
    their domains; only those with a phone if the directory cannot be listed. gateways: states, by
    name. recordings: its folder of recordings, "" if unknown.
    """

    password: str
    version: str
    domain: str
    users: tuple[tuple[str, str], ...]
    gateways: dict[str, str]
    recordings: str
    has_click_context: bool

    @property
    def is_fusionpbx(self) -> bool:
        """Return whether this is FusionPBX, or set up like it: several companies' domains."""
        # it names gateways by UUID and has no domain of its own (docs/facts/freeswitch.md)
        return not self.domain and any(_UUID.fullmatch(name) for name in self.gateways)

    @property
    def domains(self) -> list[str]:
        """Return the domains of the users, the one with the most users first."""
        return _domains(self.users)

    def sentences(self) -> list[str]:
        """Return what was found, in words."""
        kind = " with FusionPBX" if self.is_fusionpbx else ""
        users = sorted({user for user, _ in self.users})
        gateways = [f"{short(n)} ({short(state)})" for n, state in self.gateways.items()]
        return [
            f"FreeSWITCH {self.version}{kind} accepts the password.",
            f"Its users: {listed(users) or 'none found'}.",
            f"Their domains: {listed(self.domains) or 'none found'}.",
            f"Its gateways: {', '.join(gateways[:MOST_NAMES]) or 'none; clicks need one'}.",
        ]

    def proposals(self) -> dict[str, str]:
        """Return answers to the questions of `init`, by option, where FreeSWITCH has any."""
        domain = self.domains[0] if self.domains else ""
        proposed = {"extension_pattern": self._pattern()}
        if self.recordings.startswith("/") and len(self.recordings) > 1:
            proposed["recordings_dir"] = self.recordings
        if not self.domain:
            proposed["user_domain"] = domain

        if self.has_click_context:
            proposed["dial_context"] = CLICK_CONTEXT
        elif self.is_fusionpbx:
            # the dialplan of a company is the context that is called like its domain
            proposed["dial_context"] = domain

        names = [name for name in self.gateways if _SAFE_NAME.fullmatch(name)]
        working = [name for name in names if self.gateways[name] in WORKING]
        if names:
            proposed["dial_string"] = f"sofia/gateway/{(working or names)[0]}/{{number}}"
        return proposed

    def _pattern(self) -> str:
        """Return a pattern for the users that are numbers, "" if the default has all of them."""
        exts = [user for user, _ in self.users if user.isdecimal() and len(user) <= LONGEST_EXT]
        if all(USUAL_EXT.fullmatch(ext) for ext in exts):
            return ""
        lengths = [len(ext) for ext in exts]
        return rf"^\d{{{min(lengths)},{max(lengths)}}}$"


def survey(host: str, port: int, passwords: Sequence[str]) -> Survey:
    """Ask a FreeSWITCH about itself. passwords: tried in turn. Raises LinkError."""
    for n, password in enumerate(passwords, 1):
        connection = Connection(Server(host, port, password), lambda _: None)
        try:
            connection.connect()
            return _survey(connection, password)
        except LoginRefused:
            if n == len(passwords):
                raise
        finally:
            connection.stop()
    raise LinkError("There is no password to try.")


def _survey(connection: Connection, password: str) -> Survey:
    version = re.search(r"Version (\d[\d.]*)", connection.api("status"))
    click = connection.api(f"xml_locate dialplan context name {CLICK_CONTEXT}")
    return Survey(
        password=password,
        version=version[1] if version else "",
        domain=_global(connection, "domain"),
        users=_users(connection),
        gateways=dict(_GATEWAY.findall(connection.api("sofia status"))),
        recordings=_global(connection, "recordings_dir"),
        has_click_context="<context" in click,
    )


def domains(connection: Connection) -> list[str]:
    """Return the domains of the users, as far as FreeSWITCH can tell; the most users first."""
    return _domains(_users(connection))


def _domains(users: Sequence[tuple[str, str]]) -> list[str]:
    counted = Counter(domain for _, domain in users if _SAFE_NAME.fullmatch(domain))
    return [domain for domain, _ in counted.most_common()]


def _global(connection: Connection, name: str) -> str:
    answer = connection.api(f"global_getvar {name}").strip()
    # a variable that is not set is `-ERR no reply`
    return "" if answer.startswith("-ERR") or not answer.isprintable() else answer


def _users(connection: Connection) -> tuple[tuple[str, str], ...]:
    """Return the users and their domains, as far as FreeSWITCH can tell."""
    head, *rows = connection.api("list_users").splitlines() or [""]
    if head.startswith("userid|"):
        columns = [row.split("|") for row in rows if row.count("|") > 2]
        # a user of several groups has several rows
        if found := {(fields[0], fields[2]) for fields in columns}:
            return tuple(sorted(found))

    # FusionPBX keeps its directory in a database, and that cannot be listed
    try:
        shown = json.loads(connection.api("show registrations as json"))
        rows_shown = shown.get("rows", [])
        return tuple(sorted({(str(row["reg_user"]), str(row["realm"])) for row in rows_shown}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()
