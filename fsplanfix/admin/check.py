"""`fsplanfix check`: examines the installation and changes nothing.

Each finding is one line with a hint.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from ..calls.doubts import DOUBTS
from ..errors import LinkError, StoreError, TransportError
from ..freeswitch.link import Connection, Server
from ..freeswitch.socket_app import is_answering
from ..outbox.facts import SET_ASIDE
from ..outbox.signing_keys import signing_keys
from ..outbox.store import Store
from ..planfix.api import PlanfixApi
from ..recordings.files import TYPES
from ..recordings.urls import RecordingUrls
from ..settings import Settings
from ..settings_file import UnknownName
from .probes import days_left, fetch

LONGEST_WAIT = 10.0
"""Seconds that Planfix, or our own address, may take to answer."""

NO_NUMBER = "70000000000"
"""A number that no client can have."""

SHORT_CERTIFICATE = 14
"""Days before its end at which a certificate is reported."""

OLDEST_VERSION = (1, 10, 3)
"""The version of FreeSWITCH that a click needs (freeswitch/originate.py)."""

CLOCKS_APART = 2.0
"""Seconds by which the clocks may differ."""

DOMAIN_COLUMN = 2
"""The column of `list_users` that holds the domain."""

MOST_NAMES = 5
"""Names in one line of the check."""

DEFAULT_PASSWORD = "ClueCon"  # noqa: S105 - FreeSWITCH's own, known to everybody

_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}", re.ASCII)


class Grade(IntEnum):
    """How bad a finding is. The worst one is the exit code of `check`."""

    OK = 0
    WARNING = 1
    BROKEN = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check.

    hint: how to fix it, "" if there is nothing to do.
    """

    grade: Grade
    part: str
    what: str
    hint: str = ""

    @property
    def mark(self) -> str:
        """Return ✓, ! or ✗."""
        return "✓!✗"[self.grade]


def check_all(
    settings: Settings, env_file: Path | None, unknown: Sequence[UnknownName] = ()
) -> Iterator[Finding]:
    """Check every part; leave out what cannot be checked because another part is broken.

    env_file: where settings were read from, if not only from the environment. unknown: the names
    in it that are not settings.
    """
    yield from _check_settings(settings, env_file, unknown)
    keys: list[str] = []
    try:
        with closing(Store(settings.store_url)) as store:
            store.facts.swap("last_check", str(int(time.time())))
            keys = _signing_keys(store, settings)
            doubts = list(_check_doubts(settings, store))
        yield Finding(Grade.OK, "store", "can be written")
        yield from doubts
    except StoreError as error:
        yield Finding(Grade.BROKEN, "store", str(error), "see STORE_URL")

    for server in settings.freeswitch_esl:
        yield from _check_freeswitch(settings, server)

    yield from _check_socket_app(settings)
    yield from _check_recordings(settings, keys)
    yield from check_planfix(settings)


def _check_settings(
    settings: Settings, env_file: Path | None, unknown: Sequence[UnknownName]
) -> Iterator[Finding]:
    part, sound = "settings", True
    for name in unknown:
        sound = False
        yield Finding(Grade.WARNING, part, f"{name.name} in {env_file} is not a setting", name.hint)

    if env_file and env_file.exists() and stat.S_IMODE(env_file.stat().st_mode) & 0o077:
        sound = False
        yield Finding(
            Grade.WARNING, part, f"{env_file} can be read by others", f"chmod 600 {env_file}"
        )

    if len(settings.pbx_token.get_secret_value()) < 16:
        sound = False
        yield Finding(
            Grade.WARNING,
            part,
            "PBX_TOKEN is short enough to be guessed",
            "generate a longer one: openssl rand -hex 16",
        )

    if any(server.password == DEFAULT_PASSWORD for server in settings.freeswitch_esl):
        sound = False
        yield Finding(
            Grade.WARNING,
            part,
            "the event socket still uses the default password (ClueCon)",
            "set a new one in event_socket.conf.xml and FREESWITCH_ESL",
        )

    if settings.public_url is None:
        sound = False
        yield Finding(
            Grade.WARNING,
            part,
            "PUBLIC_URL is missing: Planfix cannot reach us",
            "set it to the https address of this service",
        )

    if sound:
        yield Finding(Grade.OK, part, "complete")


