"""HTTP requests to Planfix: with time-outs, checked certificates and kept connections.

geventhttpclient's connections and answers are used without its client around them: a request costs
a third of what it cost with requests (docs/performance.md).
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from http.client import HTTPException
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import certifi
import gevent
import requests
import urllib3
from gevent.monkey import get_original
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import (
    HTTPConnectionClosed,
    HTTPParseError,
    HTTPSocketPoolResponse,
)

from ..errors import TransportError
from ..outbox.schedule import LONGEST_HOLD
from ..outbox.texts import clean

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0
"""Seconds (docs/delivery-rules.md, rule 6)."""

MAX_BODY_BYTES = 64 * 1024
"""Bytes of an answer's body that are read."""

MAX_ANSWER_BYTES = 256 * 1024
"""Bytes of an answer with its headers; no Planfix sends as many."""

HEADERS = {
    "User-Agent": "fsplanfix",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
}

_poll = get_original("select", "poll")

_quote = lru_cache(maxsize=4096)(quote_plus)
"""A call's requests say the same again: callid, number, ext."""


def seconds_to_wait(retry_after: str) -> float:
    """Return the seconds a Retry-After header (a number or a date) asks for, 0 if none.

    At most LONGEST_HOLD (docs/delivery-rules.md, rule 4).
    """
    if retry_after.isascii() and retry_after.isdigit():
        # cut off: a number of thousands of digits is a ValueError in Python
        return float(min(int(retry_after[:9]), LONGEST_HOLD))

    try:
        moment = parsedate_to_datetime(retry_after).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0

    return min(max(moment - time.time(), 0.0), LONGEST_HOLD)


class _Answer(HTTPSocketPoolResponse):
    """An answer that ends, whatever the peer sends."""

    def __init__(self, sock: Any, pool: ConnectionPool) -> None:
        self._left = MAX_ANSWER_BYTES
        super().__init__(sock, pool, block_size=MAX_BODY_BYTES, method="POST")

    def feed(self, data: str | bytes) -> None:
        """Take a piece of the answer. Raises HTTPParseError."""
        self._left -= len(data)
        if self._left < 0:
            raise HTTPParseError("too long")
        super().feed(data)

    def header(self, name: str) -> str:
        """Return the first value of a header, "" if there is none."""
        value = self.get(name, "") or ""
        return value if isinstance(value, str) else value[0]

    def text(self) -> str:
        """Return the beginning of the body as text that the store can hold."""
        body = self.read(MAX_BODY_BYTES)
        # not asked for, and sent by some servers all the same
        if body and self.header("Content-Encoding").lower() in ("gzip", "deflate"):
            try:
                body = zlib.decompressobj(wbits=47).decompress(body, MAX_BODY_BYTES)
            except zlib.error:
                raise HTTPParseError("not compressed as it says") from None

        return clean(body.decode("utf-8", "replace")).strip()


class _Kept:
    """Connections that are kept, and used again if they are still there.

    Raises TransportError if there is no place, or no new one, in time.
    """

    def get_socket(self) -> Any:
        """Return a connection that nobody else uses."""
        if not self._semaphore.locked():  # type: ignore[attr-defined]
            return super().get_socket()  # type: ignore[misc]

        # once the pool is closed, nobody gives a place back
        with gevent.Timeout(CONNECT_TIMEOUT + READ_TIMEOUT, _too_late()):
            return super().get_socket()  # type: ignore[misc]

    def _create_socket(self) -> Any:
        # The name is looked up, and one address after the other is tried: a Planfix with two of
        # IPv6 that are silent was never reached at its address of IPv4 with half of this.
        with gevent.Timeout(4 * CONNECT_TIMEOUT, _too_late()):
            return super()._create_socket()  # type: ignore[misc]

    def _is_socket_alive(self, sock: Any) -> bool:
        # geventhttpclient asks by select, which knows no file above 1023: with 500 companies each
        # request went over a connection of its own
        poll = _poll()
        try:
            poll.register(sock, select.POLLIN)
        except ValueError:  # it is closed
            return False
        # a connection at rest has nothing to read, but its end
        return not poll.poll(0)


class _Connections(_Kept, ConnectionPool):
    """Connections without TLS."""


class _TlsConnections(_Kept, SSLConnectionPool):
    """Connections with TLS."""


@cache
def _trust(**_: Any) -> ssl.SSLContext:
    """Return what certificates are checked with, made once: reading the authorities takes 20 ms."""
    return ssl.create_default_context(cafile=certifi.where())


def is_postable(url: str) -> bool:
    """Tell whether requests can be sent to an address of https, without a user in it."""
    try:
        parts = urlsplit(url)
        requests.Request("POST", url).prepare()
        return bool(
            parts.scheme == "https"
            and parts.hostname
            and parts.port != 0
            and parts.username is None
            and parts.fragment == ""
            and _ADDRESS.fullmatch(url)
        )
    except (ValueError, requests.exceptions.RequestException):
        return False


_ADDRESS = re.compile(r"[\x21-\x7e]+", re.ASCII)


def _too_late() -> TransportError:
    return TransportError("Planfix did not answer in time")


