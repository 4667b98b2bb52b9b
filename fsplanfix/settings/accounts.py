"""The companies on one switch, each with settings of its own (ACCOUNTS_FILE)."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from operator import itemgetter
from pathlib import Path
from stat import S_ISREG
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from .. import settings_file
from ..calls.model import ACCOUNT
from ..calls.whose import AccountRules
from ..errors import SettingsError
from . import (
    DOMAIN,
    EMPTY_MATTERS,
    SECRETS,
    AccountSettings,
    RecordSettings,
    RuleSettings,
    Settings,
    StoreSettings,
    given,
    load,
)

NAME = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)

OTHER = "other"
"""What the metrics call accounts beyond those that have a label of their own."""

MOST_ACCOUNTS = 10_000
LARGEST_FILE = 10 * 1024 * 1024
"""Bytes. An account takes some hundred."""

MOST_PROBLEMS = 20
"""Sentences that are shown of a file with more mistakes."""

MACHINE = frozenset(
    (
        *StoreSettings.model_fields,
        *RecordSettings.model_fields,
        *AccountSettings.model_fields,
        *("freeswitch_esl", "freeswitch_esl_file", "freeswitch_gone_after"),
        *("esl_listen", "esl_allow", "http_listen", "http_cert", "http_key", "public_url"),
        *("keep_days", "cdr_secret", "cdr_secret_file"),
        *("log_format", "log_mask", "log_level"),
        *("alert_command", "alert_url", "alert_url_file"),
    )
)
"""Settings of the whole machine, which are no company's."""

COMPANY = frozenset(Settings.model_fields) - MACHINE
"""What may stand in an account."""

OWN = (
    *("domains", "lines", "user_domain", "planfix_url", "planfix_token", "pbx_token"),
    *("pbx_token_old", "admin_password", "view_password"),
)
"""What names one company, and its secrets: never taken from the environment."""

T = TypeVar("T", bound=RuleSettings)
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Accounts(Mapping[str, T], Generic[T]):
    """The settings of each company, by the account's name.

    machine: the settings of the environment alone. file: the file the accounts come from; None
    where there is one company, the environment's, named ACCOUNT.
    """

    machine: T
    by_name: Mapping[str, T]
    file: Path | None = None

    def __getitem__(self, name: str) -> T:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def rules(self) -> AccountRules:
        """Return the settings of the call rules of each company."""
        rules = {name: settings.rules() for name, settings in self.by_name.items()}
        return AccountRules(rules, self.machine.rules() if self.file else None)


def load_accounts(kind: type[T], own: Mapping[str, str] | None = None) -> Accounts[T]:
    """Read the settings of every company.

    kind: Settings, or RuleSettings for the call rules alone. own: settings by name that take
    precedence over the environment, such as those of a trace; the file stands above them.

    Raises SettingsError as `load` does, and with one sentence for each mistake in the file.
    """
    machine = load(kind, own)
    file = load(AccountSettings, own).accounts_file
    if file is None:
        return Accounts(machine, {ACCOUNT: machine})

    tables = _read(file)
    left_out = {"accounts_file", *OWN, *(f"{name}_file" for name in OWN)}
    base = {name: value for name, value in given(kind, own).items() if name not in left_out}
    alone: type[T] = _alone(kind)
    read: dict[str, T] = {}
    problems: list[str] = []
    for name, table in tables.items():
        wrong = _wrong(name, table)
        try:
            if not wrong:
                read[name] = alone(**_together(base, table))
        except ValidationError as error:
            wrong = [f"[{name}] {as_in_file(s)}" for s in settings_file.sentences(kind, error)]
        problems += wrong

    problems += [*_clashes(read), *_too_much_seen(machine, read)]
    if problems:
        raise _refusal(problems, file)
    return Accounts(machine, read, file)


@cache
def _alone(kind: type[Any]) -> type[Any]:
    """Return a kind of settings that is made of what it is given, and nothing else."""
    return type(kind.__name__, (kind,), {"reads_environment": False})


