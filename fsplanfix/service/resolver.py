"""Looks up addresses by name: one whose DNS does not answer keeps no other name waiting.

gevent has ten threads for this. Calls of a company whose Planfix's name hung took all of them, one
for each caller, and a notice of another company waited 8 s for its own name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.monkey import get_original
from gevent.resolver import thread
from gevent.threadpool import ThreadPool

NAMES_AT_ONCE = 64
"""Names that are looked up at the same time; each takes a thread and an open file."""

_look_up = get_original("socket", "getaddrinfo")


class Resolver(thread.Resolver):
    """Looks up each name once at a time, for whoever asks. look_up: as socket.getaddrinfo."""

    def __init__(self, look_up: Callable[..., Any] = _look_up) -> None:
        super().__init__()
        self.pool = ThreadPool(NAMES_AT_ONCE)
        self._look_up = look_up
        self._under_way: dict[Any, AsyncResult[Any]] = {}

    def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """Return what socket.getaddrinfo does, which raises OSError."""
        # a number is no question: with a thread for each, callers waited longer (bench, held)
        if args and _is_address(args[0]):
            return self._look_up(*args, **kwargs)

        asked = args, tuple(sorted(kwargs.items()))
        if asked not in self._under_way:
            self._under_way[asked] = AsyncResult()
            # whoever asked first may not have the time to wait for it
            gevent.spawn(self._find, asked, kwargs)
        return self._under_way[asked].get()

    def _find(self, asked: tuple[tuple[Any, ...], Any], kwargs: dict[str, Any]) -> None:
        found = self._under_way[asked]
        try:
            found.set(self.pool.apply(self._look_up, asked[0], kwargs))
        # UnicodeError for a name that cannot be one
        except (OSError, ValueError, TypeError) as error:
            found.set_exception(error)
        finally:
            del self._under_way[asked]


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return True


def install() -> None:
    """Let this thread's greenlets look up names in this way."""
    # gevent does not name the class that its own resolvers share
    gevent.get_hub().resolver = Resolver()  # type: ignore[assignment]
