"""Who guesses at secrets: wrong tokens are counted per address; too many are answered no more."""

from __future__ import annotations

import ipaddress

from flask import request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

HOST_BITS = 64
"""Bits of an IPv6 address that whoever has a network sets at will."""


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
        return str(ipaddress.ip_address(named)) if is_loopback(peer) else peer
    except ValueError:
        return peer


def is_loopback(peer: str) -> bool:
    """Tell whether an address, or network, is this machine's own."""
    return ipaddress.ip_network(_plain(peer), strict=False).is_loopback


def network(whom: str) -> str:
    """Return whose an address is: itself, or the /64 of an IPv6 address; "" stays ""."""
    try:
        found = ipaddress.ip_address(_plain(whom))
    except ValueError:
        return whom
    if isinstance(found, ipaddress.IPv6Address) and not found.is_loopback:
        return str(ipaddress.ip_network((found, 128 - HOST_BITS), strict=False))
    return str(found)


def _plain(whom: str) -> str:
    """Return an address without its zone, IPv4 in IPv6 as IPv4."""
    bare = whom.partition("%")[0]
    return bare.removeprefix("::ffff:") if "." in bare else bare