def _signing_keys(store: Store, settings: Settings) -> list[str]:
    given, older = settings.secret_key, settings.secret_key_old
    return signing_keys(store, given.get_secret_value(), older.get_secret_value())


def _check_doubts(settings: Settings, store: Store) -> Iterator[Finding]:
    """Report what the service has noted: events set aside, and users that seem to be gateways."""
    aside = json.loads(store.facts.get(SET_ASIDE) or "{}")
    if aside:
        last, reason = _printable(aside["event"]), _printable(aside["reason"])
        what = f"{aside['count']} events could not be processed, the last: {last}"
        hint = f"please report it, with the event_set_aside line of the log ({reason})"
        yield Finding(Grade.WARNING, "events", what, hint)

    noted = json.loads(store.facts.get(DOUBTS) or "{}")
    users = sorted(set(noted.get("users", [])) - settings.trunk_users)
    gateways = sorted(set(noted.get("gateways", [])) - settings.house_gateways)
    if users:
        hint = f"if they are gateways, set TRUNK_USERS={_printable(users[0])}"
        yield Finding(
            Grade.WARNING, "users", f"they show many callers' numbers: {_listed(users)}", hint
        )

    if gateways:
        hint = f"if they lead to colleagues, set HOUSE_GATEWAYS={_printable(gateways[0])}"
        yield Finding(
            Grade.WARNING, "gateways", f"exts are dialled through them: {_listed(gateways)}", hint
        )


# FreeSWITCH


def _check_freeswitch(settings: Settings, server: Server) -> Iterator[Finding]:
    connection = Connection(server, _ignore)
    part = server.name
    try:
        connection.connect()
        connection.subscribe(["HEARTBEAT"])
        yield Finding(Grade.OK, part, "FreeSWITCH answers and accepts the password")
        for check in (
            _check_version,
            _check_permissions,
            _check_gateway,
            _check_users,
            _check_clock,
        ):
            yield from check(settings, connection)
    except LinkError as error:
        yield Finding(
            Grade.BROKEN, part, str(error), "see FREESWITCH_ESL and event_socket.conf.xml"
        )
    finally:
        connection.stop()


def _ignore(_: object) -> None:
    """Ignore events: HEARTBEAT is subscribed to only to see that it is allowed."""


def _check_version(_: Settings, connection: Connection) -> Iterator[Finding]:
    found = re.search(r"Version (\d+)\.(\d+)\.(\d+)", connection.api("status"))
    version = tuple(int(part) for part in found.groups()) if found else ()
    if version < OLDEST_VERSION:
        what = f"version {'.'.join(map(str, version))}" if version else "its version is unknown"
        hint = "upgrade to 1.10.3 or later: before, a click may call the client first"
        yield Finding(Grade.WARNING, connection.server.name, what, hint)


def _check_permissions(_: Settings, connection: Connection) -> Iterator[Finding]:
    # what was missed is found by FreeSWITCH's list of its channels (docs/call-rules.md, rule 16)
    if not connection.api("show channels as json").lstrip().startswith("{"):
        hint = (
            "allow it in the user's esl-allowed-api; "
            "calls of an outage cannot end properly without it"
        )
        yield Finding(Grade.BROKEN, connection.server.name, "`show channels` is not allowed", hint)


def _check_gateway(settings: Settings, connection: Connection) -> Iterator[Finding]:
    # with DIAL_CONTEXT the dialplan chooses the gateway
    found = re.match(r"sofia/gateway/([A-Za-z0-9_.-]+)/", settings.dial_string)
    if settings.dial_context or not found:
        return

    answer, part = connection.api(f"sofia status gateway {found[1]}"), connection.server.name
    state = re.search(r"^State\s+(\S+)", answer, re.MULTILINE)
    up = re.search(r"^Status\s+UP", answer, re.MULTILINE)
    if not state:
        yield Finding(
            Grade.BROKEN, part, f"gateway {found[1]} does not exist", "name yours in DIAL_STRING"
        )
    # NOREG is a gateway that does not register, and works
    elif not up or state[1] not in ("REGED", "NOREG"):
        hint = f"fs_cli -x 'sofia status gateway {found[1]}'"
        yield Finding(
            Grade.BROKEN,
            part,
            f"gateway {found[1]} is {state[1]}: clicks cannot call clients",
            hint,
        )
    else:
        yield Finding(Grade.OK, part, f"gateway {found[1]} is up")


