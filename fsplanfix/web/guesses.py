"""Who guesses at secrets: wrong tokens are counted per address; too many are answered no more."""

from __future__ import annotations

import ipaddress

from flask import request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter


class Guesses:
    """Wrong secrets by address. a_minute: how many are answered."""

    def __init__(self, a_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(a_minute)
        self._rate = MovingWindowRateLimiter(MemoryStorage())

    def too_many(self, whom: str) -> bool:
        """Tell whether an address has guessed too often."""
        return not self._rate.test(self._limit, whom)

    def note(self, whom: str) -> None:
        """Count a wrong guess."""
        self._rate.hit(self._limit, whom)


def address() -> str:
    """Return who asks.

    Only the web server in front, on this machine, is believed when it names somebody else.
    """
    peer = request.remote_addr or ""
    named = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(named)) if ipaddress.ip_address(peer).is_loopback else peer
    except ValueError:
        return peer
