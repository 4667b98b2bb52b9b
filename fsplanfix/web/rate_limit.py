"""Who asks, and who guesses at secrets: wrong ones are counted per network, logged, and slowed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import structlog
from flask import request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

log = structlog.get_logger(__name__)

LOGGED_A_MINUTE = 10
"""Wrong guesses that are logged, of whomever; the next line says how many were not."""

HOST_BITS = 64
"""Bits of an IPv6 address that whoever has a network sets at will."""


def _pass_over(_: str) -> None:
    """Count nothing."""


class Guesses:
    """Wrong secrets by network.

    what: the secret, for the log and the numbers. a_minute: how many of a network are answered.
    count: is told of each.
    """

    def __init__(self, what: str, a_minute: int, count: Callable[[str], None] = _pass_over) -> None:
        self._what = what
        self._limit = RateLimitItemPerMinute(a_minute)
        self._rate = MovingWindowRateLimiter(MemoryStorage())
        self._logged = RateLimitItemPerMinute(LOGGED_A_MINUTE)
        self._count = count
        self._unlogged = 0

    def too_many(self, whom: str) -> bool:
        """Tell whether an address's network has guessed too often."""
        return not self._rate.test(self._limit, network(whom))

    def note(self, whom: str) -> bool:
        """Count a wrong guess, log it unless there are many; tell whether it is to be answered."""
        self._count(self._what)
        if self._rate.hit(self._logged, "log"):
            log.warning(f"wrong_{self._what}", address=whom, not_logged_before=self._unlogged)
            self._unlogged = 0
        else:
            self._unlogged += 1
        return self._rate.hit(self._limit, network(whom))


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
