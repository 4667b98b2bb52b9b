"""Reads and checks the values of settings; each error says how to write the value."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import phonenumbers
from pydantic import (
    AfterValidator,
    BeforeValidator,
    SecretStr,
)

from ..calls.number_rules import read_rules
from ..calls.numbers import Numbering
from ..calls.own_data import FIELDS
from ..calls.variables import DATA_NAME
from ..freeswitch.connection import Server
from ..freeswitch.phones import DOMAIN, USER


class Address(NamedTuple):
    """Where the service listens.

    host: without the brackets of IPv6.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


Pattern = re.Pattern[str]
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|localhost|::1", re.ASCII)
COMMAND_SAFE = re.compile(r"[A-Za-z0-9_./-]*", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9_.-]*", re.ASCII)
DIGITS = re.compile(r"\+?[0-9]{0,15}", re.ASCII)
CODE = re.compile(r"[0-9]{1,15}", re.ASCII)
LINE = re.compile(r"\*|[0-9]{1,15}", re.ASCII)
NUMBERS = re.compile(r"[0-9]{1,15}\*?|anonymous", re.ASCII)
BUCKET = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>/[A-Za-z0-9_./-]*)?", re.ASCII
)
ESL = re.compile(
    r"esl://:(?P<password>[^\s]+)@(?P<host>\[[0-9A-Fa-f:]+\]|[^\s:@/\[\]]+):(?P<port>\d{1,5})",
    re.ASCII,
)


def as_address(value: str, example: str = "https://example.planfix.com/tel/api") -> str:
    """Check the address of a web server."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{value}' is not a web address; write it like {example}.")

    # a stand-in for Planfix may run on this machine without a certificate
    if parts.scheme == "http" and not LOOPBACK.fullmatch(parts.hostname):
        raise ValueError("tokens would cross the network in clear text; begin it with https://.")

    return value


def as_our_address(value: str) -> str:
    """Check our own web address."""
    return as_address(value, "https://pbx.example.com")


def as_endpoint(value: str) -> str:
    """Check the address of an S3-compatible storage."""
    return as_address(value, "https://s3.example.com")


def as_upper(value: Any) -> Any:
    """Read a word in capitals."""
    return value.upper() if isinstance(value, str) else value


def as_pattern(value: Any) -> Any:
    """Read a regular expression."""
    if not isinstance(value, str):
        return value
    try:
        return re.compile(value, re.ASCII)
    except re.error as error:
        raise ValueError(f"'{value}' is not a regular expression ({error}).") from None


def as_country(value: str) -> str:
    """Check the two letters of a country."""
    if value.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"'{value}' is not a country code; use two letters, such as RU or KZ.")
    return value.upper()


def as_listen(value: Any) -> Any:
    """Read where to listen."""
    if not isinstance(value, str):
        return value
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"'{value}' is not an address to listen on; write it like 127.0.0.1:8080.")
    return Address(host.strip("[]"), int(port))


def as_servers(value: Any) -> Any:
    """Read the FreeSWITCHes, with their passwords."""
    if not isinstance(value, str):
        return value

    servers = []
    for item in value.split(","):
        found = ESL.fullmatch(item.strip())
        if not found or not 0 < int(found["port"]) < 65536:
            raise ValueError(
                "write it like esl://:PASSWORD@127.0.0.1:8021, several with commas between them."
            )
        servers.append(Server(found["host"].strip("[]"), int(found["port"]), found["password"]))

    return tuple(servers)


def as_aliases(value: Any) -> Any:
    """Read numbers and users, and the exts they belong to."""
    if not isinstance(value, str):
        return value

    read = {}
    for item in filter(str.strip, value.split(",")):
        user, _, ext = item.partition(":")
        user, ext = user.strip().removeprefix("+"), ext.strip()
        if not USER.fullmatch(user) or not CODE.fullmatch(ext):
            raise ValueError("write it like 79260000007:101,79260000008:102.")
        read[user] = ext
    return read


def as_matching(pattern: re.Pattern[str], example: str) -> AfterValidator:
    """Return a check against a pattern. example: for the error."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"'{value}' cannot be used; write it like {example}.")
        return value

    return AfterValidator(check)