def _check_users(settings: Settings, connection: Connection) -> Iterator[Finding]:
    # FreeSWITCH may forbid the command, and its directory may be elsewhere: then nothing is said
    lines = connection.api("list_users").splitlines()
    if not lines or not lines[0].startswith("userid|"):
        return

    columns = [line.split("|") for line in lines[1:] if line.count("|") > DOMAIN_COLUMN]
    domains = {fields[0]: fields[DOMAIN_COLUMN] for fields in columns}
    rules, part = settings.rules(), connection.server.name
    without = [user for user in domains if not rules.ext_for(user)]

    if domains and len(without) == len(domains):
        what = f"EXTENSION_PATTERN matches none of {len(domains)} users"
        yield Finding(Grade.BROKEN, part, what, "no call window can open; change EXTENSION_PATTERN")
        return

    if domains:
        found = f"{len(domains) - len(without)} of {len(domains)} users have an ext"
        yield Finding(Grade.OK, part, found)

    # who is named in TRUNK_USERS is a gateway and needs no ext
    without = sorted(set(without) - rules.trunk_users)
    if without:
        user = without[0]
        number = _number_alias(connection, user, domains[user])
        hint = f"EXTENSION_ALIASES={user}:{number} gives one; Planfix does not name who has none"
        yield Finding(Grade.WARNING, part, f"users without an ext: {_listed(without)}", hint)


def _number_alias(connection: Connection, user: str, domain: str) -> str:
    """Return a user's number in FreeSWITCH's directory, else 107 as an example."""
    # the answer of `list_users` goes into another command
    if not _SAFE_NAME.fullmatch(user) or not _SAFE_NAME.fullmatch(domain):
        return "107"
    answer = connection.api(f"user_data {user}@{domain} attr number-alias").strip()
    if answer.isascii() and answer.isdigit() and len(answer) <= 15:
        return answer
    return "107"


