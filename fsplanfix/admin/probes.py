"""Requests to addresses from outside, as Planfix and browsers see them."""

from __future__ import annotations

import socket
import ssl
import time
from urllib.parse import urlsplit

import gevent
import requests
import urllib3

from ..errors import TransportError
from ..planfix.api import reason

LONGEST_ANSWER = 100_000
"""Bytes that are looked at."""


def fetch(url: str, seconds: float) -> tuple[int, bytes]:
    """Fetch an address as Planfix does; return the code and the beginning of the content.

    Raises TransportError.
    """
    try:
        late = TransportError("no answer in time")
        # requests' own timeout counts anew with every byte that arrives
        with gevent.Timeout(seconds, late), requests.Session() as session:
            session.trust_env = False  # Planfix does not use our proxy
            answer = session.get(url, timeout=seconds, allow_redirects=False, stream=True)
            return answer.status_code, answer.raw.read(LONGEST_ANSWER, decode_content=True)
    except requests.exceptions.SSLError:
        raise TransportError("the certificate is not trusted") from None
    except requests.exceptions.RequestException as error:
        raise TransportError(f"it cannot be reached ({reason(error)})") from None
    except (urllib3.exceptions.HTTPError, OSError):
        raise TransportError("it cannot be reached (the connection broke off)") from None


def days_left(url: str, seconds: float) -> float | None:
    """Return how many days an https certificate still lasts, None if it is not trusted."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None

    try:
        context = ssl.create_default_context(cafile=requests.utils.DEFAULT_CA_BUNDLE_PATH)
        with (
            socket.create_connection((parts.hostname, parts.port or 443), timeout=seconds) as sock,
            context.wrap_socket(sock, server_hostname=parts.hostname) as secure,
        ):
            ends = (secure.getpeercert() or {}).get("notAfter")
    except OSError:
        return None

    if not isinstance(ends, str):
        return None
    return (ssl.cert_time_to_seconds(ends) - time.time()) / 86400
