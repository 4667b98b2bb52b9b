"""Requests to addresses from outside, as Planfix and browsers see them."""

from __future__ import annotations

import socket
import ssl
import time
from urllib.parse import urlsplit

import gevent
import requests

from ..errors import TransportError


def fetch(url: str, seconds: float) -> tuple[int, int]:
    """Fetch a public address as Planfix does; return the code and the number of bytes.

    Raises TransportError.
    """
    try:
        late = TransportError("no answer in time")
        # requests' own timeout counts anew with every byte that arrives
        with gevent.Timeout(seconds, late), requests.Session() as session:
            session.trust_env = False  # Planfix does not use our proxy
            answer = session.get(url, timeout=seconds, allow_redirects=False)
            return answer.status_code, len(answer.content)
    except requests.exceptions.SSLError:
        raise TransportError("the certificate is not trusted") from None
    except (requests.exceptions.RequestException, OSError) as error:
        raise TransportError(f"it cannot be reached ({type(error).__name__})") from None


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