def _listed(names: list[str]) -> str:
    """Return names for one line, the first MOST_NAMES if there are more."""
    shown = [_printable(name) for name in names[:MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _printable(text: str) -> str:
    return "".join(char for char in text[:40] if char.isprintable())


def _check_clock(_: Settings, connection: Connection) -> Iterator[Finding]:
    answer = connection.api("strftime %s").strip()
    if not (answer.isascii() and answer.isdigit()):
        return

    # FreeSWITCH answers in whole seconds: one more may be between two clocks that agree
    apart = int(answer[:12]) - time.time()
    if abs(apart) > CLOCKS_APART + 1:
        hint = "synchronise both clocks (NTP); call windows would be dropped as too old"
        yield Finding(
            Grade.WARNING,
            connection.server.name,
            f"its clock differs from ours by {apart:+.0f} s",
            hint,
        )


def _check_socket_app(settings: Settings) -> Iterator[Finding]:
    if is_answering(*settings.esl_listen):
        yield Finding(Grade.OK, "socket", f"answers the dialplan at {settings.esl_listen}")
    else:
        hint = "is `fsplanfix run` running? Without it, phones show no names"
        yield Finding(
            Grade.WARNING, "socket", f"nothing listens at {settings.esl_listen} (ESL_LISTEN)", hint
        )


# recordings


def _check_recordings(settings: Settings, keys: list[str]) -> Iterator[Finding]:
    folder, part = settings.recordings_dir, "recordings"
    try:
        newest = max(_sound_files(folder), key=lambda entry: entry.stat().st_mtime, default=None)
        if newest is not None:
            newest.open("rb").close()
    except OSError as error:
        hint = "set RECORDINGS_DIR and let our user read it: adduser fsplanfix freeswitch"
        yield Finding(
            Grade.BROKEN, part, f"{error.filename} cannot be read ({error.strerror})", hint
        )
        return

    if newest is None:
        yield Finding(
            Grade.WARNING,
            part,
            f"{folder} holds none yet",
            "freeswitch-dialplan/ shows how to record calls",
        )
        return

    yield Finding(Grade.OK, part, f"{folder} can be read")
    if keys and settings.public_url and not settings.recordings_url:
        yield from _fetch_from_outside(settings, keys, newest)


def _sound_files(folder: Path) -> Iterator[Path]:
    """Yield up to a thousand sound files: in a large archive any of them will do."""
    # raises OSError, where os.walk passes over a folder that cannot be read
    os.listdir(folder)
    found = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    sounds = (
        file
        for file in found
        if file.suffix.lower() in TYPES and file.is_file() and not file.is_symlink()
    )
    for _, file in zip(range(1000), sounds, strict=False):
        yield file


def _fetch_from_outside(settings: Settings, keys: list[str], file: Path) -> Iterator[Finding]:
    """Fetch a recording the way Planfix does."""
    link = RecordingUrls(settings.public_url or "", keys).url("check", str(file))
    try:
        code, size = fetch(link, LONGEST_WAIT)
    except TransportError as error:
        hint = f"does the web server in front forward /recordings/ to {settings.http_listen}?"
        yield Finding(Grade.BROKEN, "recordings", f"through PUBLIC_URL: {error}", hint)
        return

    if code == 200 and size == file.stat().st_size:
        yield Finding(Grade.OK, "recordings", "one was fetched through PUBLIC_URL")
    else:
        hint = (
            f"the web server in front must forward /recordings/ to {settings.http_listen}, "
            "where `fsplanfix run` listens"
        )
        yield Finding(Grade.BROKEN, "recordings", f"PUBLIC_URL answers {code}", hint)


# Planfix


def check_planfix(settings: Settings) -> Iterator[Finding]:
    """Check that Planfix accepts our token and has our address (docs/facts/planfix.md)."""
    yield from _check_certificates(settings)
    client = PlanfixApi(settings.planfix_url, settings.planfix_token.get_secret_value(), 1)
    try:
        known = client.ask({"cmd": "ping"}, LONGEST_WAIT)
    except TransportError as error:
        yield _ask_without_ping(client, error)
        return
    finally:
        client.close()

    yield Finding(Grade.OK, "Planfix", "reachable, token accepted")
    yield from _check_agreement(settings, known)


def _ask_without_ping(client: PlanfixApi, error: TransportError) -> Finding:
    """Ask for a contact instead: Planfix of before 2025 does not know `ping`."""
    if error.permanent:
        try:
            client.ask({"cmd": "contact", "phone": NO_NUMBER}, LONGEST_WAIT)
        except TransportError as second:
            error = second
        else:
            return Finding(
                Grade.OK, "Planfix", "reachable, token accepted (it does not know `ping`)"
            )

    hint = "is PLANFIX_URL right?"
    if error.unauthorized:
        hint = "put the token that Planfix shows into PLANFIX_TOKEN"
    return Finding(Grade.BROKEN, "Planfix", str(error), hint)


def _check_agreement(settings: Settings, known: dict[str, object]) -> Iterator[Finding]:
    """Compare the key and the address that Planfix uses with ours."""
    token, url = str(known.get("pbxToken", "")), str(known.get("pbxUrl", ""))
    # what is compared may be secret, so the time must not tell how much of it is right
    if not hmac.compare_digest(
        token.encode("utf-8", "replace"), settings.pbx_token.get_secret_value().encode()
    ):
        yield Finding(
            Grade.BROKEN,
            "Planfix",
            "holds another PBX key",
            "enter PBX_TOKEN in Planfix as the PBX key",
        )

    ours = f"{(settings.public_url or f'http://{settings.http_listen}').rstrip('/')}/planfix"
    if url.rstrip("/") != ours:
        shown = "".join(char for char in url[:100] if char.isprintable())
        hint = f"enter {ours} in Planfix, or fix PUBLIC_URL"
        yield Finding(Grade.WARNING, "Planfix", f"sends clicks to {shown or 'nowhere'}", hint)


def _check_certificates(settings: Settings) -> Iterator[Finding]:
    """Check how long certificates last. One that is not trusted fails every request anyway."""
    for name, url in (("PLANFIX_URL", settings.planfix_url), ("PUBLIC_URL", settings.public_url)):
        days = days_left(url, LONGEST_WAIT) if url else None
        if days is not None:
            hint = "renew it" if name == "PUBLIC_URL" else "is this Planfix?"
            what = f"its certificate is valid for {days:.0f} more days"
            if days < SHORT_CERTIFICATE:
                yield Finding(Grade.WARNING, name, what, hint)
            else:
                yield Finding(Grade.OK, name, what)
