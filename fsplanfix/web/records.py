"""Takes call detail records that FreeSWITCH sends (mod_json_cdr's `url`)."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from flask import abort, jsonify, request
from flask.typing import ResponseReturnValue

from ..errors import RecordError
from .rate_limit import Guesses, address

LARGEST_RECORD = 1024 * 1024
"""Bytes of a request. A real record has 6 to 25 kB."""

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]


@dataclass(frozen=True, slots=True)
class RecordsConfig:
    """Who may send records, and what is done with one.

    secret: "" takes none. keep: stores a record as it came; raises RecordError if it is none, and
    OSError if it cannot be stored now.
    """

    secret: str
    allowed: Networks
    keep: Callable[[bytes], None]


def taker(config: RecordsConfig, guesses: Guesses) -> Callable[[], ResponseReturnValue]:
    """Return the view that takes records."""

    def cdr() -> ResponseReturnValue:
        return take(config, guesses)

    return cdr


def take(config: RecordsConfig, guesses: Guesses) -> ResponseReturnValue:
    """Answer a request that brings a record."""
    if not config.secret or not _is_allowed(address(), config.allowed):
        abort(404)
    if not _is_right(config.secret):
        if not guesses.count_wrong(address()):
            abort(429)
        asks = {"WWW-Authenticate": 'Basic realm="fsplanfix"'}
        return jsonify(error="CDR_SECRET is missing or wrong"), 401, asks

    body = _body()
    try:
        config.keep(body)
    except RecordError as error:
        return jsonify(error=f"This is not a call detail record: {error}"), 400
    except OSError:
        abort(503)
    return jsonify(message="kept")


def _body() -> bytes:
    """Return the record in a request; with `encode` it is a field of a form."""
    length = request.content_length
    body: bytes = request.environ["wsgi.input"].read(LARGEST_RECORD + 1)
    if len(body) > LARGEST_RECORD or (length is not None and len(body) != length):
        abort(413)

    if body.startswith(b"cdr="):
        fields = parse_qs(body.decode("latin-1"), max_num_fields=10)
        return fields.get("cdr", [""])[0].encode()
    return body


def _is_allowed(peer: str, allowed: Networks) -> bool:
    try:
        found = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in network for network in allowed)


def _is_right(secret: str) -> bool:
    """Tell whether the request brings the secret: as the password of `cred`, or by itself."""
    given = request.authorization
    sent = (given.password or given.token or "") if given is not None else ""
    return hmac.compare_digest(sent.encode(errors="replace"), secret.encode())
