"""What `fsplanfix check` asks FreeSWITCH."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from ..errors import LinkError
from ..freeswitch.connection import Connection, Server
from ..freeswitch.dialler import outbound_number, own_domain
from ..settings import Settings
from .check_records import check_module
from .findings import Finding, Grade, listed
from .switch_survey import domains

OLDEST_VERSION = (1, 10, 3)
"""The version of FreeSWITCH that a click needs (freeswitch/originate.py)."""

CLOCKS_APART = 2.0
"""Seconds by which the clocks may differ."""

DOMAIN_COLUMN = 2
"""The column of `list_users` that holds the domain."""

MOST_ASKED = 50
"""Users that are asked about one by one."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}", re.ASCII)
_GATEWAY = re.compile(r"sofia/gateway/([A-Za-z0-9_.-]+)/", re.ASCII)

_RECORDS = re.compile(r'application="record_session"|uuid_record')
"""How a dialplan records the employee's leg of a click. On the client's leg, its execute_on_answer
takes the place of ours."""


def check_freeswitch(settings: Settings, server: Server) -> Iterator[Finding]:
    """Check that FreeSWITCH can be followed, and, where it serves one company, that clicks can
    call."""
    connection = Connection(server, _ignore)
    part = server.name
    clicks = () if settings.accounts_file else OF_CLICKS
    try:
        connection.connect()
        connection.subscribe(["HEARTBEAT"])
        yield Finding(
            "freeswitch.linked", Grade.OK, part, "FreeSWITCH answers and accepts the password"
        )
        for check in (
            _check_version,
            _check_permissions,
            *clicks,
            _check_clock,
            check_module,
        ):
            yield from check(settings, connection)
    except LinkError as error:
        hint = error.hint or "see FREESWITCH_ESL and event_socket.conf.xml"
        yield Finding("freeswitch.unreachable", Grade.BROKEN, part, error.problem, hint)
    finally:
        connection.stop()


def check_clicks(settings: Settings, server: Server) -> Iterator[Finding]:
    """Check that the clicks of one company of several can call."""
    connection = Connection(server, _ignore)
    try:
        connection.connect()
        for check in OF_CLICKS:
            yield from check(settings, connection)
    except LinkError:
        return  # is reported once, for the whole machine
    finally:
        connection.stop()


def _ignore(_: object) -> None:
    """Ignore events: HEARTBEAT is subscribed to only to see that it is allowed."""


def _check_version(_: Settings, connection: Connection) -> Iterator[Finding]:
    found = re.search(r"Version (\d{1,4})\.(\d{1,4})\.(\d{1,4})\b", connection.api("status"))
    version = tuple(int(part) for part in found.groups()) if found else ()
    if version < OLDEST_VERSION:
        what = f"version {'.'.join(map(str, version))}" if version else "its version is unknown"
        hint = "upgrade to 1.10.3 or later: before, a click may call the client first"
        yield Finding("freeswitch.version", Grade.WARNING, connection.server.name, what, hint)


def _check_permissions(_: Settings, connection: Connection) -> Iterator[Finding]:
    # what was missed is found by FreeSWITCH's list of its channels (docs/call-rules.md, rule 16)
    if not connection.api("show channels as json").lstrip().startswith("{"):
        hint = (
            "allow it in the user's esl-allowed-api; "
            "calls of an outage cannot end properly without it"
        )
        what = "`show channels` is not allowed"
        yield Finding(
            "freeswitch.no-show-channels", Grade.BROKEN, connection.server.name, what, hint
        )


def _check_gateways(settings: Settings, connection: Connection) -> Iterator[Finding]:
    part = connection.server.name
    for name, setting in _gateways(settings).items():
        answer = connection.api(f"sofia status gateway {name}")
        state = re.search(r"^State\s+(\S+)", answer, re.MULTILINE)
        up = re.search(r"^Status\s+UP", answer, re.MULTILINE)
        if not state:
            what = f"gateway {name} does not exist"
            hint = f"name yours in {setting}; `sofia status` lists them, FusionPBX's by UUID"
            yield Finding("gateway.unknown", Grade.BROKEN, part, what, hint)
        # NOREG is a gateway that does not register, and works
        elif not up or state[1] not in ("REGED", "NOREG"):
            what = f"gateway {name} is {state[1]}: clicks cannot call clients"
            hint = f"fs_cli -p PASSWORD -x 'sofia status gateway {name}'"
            yield Finding("gateway.down", Grade.BROKEN, part, what, hint)
        else:
            yield Finding("gateway.up", Grade.OK, part, f"gateway {name} is up")


def _gateways(settings: Settings) -> dict[str, str]:
    """Return the gateways that clicks and rings call through, each with the setting that names it.

    With DIAL_CONTEXT the dialplan chooses those of clients; mobiles are still called through ours.
    """
    has_mobiles = any(map(settings.rules().is_outside, settings.extension_aliases))
    if settings.dial_context and not has_mobiles:
        return {}

    strings = [("DIAL_STRING", settings.dial_string)]
    strings += [("DIAL_STRINGS", string) for string in settings.dial_strings.values()]
    named = [(_GATEWAY.match(string), setting) for setting, string in reversed(strings)]
    return {found[1]: setting for found, setting in reversed(named) if found}