def _refusal(problems: list[str], file: Path) -> SettingsError:
    left = len(problems) - MOST_PROBLEMS
    more = [f"There are {left} more mistakes."] if left > 0 else []
    hint = f"The accounts come from {file.absolute()} (ACCOUNTS_FILE)."
    return SettingsError(problems[:MOST_PROBLEMS] + more, hint)


# the file


def _read(file: Path) -> dict[str, Any]:
    """Return the tables of a file. Raises SettingsError."""
    try:
        found = file.stat()
        if not S_ISREG(found.st_mode):
            raise _cannot_be_read(file, "it is not a file")
        if found.st_size > LARGEST_FILE:
            raise _cannot_be_read(file, f"it has more than {LARGEST_FILE // 1024**2} MB")
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _cannot_be_read(file, str(error.strerror)) from None
    except UnicodeDecodeError:
        raise _cannot_be_read(file, "it is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"ACCOUNTS_FILE: {file} is not TOML: {error}."]) from None
    # a number of thousands of digits; arrays nested too deeply
    except (ValueError, RecursionError):
        raise SettingsError([f"ACCOUNTS_FILE: {file} is not TOML that can be read."]) from None

    if not tables:
        raise SettingsError([f"ACCOUNTS_FILE: {file} names no account; begin one with [name]."])
    if len(tables) > MOST_ACCOUNTS:
        raise SettingsError([f"ACCOUNTS_FILE: {file} has more than {MOST_ACCOUNTS:,} accounts."])
    return tables


def _cannot_be_read(file: Path, reason: str) -> SettingsError:
    return SettingsError([f"ACCOUNTS_FILE: {file} cannot be read ({reason})."])


# one account


def wrong_name(name: str) -> str:
    """Return why no account can have a name, "" if one can."""
    if name == OTHER:
        return f"[{OTHER}] is not a name for an account: metrics of many have it; choose another."
    if NAME.fullmatch(name):
        return ""
    return (
        f"[{name[:80]}] is not a name for an account; use up to 32 small letters a-z, digits and "
        "hyphens."
    )


def _wrong(name: str, table: Any) -> list[str]:
    """Return what is wrong with an account before its values are read."""
    if not isinstance(table, dict):
        return [f"{name[:80]} stands before the first account; begin each account with its [name]."]

    inner = next((key for key, value in table.items() if isinstance(value, dict)), "")
    full = f"{name}.{inner}" if inner else name
    if problem := wrong_name(full):
        return [problem]

    wrong = [*filter(None, (_wrong_key(key, value) for key, value in table.items()))]
    if not any(table.get(key) for key in ("domains", "lines")):
        wrong.append("needs domains or lines: they say which calls are this company's.")
    return [f"[{name}] {sentence}" for sentence in wrong]


def _wrong_key(key: str, value: Any) -> str:
    """Return what is wrong with a setting of an account, "" if nothing is."""
    if key in MACHINE:
        return f"{key} is a setting of the whole machine; it stands in the environment."
    if key not in COMPANY:
        nearest = get_close_matches(key.lower(), COMPANY, 1, settings_file.PERHAPS_MEANT)
        hint = f"is it {nearest[0]}?" if nearest else "the README has every setting."
        return f"{key[:80]} is not a setting: {hint}"
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        return f"{key}: write text in quotes, a number, true or false, or a list of these."
    return ""


def _together(base: Table, table: Table) -> dict[str, Any]:
    """Return the settings of an account, unread: its own above those of the environment."""
    own = {key: _as_text(key, value) for key, value in table.items()}
    # a secret of its own is not put aside by the environment's file of one
    hidden = {f"{name}_file" for name in SECRETS if name in own}
    together = {**{name: value for name, value in base.items() if name not in hidden}, **own}
    # as in the environment, an empty value is none
    kept = {
        name: value
        for name, value in together.items()
        if value != "" or name.upper() in EMPTY_MATTERS
    }

    domains = [name for name in map(str.strip, kept.get("domains", "").split(",")) if name]
    if len(domains) == 1:
        for key in ("recordings_dir", "recordings_map"):
            kept |= {key: kept[key].replace(DOMAIN, domains[0])} if key in kept else {}
        kept.setdefault("user_domain", domains[0])
        if "dial_string" not in kept:
            kept.setdefault("dial_context", domains[0])
    return kept


def _as_text(key: str, value: Any) -> str:
    """Write a value as the environment would."""
    if isinstance(value, list):
        separator = ";" if key in ("number_rules", "dial_rules") else ","
        return separator.join(_as_text(key, item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_in_file(text: str) -> str:
    """Return a text about an account with the names of its settings as they stand in the file.

    WINDOWS=ring becomes windows = "ring".
    """
    return _NAMED.sub(_as_in_file, text)


_NAMED = re.compile(r"\b([A-Z][A-Z0-9_]+)\b(?:=([^\s,;]+))?", re.ASCII)


def _as_in_file(named: re.Match[str]) -> str:
    name, value = named[1].lower(), named[2]
    if name not in COMPANY:
        return named[0]
    if value is None:
        return name
    return f"{name} = {value}" if value in ("true", "false") else f'{name} = "{value}"'


# between accounts


def _clashes(accounts: Mapping[str, RuleSettings]) -> list[str]:
    """Return a sentence for each two accounts that could not be told apart."""
    return [
        *_same_values(accounts),
        *_same_lines(accounts),
        *_foreign_domains(accounts),
        *_folders_without_a_domain(accounts),
        *_folders_emptied_by_others(accounts),
        *_mixed_buckets(accounts),
    ]


def _same_values(accounts: Mapping[str, RuleSettings]) -> Iterator[str]:
    owner: dict[tuple[str, str], str] = {}
    for name, settings in accounts.items():
        for key, what in _identity(settings):
            first = owner.setdefault(key, name)
            if first != name:
                yield f"[{name}] and [{first}] have the same {what}"


def _identity(settings: RuleSettings) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what no other account may have, each with the rest of the sentence."""
    for domain in settings.domains:
        yield ("domain", domain), f"domain {domain}: a domain is one company's."
    if not isinstance(settings, Settings):
        return

    for key in filter(None, settings.pbx_keys()):
        yield ("key", key), "pbx_token: give each company a key of its own."
    for password in _passwords(settings):
        yield ("password", password), "password: each would see the other's calls."
    # one address may be written in several ways
    address = urlsplit(settings.planfix_url)
    where = f"{address.hostname} {address.port or ''} {address.path.rstrip('/')} {address.query}"
    planfix = f"{where} {settings.planfix_token.get_secret_value()}"
    if settings.planfix_url:
        yield (
            ("planfix", planfix),
            "planfix_url and planfix_token: each company has a Planfix of its own.",
        )


def _too_much_seen(machine: RuleSettings, accounts: Mapping[str, RuleSettings]) -> Iterator[str]:
    """Yield a sentence for each account whose password shows the calls of all."""
    if not isinstance(machine, Settings):
        return
    for name, settings in accounts.items():
        if isinstance(settings, Settings) and {*_passwords(machine)} & {*_passwords(settings)}:
            yield f"[{name}] has a password of the environment, which shows the calls of all."


def _passwords(settings: Settings) -> list[str]:
    words = settings.admin_password.get_secret_value(), settings.view_password.get_secret_value()
    return [word for word in words if word]


def _folders_emptied_by_others(accounts: Mapping[str, RuleSettings]) -> Iterator[str]:
    """Yield a sentence for each folder of recordings that another account around it would empty."""
    # of accounts that share a folder, the one that keeps its recordings longest decides
    kept: dict[Path, tuple[float, str]] = {}
    for name, settings in accounts.items():
        if not isinstance(settings, Settings):
            return
        days = settings.recordings_keep_days or math.inf
        folder = settings.recordings_dir
        kept[folder] = max(kept.get(folder, (0.0, "")), (days, name), key=itemgetter(0))

    for folder, (days, name) in kept.items():
        for around in folder.parents:
            others, other = kept.get(around, (math.inf, ""))
            if others < days:
                yield (
                    f"[{name}] recordings_dir lies inside that of [{other}], which would delete "
                    "its recordings sooner (recordings_keep_days): give each a folder of its own."
                )


def _mixed_buckets(accounts: Mapping[str, RuleSettings]) -> Iterator[str]:
    """Yield a sentence for accounts whose recordings could not be told apart in a bucket.

    A file's key is its path below RECORDINGS_DIR. Of accounts that share a folder, one deletes what
    is old, so all must keep it in the same place.
    """
    owners: dict[str, tuple[str, Settings]] = {}
    for name, settings in accounts.items():
        if not isinstance(settings, Settings):
            return
        folder = str(settings.recordings_dir)
        first, own = owners.setdefault(folder, (name, settings))
        if _place(settings) != _place(own):
            yield (
                f"[{name}] and [{first}] share recordings_dir, so they must have the same "
                "recordings_s3, or folders of their own."
            )

    # in this order a folder of a bucket comes right before all that lie in it
    kept = sorted((*_place(own), name) for name, own in owners.values() if own.recordings_s3)
    around: tuple[str, str, str] | None = None
    for where, prefix, name in kept:
        if around is not None and around[0] == where and prefix.startswith(around[1]):
            yield (
                f"[{name}] and [{around[2]}] keep different folders in the same recordings_s3: "
                "give each a folder of its own in the bucket."
            )
        else:
            around = where, prefix, name


def _place(settings: Settings) -> tuple[str, str]:
    """Return the bucket that keeps an account's recordings, and the beginning of their keys."""
    bucket, prefix = settings.recordings_s3 or ("", "")
    return f"{settings.recordings_s3_endpoint or ''} {bucket}", prefix


def _same_lines(accounts: Mapping[str, RuleSettings]) -> Iterator[str]:
    """Yield a sentence for each line that is two accounts' too, itself or by a pattern."""
    # in this order a pattern comes right before all that it covers
    named = sorted(
        (line.removesuffix("*"), not line.endswith("*"), name)
        for name, settings in accounts.items()
        for line in settings.rules().lines
    )
    around: list[tuple[str, bool, str]] = []
    for line, is_one, name in named:
        while around and not _covers(around[-1], line):
            around.pop()
        if around and around[-1][2] != name:
            shown = line if is_one else f"{line}*"
            yield f"[{name}] and [{around[-1][2]}] share the line {shown}: a line is one company's."
        around.append((line, is_one, name))


def _covers(named: tuple[str, bool, str], line: str) -> bool:
    text, is_one, _ = named
    return line == text if is_one else line.startswith(text)


def _foreign_domains(accounts: Mapping[str, RuleSettings]) -> Iterator[str]:
    """Yield a sentence for each account whose clicks would ring another's users."""
    owners = {domain: name for name, own in accounts.items() for domain in own.domains}
    for name, settings in accounts.items():
        if not isinstance(settings, Settings):
            continue
        domain = settings.user_domain.lower()
        if domain and settings.domains and domain not in settings.domains:
            yield f"[{name}] user_domain: {domain} is not one of its domains."
        elif owners.get(domain, name) != name:
            # an account of lines alone may have its users in a domain that is nobody's
            yield f"[{name}] user_domain: {domain} is a domain of [{owners[domain]}]."


def _folders_without_a_domain(accounts: Mapping[str, RuleSettings]) -> Iterator[str]:
    """Yield a sentence for each account whose folder of recordings is not known."""
    for name, settings in accounts.items():
        if isinstance(settings, Settings) and DOMAIN in str(settings.recordings_dir):
            yield f"[{name}] recordings_dir: {DOMAIN} needs an account with exactly one domain."