class PlanfixApi:
    """Posts requests to Planfix.

    url: PLANFIX_URL. token: PLANFIX_TOKEN, added to each request. Both may be "" until `aim` is
    called, and nothing may be sent until then. concurrency: requests at once; more of them wait.
    in_words: writes the names of settings as they stand where the account's do.
    """

    def __init__(
        self, url: str, token: str, concurrency: int, in_words: Callable[[str], str] = str
    ) -> None:
        self._token = ""
        self._head = ""
        self._concurrency = concurrency
        self._in_words = in_words
        self._connections: ConnectionPool | None = None
        if url:
            self.aim(url, token)

    @property
    def has_aim(self) -> bool:
        """Tell whether it is known where requests go."""
        return self._connections is not None

    def aim(self, url: str, token: str) -> None:
        """Send requests to this address, with this token."""
        self.close()
        self._token = token
        # requests knows how addresses are written: with umlauts, of IPv6, with blanks
        prepared = requests.Request("POST", url).prepare()
        parts = urlsplit(str(prepared.url))
        lines = [f"POST {prepared.path_url} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in HEADERS.items()]
        self._head = "\r\n".join([*lines, "Content-Length: "])

        is_https = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if is_https else 80)
        limits: dict[str, Any] = {
            "size": self._concurrency,
            "connection_timeout": CONNECT_TIMEOUT,
            # READ_TIMEOUT is for the whole answer: this would begin anew with every piece read
            "network_timeout": None,
        }
        if is_https:
            limits["ssl_context_factory"] = _trust
        pool = _TlsConnections if is_https else _Connections
        self._connections = pool(host, port, host, port, **limits)

    def post(self, fields: Mapping[str, str]) -> None:
        """Send one request. Raises TransportError unless Planfix accepts it."""
        self._send(fields)

    def ask(self, fields: Mapping[str, str], seconds: float) -> dict[str, object]:
        """Send a request within `seconds`; return the JSON object in the answer.

        Raises TransportError.
        """
        with gevent.Timeout(seconds, _too_late()):
            text = self._send(fields)

        try:
            answer = json.loads(text or "{}")
        # deeply nested brackets exceed the recursion limit
        except (ValueError, RecursionError):
            answer = None

        if not isinstance(answer, dict):
            raise TransportError("Planfix's answer is not a JSON object")
        return answer

    def _send(self, fields: Mapping[str, str]) -> str:
        """Send one request; return the text of the answer that accepts it."""
        connections = self._connections
        if connections is None:
            raise TransportError("it is not known yet which Planfix we belong to")

        body = urlencode({**fields, "planfix_token": self._token}, quote_via=_quote)
        request = f"{self._head}{len(body)}\r\n\r\n{body}".encode()

        try:
            sock = connections.get_socket()
            with gevent.Timeout(READ_TIMEOUT, _too_late()):
                try:
                    sock.sendall(request)
                except BaseException:
                    connections.release_socket(sock)
                    raise

                with _Answer(sock, connections) as answer:
                    # an error may quote what we sent, and the text is logged and stored
                    text = answer.text().replace(self._token, "***")
                    self._judge(answer.get_code(), text, answer.header("Retry-After"))
                    return text
        except ssl.SSLError:
            raise TransportError(
                "Planfix's certificate is not trusted, or this is not Planfix"
            ) from None
        except TimeoutError:
            raise _too_late() from None
        except (HTTPException, OSError) as error:
            raise TransportError(f"Planfix cannot be reached ({reason(error)})") from None

    def _judge(self, code: int, text: str, retry_after: str) -> None:
        """Raise TransportError unless Planfix accepted (docs/delivery-rules.md, rule 4)."""
        if code == 200 and not text.startswith("<"):
            return

        if code == 400:
            raise TransportError(f"Planfix rejected it: 400 {text[:200]}", permanent=True)
        if code == 401:
            raise TransportError("Planfix does not know our token: 401", unauthorized=True)
        if code in (429, 503):
            raise TransportError(
                f"Planfix asks us to wait: {code}", retry_after=seconds_to_wait(retry_after)
            )
        if text.startswith("<"):
            hint = self._in_words("is PLANFIX_URL right?")
            raise TransportError(
                f"a web page came back ({code}) instead of Planfix's answer: {hint}"
            )
        raise TransportError(f"Planfix answered {code} {text[:200]}")

    def close(self) -> None:
        """Close the connections; nothing can be sent any more."""
        if self._connections is not None:
            self._connections.close()
            self._connections = None


def reason(error: BaseException) -> str:
    """Return in plain words why a request reached nobody.

    error: of a socket or of geventhttpclient, or one of requests, which wraps urllib3's error,
    which wraps the system's.
    """
    inner: list[BaseException | None] = [error]
    for one in inner:
        if one is None:
            continue
        if isinstance(one, socket.gaierror | urllib3.exceptions.NameResolutionError):
            return "its name is not in the DNS"
        if isinstance(one, OSError) and one.errno and one.errno > 0:
            return os.strerror(one.errno)
        wrapped = (getattr(one, "reason", None), *one.args, one.__cause__, one.__context__)
        new = [part for part in wrapped if isinstance(part, BaseException) and part not in inner]
        inner += new

    if isinstance(error, HTTPConnectionClosed):
        return "the connection was closed without an answer"
    if isinstance(error, HTTPParseError):
        return "the answer is not HTTP"
    return type(error).__name__