def _check_domain(settings: Settings, connection: Connection) -> Iterator[Finding]:
    if settings.user_domain or own_domain(connection) != "":
        return
    what = "USER_DOMAIN is missing, and FreeSWITCH has no domain of its own: clicks find no phone"
    hint = "set it to the domain of your users"
    if found := domains(connection):
        hint += f": {listed(found)}"
    yield Finding("clicks.no-domain", Grade.BROKEN, connection.server.name, what, hint)


def _check_context(settings: Settings, connection: Connection) -> Iterator[Finding]:
    context, part = settings.dial_context, connection.server.name
    if not context or not _SAFE_NAME.fullmatch(context):
        return
    found = connection.api(f"xml_locate dialplan context name {context}")
    if "<context" in found:
        yield Finding("context.found", Grade.OK, part, f"context {context} is in the dialplan")
        if settings.record_clicks and _RECORDS.search(found):
            what = f"clicks may have two recordings: context {context} records, and RECORD_CLICKS"
            hint = "set RECORD_CLICKS=false, or let the context record nothing"
            yield Finding("clicks.recorded-twice", Grade.WARNING, part, what, hint)
    # a dialplan that is not kept in files (FusionPBX) cannot be found this way
    elif "<context" in connection.api("xml_locate dialplan"):
        what = f"context {context} (DIAL_CONTEXT) is not in the dialplan: clicks cannot call"
        hint = "name one of yours; freeswitch-dialplan/50_planfix_click.xml has an example"
        yield Finding("context.unknown", Grade.BROKEN, part, what, hint)


def _check_users(settings: Settings, connection: Connection) -> Iterator[Finding]:
    # FreeSWITCH may forbid the command, and its directory may be elsewhere: then nothing is said
    lines = connection.api("list_users").splitlines()
    if not lines or not lines[0].startswith("userid|"):
        return

    columns = [line.split("|") for line in lines[1:] if line.count("|") > DOMAIN_COLUMN]
    # of several companies each has users of its own
    own = settings.domains or {fields[DOMAIN_COLUMN].lower() for fields in columns}
    domains = {
        fields[0]: fields[DOMAIN_COLUMN]
        for fields in columns
        if fields[DOMAIN_COLUMN].lower() in own
    }
    rules, part = settings.rules(), connection.server.name
    without = [user for user in domains if not rules.ext_for(user)]

    if domains and len(without) == len(domains):
        what = f"EXTENSION_PATTERN matches none of {len(domains)} users"
        hint = "no call window can open; change EXTENSION_PATTERN"
        yield Finding("users.no-ext", Grade.BROKEN, part, what, hint)
        return

    if domains:
        found = f"{len(domains) - len(without)} of {len(domains)} users have an ext"
        yield Finding("users.exts", Grade.OK, part, found)

    yield from _check_caller_ids(settings, connection, sorted(set(domains) - set(without)))

    # who is named in TRUNK_USERS is a gateway and needs no ext
    without = sorted(set(without) - rules.trunk_users)
    if without:
        user = without[0]
        number = _number_alias(connection, user, domains[user])
        hint = f"EXTENSION_ALIASES={user}:{number} gives one; Planfix does not name who has none"
        what = f"users without an ext: {listed(without)}"
        yield Finding("users.without-ext", Grade.WARNING, part, what, hint)


def _check_caller_ids(
    settings: Settings, connection: Connection, users: Sequence[str]
) -> Iterator[Finding]:
    """Report users for whom no number is known that clients may see after a click."""
    if settings.outbound_caller_id:
        return
    asked = [user for user in users if _SAFE_NAME.fullmatch(user)][:MOST_ASKED]
    domain = settings.user_domain
    numberless = [user for user in asked if not outbound_number(connection, user, domain)]
    if numberless:
        what = f"clients see no number after a click of {listed(numberless)}"
        hint = (
            "set OUTBOUND_CALLER_ID to your company's number, or outbound_caller_id_number in "
            "FreeSWITCH's directory; without, it is the line that the client called last"
        )
        yield Finding("clicks.no-caller-id", Grade.WARNING, connection.server.name, what, hint)


def _number_alias(connection: Connection, user: str, domain: str) -> str:
    """Return a user's number in FreeSWITCH's directory, else 107 as an example."""
    # the answer of `list_users` goes into another command
    if not _SAFE_NAME.fullmatch(user) or not _SAFE_NAME.fullmatch(domain):
        return "107"
    answer = connection.api(f"user_data {user}@{domain} attr number-alias").strip()
    if answer.isascii() and answer.isdigit() and len(answer) <= 15:
        return answer
    return "107"


def _check_clock(_: Settings, connection: Connection) -> Iterator[Finding]:
    answer = connection.api("strftime %s").strip()
    if not (answer.isascii() and answer.isdigit()):
        return

    # FreeSWITCH answers in whole seconds: one more may be between two clocks that agree
    apart = int(answer[:12]) - time.time()
    if abs(apart) > CLOCKS_APART + 1:
        hint = "synchronise both clocks (NTP); call windows would be dropped as too old"
        what = f"its clock differs from ours by {apart:+.0f} s"
        yield Finding("freeswitch.clock", Grade.WARNING, connection.server.name, what, hint)


OF_CLICKS = (_check_gateways, _check_context, _check_domain, _check_users)
"""What depends on the settings of one company."""
