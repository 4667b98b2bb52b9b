"""`fsplanfix check`: examines the installation, and proves the store by a note in it.

Each finding is one line with a hint.
"""

from __future__ import annotations

import json
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from ..calls.doubts import DOUBTS
from ..calls.model import ACCOUNT, Windows
from ..calls.unclaimed import UNCLAIMED
from ..calls.whose import unclaimed_by
from ..errors import SettingsError, StoreError
from ..outbox.archive import Archive
from ..outbox.facts import SET_ASIDE, fact_and_account
from ..outbox.queue import Queue
from ..outbox.signing_keys import signing_keys
from ..outbox.store import Store
from ..outbox.trouble import BUCKET_PROBLEM, bucket_problem
from ..planfix.pairing import Partner, stored_partner
from ..settings import Settings
from ..settings.accounts import Accounts
from ..settings_file import UnknownName
from ..web.tls import certificate
from .check_accounts import check_accounts, check_key, of_account
from .check_alerts import check_alerts
from .check_bucket import check_bucket
from .check_freeswitch import check_freeswitch
from .check_machine import check_disks, check_mailboxes, check_ports, check_recordings
from .check_planfix import check_planfix, check_public_url
from .check_records import check_records
from .findings import Finding, Grade, listed, short

DEFAULT_PASSWORD = "ClueCon"  # noqa: S105 - FreeSWITCH's own, known to everybody

REMEMBERED = 7 * 86400.0
"""Seconds for which an event that could not be processed is worth a line."""

WAITS_TOO_LONG = 300.0
"""Seconds after which it is worth a line that a notice still waits."""


def check_all(
    accounts: Accounts[Settings],
    env_file: Path | None,
    unknown: Sequence[UnknownName] = (),
    only: str = "",
    test_alert: bool = False,
) -> Iterator[Finding]:
    """Check every part; leave out what cannot be checked because another part is broken.

    env_file: where settings were read from, if not only from the environment. unknown: the names
    in it that are not settings. only: the one account to check, "" for the machine and all.
    test_alert: whether a person is told that this is a test.
    """
    if not only:
        yield from _check_machine(accounts, env_file, unknown)
        yield from check_alerts(accounts.machine, test_alert)
    if accounts.file is None:
        return
    partners = _partners(accounts)
    yield from check_accounts(accounts, partners, [only] if only else [*accounts])


def _partners(accounts: Accounts[Settings]) -> dict[str, Partner | None]:
    """Return the Planfix of each account, None if `setup` is to tell it."""
    partners = {name: _partner_in(own) for name, own in accounts.items()}
    with suppress(StoreError), closing(Store(accounts.machine.store_url)) as store:
        for name, partner in partners.items():
            partners[name] = partner or stored_partner(store, name)
    return partners


def _check_machine(
    accounts: Accounts[Settings], env_file: Path | None, unknown: Sequence[UnknownName]
) -> Iterator[Finding]:
    settings = accounts.machine
    yield from _check_settings(settings, env_file, unknown)
    keys: list[str] = []
    partner = _partner_in(settings)
    try:
        with closing(Store(settings.store_url)) as store:
            store.facts.set("last_check", str(int(time.time())))
            keys = _signing_keys(store, settings)
            noted = [
                *_check_mode(store),
                *_check_queue(store),
                *_check_notes(settings, store),
                *_check_windows(accounts, store),
                *_check_unclaimed(accounts, store),
            ]
            beside = store.beside.parent
            partner = partner or stored_partner(store)
        yield Finding("store.sound", Grade.OK, "store", "can be written")
        yield from noted
        yield from check_disks({"store": beside, "recordings": settings.recordings_dir})
    except StoreError as error:
        yield Finding("store.unusable", Grade.BROKEN, "store", str(error), "see STORE_URL")

    for server in settings.freeswitch_esl:
        yield from check_freeswitch(settings, server)

    yield from check_ports(settings)
    yield from _check_https(settings)
    yield from check_recordings(settings)
    yield from check_records(settings)
    yield from check_public_url(settings, keys)
    if accounts.file is None:
        yield from check_mailboxes(settings)
        yield from check_bucket(settings)
        yield from check_planfix(settings, partner)


