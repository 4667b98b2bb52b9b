"""HTTP requests to Planfix: with time-outs, checked certificates and kept connections.

requests' adapter is used without a Session around it. Planfix needs no cookies, redirects, proxies
or hooks, and they cost a third of a request (docs/performance.md).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urlsplit

import gevent
import requests
import urllib3
from requests.adapters import HTTPAdapter

from ..errors import TransportError
from ..outbox.schedule import LONGEST_HOLD
from ..outbox.texts import clean

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0
"""Seconds (docs/delivery-rules.md, rule 6)."""

MAX_BODY_BYTES = 64 * 1024
"""Bytes of an answer that are read."""

HEADERS = {
    "User-Agent": "fsplanfix",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
}


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


def _text(answer: requests.Response) -> str:
    """Return the beginning of an answer as text that the store can hold."""
    body = b""
    for chunk in answer.iter_content(8192):
        body += chunk
        if len(body) >= MAX_BODY_BYTES:
            break

    return clean(body[:MAX_BODY_BYTES].decode("utf-8", "replace")).strip()


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


class PlanfixApi:
    """Posts requests to Planfix.

    url: PLANFIX_URL. token: PLANFIX_TOKEN, added to each request. Both may be "" until `aim` is
    called, and nothing may be sent until then. concurrency: connections kept, which are made with
    the first request. in_words: writes the names of settings as they stand where the account's do.
    """

    def __init__(
        self, url: str, token: str, concurrency: int, in_words: Callable[[str], str] = str
    ) -> None:
        self._token = ""
        self._concurrency = concurrency
        self._in_words = in_words
        self._adapter: HTTPAdapter | None = None
        self._blank: requests.PreparedRequest | None = None
        if url:
            self.aim(url, token)

    @property
    def has_aim(self) -> bool:
        """Tell whether it is known where requests go."""
        return self._blank is not None

    def aim(self, url: str, token: str) -> None:
        """Send requests to this address, with this token."""
        self._token = token
        self._blank = requests.Request("POST", url, headers=HEADERS).prepare()

    def post(self, fields: Mapping[str, str]) -> None:
        """Send one request. Raises TransportError unless Planfix accepts it."""
        self._send(fields, CONNECT_TIMEOUT + READ_TIMEOUT)

    def ask(self, fields: Mapping[str, str], seconds: float) -> dict[str, object]:
        """Send a request within `seconds`; return the JSON object in the answer.

        Raises TransportError.
        """
        text = self._send(fields, seconds)

        try:
            answer = json.loads(text or "{}")
        # deeply nested brackets exceed the recursion limit
        except (ValueError, RecursionError):
            answer = None

        if not isinstance(answer, dict):
            raise TransportError("Planfix's answer is not a JSON object")
        return answer

    def _send(self, fields: Mapping[str, str], seconds: float) -> str:
        """Send one request within `seconds`; return the text of the answer that accepts it."""
        if self._blank is None:
            raise TransportError("it is not known yet which Planfix we belong to")

        # encoded here: requests' own type checks of the body cost more (docs/performance.md)
        request = self._blank.copy()
        request.body = urlencode({**fields, "planfix_token": self._token})
        request.headers["Content-Length"] = str(len(request.body))

        # gevent's limit is for the whole request: READ_TIMEOUT begins anew with every piece read
        try:
            with (
                gevent.Timeout(seconds, TransportError("Planfix did not answer in time")),
                self._pool().send(
                    request, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
                ) as answer,
            ):
                # an error may quote what we sent, and the text is logged and stored
                text = _text(answer).replace(self._token, "***")
                self._judge(answer.status_code, text, answer.headers.get("Retry-After", ""))
                return text
        except requests.exceptions.SSLError:
            raise TransportError(
                "Planfix's certificate is not trusted, or this is not Planfix"
            ) from None
        except requests.exceptions.Timeout:
            raise TransportError("Planfix did not answer in time") from None
        except (requests.exceptions.RequestException, OSError) as error:
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

    def _pool(self) -> HTTPAdapter:
        # 500 accounts at rest need no pool
        if self._adapter is None:
            self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self._concurrency)
        return self._adapter

    def close(self) -> None:
        """Close the connections."""
        if self._adapter is not None:
            self._adapter.close()


def reason(error: BaseException) -> str:
    """Return in plain words why a request reached nobody.

    error: of requests, which wraps urllib3's error, which wraps the system's.
    """
    inner: list[BaseException | None] = [error]
    for one in inner:
        if one is None:
            continue
        if isinstance(one, urllib3.exceptions.NameResolutionError):
            return "its name is not in the DNS"
        if isinstance(one, OSError) and one.errno and one.errno > 0:
            return os.strerror(one.errno)
        wrapped = (getattr(one, "reason", None), *one.args, one.__cause__, one.__context__)
        new = [part for part in wrapped if isinstance(part, BaseException) and part not in inner]
        inner += new
    return type(error).__name__
