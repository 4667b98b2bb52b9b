"""Understands what a person answers to the questions of `fsplanfix init`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import SettingsError
from ..freeswitch.connection import Server
from .initial_settings import problem_with

EVENT_SOCKET_PORT = 8021
"""The port of FreeSWITCH's own configuration."""

_WITH_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:]+\]|[^\s:@/\[\]]+):(?P<port>\d{1,5})", re.ASCII)
_HOST = re.compile(r"[^\s:@/\[\]]+", re.ASCII)


class Understood(NamedTuple):
    """An answer as it is written. note: what was changed about it, "" if nothing was."""

    value: str
    note: str = ""


def understood(
    option: str, setting: str, answer: str, beside: Mapping[str, str] | None = None
) -> Understood:
    """Return an answer as it is written into the file.

    beside: the other settings so far. Raises SettingsError if the answer is wrong, alone or beside
    them.
    """
    found = Understood(answer)
    if option == "planfix_url":
        found = _planfix_url(answer)
    elif option == "public_url":
        found = _public_url(answer)
    elif option == "freeswitch":
        found = _freeswitch(answer)
    elif option == "freeswitch_password" and answer:
        _refuse("FREESWITCH_ESL", f"esl://:{answer}@127.0.0.1:8021")

    # an empty answer is the default, unless there is none
    if setting and (found.value or option == "planfix_token"):
        _refuse(setting, found.value, beside)
    return found


def _refuse(setting: str, value: str, beside: Mapping[str, str] | None = None) -> None:
    """Raise SettingsError if this cannot be the value of a setting."""
    if wrong := problem_with(setting, value, beside):
        raise SettingsError(wrong)


def _planfix_url(answer: str) -> Understood:
    parts = urlsplit(answer)
    if parts.scheme and parts.netloc and parts.path in ("", "/"):
        value = f"{parts.scheme}://{parts.netloc}/tel/api"
        return Understood(value, f"/tel/api is added: {value}")
    return Understood(answer)


def _public_url(answer: str) -> Understood:
    value = answer.rstrip("/")
    if value.endswith("/planfix"):
        value = value.removesuffix("/planfix")
        return Understood(value, f"/planfix is left out, fsplanfix adds it itself: {value}")
    return Understood(value)


def _freeswitch(answer: str) -> Understood:
    if found := _WITH_PORT.fullmatch(answer):
        if 0 < int(found["port"]) < 65536:
            return Understood(answer)
    elif _HOST.fullmatch(answer) or _is_ipv6(answer):
        host = f"[{answer.strip('[]')}]" if ":" in answer else answer
        value = f"{host}:{EVENT_SOCKET_PORT}"
        return Understood(value, f"Port {EVENT_SOCKET_PORT} is added: {value}")
    raise SettingsError(
        [f"'{answer}' is not the address of an event socket; write it like 127.0.0.1:8021."]
    )


def _is_ipv6(answer: str) -> bool:
    try:
        return ipaddress.ip_address(answer.strip("[]")).version == 6
    except ValueError:
        return False


def server_at(address: str, password: str) -> Server:
    """Return the FreeSWITCH at an address that was understood."""
    host, _, port = address.rpartition(":")
    return Server(host.strip("[]"), int(port), password)


def present_server(servers: str) -> Server | None:
    """Return the FreeSWITCH in a FREESWITCH_ESL, None if it names none or several."""
    password, _, address = servers.removeprefix("esl://:").rpartition("@")
    if not _WITH_PORT.fullmatch(address) or "," in password:
        return None
    return server_at(address, password)