def _partner_in(settings: Settings) -> Partner | None:
    """Return the Planfix that the settings name, None if `setup` is to tell it."""
    if not settings.planfix_url:
        return None
    return Partner(settings.planfix_url, settings.planfix_token.get_secret_value())


def _check_settings(
    settings: Settings, env_file: Path | None, unknown: Sequence[UnknownName]
) -> Iterator[Finding]:
    found = [*_doubtful_file(env_file, unknown), *_doubtful_values(settings)]
    yield from found
    if not found:
        yield Finding("settings.complete", Grade.OK, "settings", "complete")


def _doubtful_file(env_file: Path | None, unknown: Sequence[UnknownName]) -> Iterator[Finding]:
    for name in unknown:
        what = f"{name.name} in {env_file} is not a setting"
        yield _doubtful("unknown-name", what, name.hint)
    if env_file and env_file.exists() and stat.S_IMODE(env_file.stat().st_mode) & 0o077:
        what = f"{env_file} can be read by others"
        yield _doubtful("readable-by-others", what, f"chmod 600 {env_file}")


def _doubtful_values(settings: Settings) -> Iterator[Finding]:
    if not settings.accounts_file:
        yield from check_key(settings)

    if any(server.password == DEFAULT_PASSWORD for server in settings.freeswitch_esl):
        what = "the event socket still uses the default password (ClueCon)"
        hint = (
            "set a new one in event_socket.conf.xml and FREESWITCH_ESL; `fsplanfix init` helps. "
            "From then on fs_cli needs it: fs_cli -p PASSWORD"
        )
        yield _doubtful("default-password", what, hint)

    if not settings.public_url:
        what = "PUBLIC_URL is missing: Planfix cannot reach us"
        yield _doubtful("no-public-url", what, "set it to the https address of this service")


def _check_unclaimed(accounts: Accounts[Settings], store: Store) -> Iterator[Finding]:
    """Report calls that belong to no account, with what to add to the settings."""
    rules = accounts.rules()
    left = [*unclaimed_by(rules, store.facts.get(UNCLAIMED))]
    if not left or not rules.is_narrowed:
        return

    lines = dict.fromkeys(short(named.line) for named, _ in left if named.line)
    domains = dict.fromkeys(short(named.domain) for named, _ in left if named.domain)
    names = dict.fromkeys(short(named.account) for named, _ in left if named.account)
    shown = [
        f"{what} {listed(list(found))}"
        for what, found in (("line", lines), ("domain", domains), ("planfix_account", names))
        if found
    ]
    what = f"{sum(count for _, count in left)} calls were of no account: {'; '.join(shown)}"
    if accounts.file is None:
        # the rest of the switch is not meant to be told
        yield Finding("calls.unclaimed", Grade.OK, "calls", what)
        return
    line, domain = next(iter(lines), ""), next(iter(domains), "")
    add = f'domains = ["{domain}"]' if domain else f'lines = ["{line}"]'
    hint = f"whose are they? Add to the account in {accounts.file}: {add}"
    yield Finding("calls.unclaimed", Grade.WARNING, "calls", what, hint)


def _doubtful(reason: str, what: str, hint: str) -> Finding:
    return Finding(f"settings.{reason}", Grade.WARNING, "settings", what, hint)


def _signing_keys(store: Store, settings: Settings) -> list[str]:
    given, older = settings.secret_key, settings.secret_key_old
    return signing_keys(store, given.get_secret_value(), older.get_secret_value())


# what the service has noted in the store


def _check_https(settings: Settings) -> Iterator[Finding]:
    """Report files of our own https that cannot be used."""
    try:
        found = certificate(settings.http_cert, settings.http_key)
    except SettingsError as error:
        hint = "a start needs other files; a running service goes on with those of before"
        yield Finding("https.wrong", Grade.BROKEN, "https", error.problems[0], hint)
        return
    if found is not None:
        what = f"{settings.http_cert} and its key fit together"
        yield Finding("https.sound", Grade.OK, "https", what)


def _check_mode(store: Store) -> Iterator[Finding]:
    """Report an SQLite file that everybody on the machine can read."""
    file = store.beside
    if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o007:
        what, hint = f"{file} can be read by others: it holds calls and keys", f"chmod 600 {file}"
        yield Finding("store.readable-by-others", Grade.WARNING, "store", what, hint)