def as_networks(value: Any) -> Any:
    """Read addresses and networks."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(
            ipaddress.ip_network(item.strip()) for item in value.split(",") if item.strip()
        )
    except ValueError as error:
        raise ValueError(f"{error}; write it like 127.0.0.0/8,192.0.2.10.") from None


def as_or_none(value: Any) -> Any:
    """Take an empty value for none."""
    return value or None


def as_folder(value: Path | None) -> Path | None:
    """Check the whole path of a folder."""
    if value is not None and (len(value.parts) < 2 or not value.is_absolute()):
        raise ValueError(
            "name the folder with its whole path, like /var/lib/freeswitch/recordings."
        )
    return value


def as_program(value: Path | None) -> Path | None:
    """Check the whole path of a program."""
    if value is not None and not value.is_absolute():
        raise ValueError("name the program with its whole path, like /usr/local/bin/tell-me.")
    return value


def as_alert_url(value: SecretStr) -> SecretStr:
    """Check an address that may hold a token: it is never shown."""
    try:
        if value.get_secret_value():
            as_address(value.get_secret_value())
    except ValueError:
        raise ValueError("write it like https://alerts.example.com/hook.") from None
    return value


def as_bucket(value: Any) -> Any:
    """Read a bucket of S3 and the beginning of the keys in it."""
    if not isinstance(value, str):
        return value
    found = BUCKET.fullmatch(value.strip())
    if not found:
        raise ValueError("write it like s3://my-bucket/recordings.")
    prefix = (found["prefix"] or "").strip("/")
    return found["bucket"], f"{prefix}/" if prefix else ""


def as_map(value: Any) -> Any:
    """Read a folder of FreeSWITCH's and ours."""
    if not isinstance(value, str):
        return value

    # two whole paths: neither may hold a colon
    found = re.fullmatch(r"(/[^:]*):(/[^:]*)", value.strip())
    if not found:
        raise ValueError(
            "write it like /usr/recordings:/srv/recordings, FreeSWITCH's folder first, then ours."
        )

    return found[1], found[2]


def as_default_exts(value: Any) -> Any:
    """Read `101`, or `74950000001:101,*:100`: a line and its ext, `*` for every other line."""
    if not isinstance(value, str):
        return value

    # an ext alone has no colon, so its line is empty: it is for every line
    pairs = [item.strip().rpartition(":") for item in value.split(",") if item.strip()]
    read = {line.strip().removeprefix("+") or "*": ext.strip() for line, _, ext in pairs}
    if not all(LINE.fullmatch(line) and CODE.fullmatch(ext) for line, ext in read.items()):
        raise ValueError("write it like 101, or by line like 74950000001:101,*:100.")

    return read


def as_one_of(kind: type[StrEnum], words: str) -> BeforeValidator:
    """Return a reader of one word of some. words: for the error."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value.lower() not in set(kind):
            raise ValueError(f"'{value}' is not known; write {words}.")
        return value.lower() if isinstance(value, str) else value

    return BeforeValidator(check)


def as_number_rules(value: Any) -> Any:
    """Read rules for numbers."""
    return read_rules(value) if isinstance(value, str) else value


def as_dial_rules(value: Any) -> Any:
    """Read rules for what is dialled: digits, `*` and `#`."""
    rules = as_number_rules(value)
    for rule in rules:
        if rule.replacement[:1] in ("", "+"):
            raise ValueError(
                f"'{rule}' cannot be used; write digits and groups like 98$1 behind the =, "
                "and a + into DIAL_STRING."
            )
    return rules


def as_first(value: Any) -> Any:
    """Read who rings first."""
    if not isinstance(value, str):
        return value
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    if not set(names) <= {"manager", "last"} or len(set(names)) < len(names):
        raise ValueError(f"'{value}' cannot be used; write it like manager,last.")
    return tuple(names)


def as_names(value: Any) -> Any:
    """Read names."""
    if not isinstance(value, str):
        return value
    return frozenset(item.strip() for item in value.split(",") if item.strip())


def as_data_fields(value: Any) -> Any:
    """Read `wait:Waited,queue`: what the call knows, and the name of Planfix's field."""
    if not isinstance(value, str):
        return value
    read = {}
    for item in filter(str.strip, value.split(",")):
        known, _, name = item.strip().partition(":")
        if known not in FIELDS or not DATA_NAME.fullmatch(f"data_{name or known}"):
            raise ValueError(f"write it like wait:Waited,queue, out of {', '.join(FIELDS)}.")
        read[known] = name or known
    return read


def as_domains(value: Any) -> Any:
    """Read domains."""
    if not isinstance(value, str):
        return value
    names = [item.strip().lower() for item in value.split(",") if item.strip()]
    wrong = [name for name in names if not DOMAIN.fullmatch(name)]
    if wrong:
        raise ValueError(f"'{wrong[0][:80]}' is not a domain; write it like a.example,b.example.")
    return frozenset(names)


def as_known(number: str, numbering: Numbering) -> str:
    """Return a number as Planfix knows it; the beginning of many, with `*`, stays as it is."""
    return number if number.endswith("*") else numbering.normalize(number) or number


def as_numbers(value: Any) -> Any:
    """Read numbers, of which a `*` at the end stands for more digits."""
    if not isinstance(value, str):
        return value
    read = [item.strip().removeprefix("+") for item in value.split(",") if item.strip()]
    wrong = [item for item in read if not NUMBERS.fullmatch(item)]
    if wrong:
        raise ValueError(
            f"'{wrong[0][:80]}' is not a number; write it like 74950000001,7495000010*."
        )
    return tuple(read)
