"""Limits how many wrong secrets a network may send, and finds out who sends a request."""

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
"""Wrong guesses of all networks that are logged; the next line counts those that were not."""

HOST_BITS = 64
"""Bits of an IPv6 address that one host can choose: a limit per address would not stop it."""


def _count_nothing(_: str) -> None:
    """Count nothing."""


class Guesses:
    """Counts wrong secrets by network.

    what: the kind of secret, for the log and the metrics. a_minute: how many of one network are
    answered. count: called with `what` for each.
    """

    def __init__(
        self, what: str, a_minute: int, count: Callable[[str], None] = _count_nothing
    ) -> None:
        self._what = what
        self._limit = RateLimitItemPerMinute(a_minute)
        self._rate = MovingWindowRateLimiter(MemoryStorage())
        self._logged = RateLimitItemPerMinute(LOGGED_A_MINUTE)
        self._count = count
        self._unlogged = 0

    def has_too_many(self, whom: str) -> bool:
        """Tell whether an address's network has guessed too often."""
        return not self._rate.test(self._limit, network(whom))

    def count_wrong(self, whom: str) -> bool:
        """Count a wrong guess; return whether it is to be answered."""
        self._count(self._what)

        # not every line: a flood of guesses must not fill the disk
        if self._rate.hit(self._logged, "log"):
            log.warning(f"wrong_{self._what}", address=whom, not_logged_before=self._unlogged)
            self._unlogged = 0
        else:
            self._unlogged += 1

        return self._rate.hit(self._limit, network(whom))


def address() -> str:
    """Return the address of the sender of the current request.

    X-Forwarded-For counts only if it comes from this machine, from a web server in front of us.
    """
    peer = request.remote_addr or ""
    # the last one is the one that server added; those before it are the sender's own words
    named = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        if not is_loopback(peer):
            return peer
        return str(ipaddress.ip_address(named))
    except ValueError:
        return peer


def is_loopback(peer: str) -> bool:
    """Tell whether an address or a network is this machine's own."""
    return ipaddress.ip_network(_plain(peer), strict=False).is_loopback


def network(whom: str) -> str:
    """Return the network that guesses are counted for: an IPv4 address, the /64 of an IPv6 one.

    Anything that is not an address stays as it is.
    """
    try:
        found = ipaddress.ip_address(_plain(whom))
    except ValueError:
        return whom

    if isinstance(found, ipaddress.IPv6Address) and not found.is_loopback:
        return str(ipaddress.ip_network((found, 128 - HOST_BITS), strict=False))

    return str(found)


def _plain(whom: str) -> str:
    """Return an address without its zone; an IPv4 address mapped into IPv6 as IPv4."""
    bare = whom.partition("%")[0]
    if "." in bare:
        return bare.removeprefix("::ffff:")
    return bare