def _check_queue(store: Store) -> Iterator[Finding]:
    """Report notices that Planfix rejected, and those that wait for long."""
    backlog = Queue(store).backlog()
    if backlog.rejected:
        what = f"{backlog.rejected} notices were rejected by Planfix"
        hint = "fsplanfix queue list shows why; fsplanfix queue retry sends them again"
        yield Finding("queue.rejected", Grade.WARNING, "queue", what, hint)

    for reason, count in _unsent(store).items():
        # an empty file is nobody's mistake here
        if not reason.endswith("empty"):
            what = f"{count} recordings were not sent: {short(reason)}"
            hint = (
                "RECORDINGS_DIR must be the folder where FreeSWITCH records, "
                "or RECORDINGS_URL a server that has the files"
            )
            yield Finding("recordings.not-sent", Grade.WARNING, "recordings", what, hint)

    for name, fact in store.facts.beginning(BUCKET_PROBLEM).items():
        problem = bucket_problem(fact, store.now())
        if problem:
            account = fact_and_account(name)[1]
            what = f"recordings wait for their upload: {problem}"
            hint = "they are tried again"
            whose = "" if account == ACCOUNT else account
            yield Finding("bucket.waiting", Grade.WARNING, "bucket", what, hint, whose)

    oldest = backlog.oldest
    if oldest is not None and store.now() - oldest > WAITS_TOO_LONG:
        minutes = (store.now() - oldest) / 60
        what = f"{backlog.waiting} notices wait, the oldest for {minutes:.0f} minutes"
        hint = "is `fsplanfix run` running? Does Planfix answer?"
        yield Finding("queue.waiting", Grade.WARNING, "queue", what, hint)


def _unsent(store: Store) -> Counter[str]:
    """Return why recordings were not sent, and how many each time; the latest reason first.

    The words before the reason are others in stores of releases before 0.2.0.
    """
    found = Counter[str]()
    for answer, count in Queue(store).unsent_recordings():
        found[answer.partition(": ")[2]] += count
    return found


def _check_notes(settings: Settings, store: Store) -> Iterator[Finding]:
    """Report events set aside, and users that seem to be gateways."""
    aside = json.loads(store.facts.get(SET_ASIDE) or "{}")
    if aside and store.now() - aside["at"] < REMEMBERED:
        last, reason = short(aside["last"]), short(aside["reason"])
        what = f"{aside['count']} events could not be processed, the last: {last}"
        hint = f"please report it ({reason}) with {store.beside}.set-aside-*.jsonl.gz"
        yield Finding("events.set-aside", Grade.WARNING, "events", what, hint)

    noted = json.loads(store.facts.get(DOUBTS) or "{}")
    users = sorted(set(noted.get("users", [])) - settings.trunk_users)
    if users:
        what = f"they show many callers' numbers: {listed(users)}"
        hint = f"if they are gateways, set TRUNK_USERS={short(users[0])}"
        yield Finding("users.like-gateways", Grade.WARNING, "users", what, hint)

    gateways = sorted(set(noted.get("gateways", [])) - settings.house_gateways)
    if gateways:
        what = f"exts are dialled through them: {listed(gateways)}"
        hint = f"if they lead to colleagues, set HOUSE_GATEWAYS={short(gateways[0])}"
        yield Finding("gateways.like-colleagues", Grade.WARNING, "gateways", what, hint)


def _check_windows(accounts: Accounts[Settings], store: Store) -> Iterator[Finding]:
    """Report accounts that must know their clients and whose dialplan does not ask who they are."""
    wanting = [name for name, own in accounts.items() if own.windows is Windows.KNOWN]
    if not wanting:
        return

    # what is not asked is not known (docs/call-rules.md, rule 18)
    never_asked = Archive(store).never_asked_about()
    for name in filter(never_asked.__contains__, wanting):
        what = "WINDOWS=known, and the dialplan never asks who calls: every client is a new one"
        hint = "copy freeswitch-dialplan/public/00_2_planfix_ring.xml, or set WINDOWS=ring"
        found = Finding("windows.never-asked", Grade.WARNING, "windows", what, hint)
        yield of_account(found, name) if accounts.file else found
