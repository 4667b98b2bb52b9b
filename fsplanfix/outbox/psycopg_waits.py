"""Keeps psycopg from waiting where nothing has to be waited for.

psycopg asks before each command of a pipeline whether it may write. With gevent each such question
is a round of the event loop, and forty rows of an INSERT were forty rounds (docs/performance.md).
Imported only where PostgreSQL is used.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from gevent.monkey import get_original
from psycopg.waiting import Ready, Wait

T = TypeVar("T")
Waits = Generator[Wait, Ready | int, T]
"""What psycopg's work is to its connection: it yields what it waits for, and returns the result."""

# what it warns of is raised as well, and its own lines are none of our log's
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

_poll = get_original("select", "poll")

_EVENTS = {
    Wait.R: select.POLLIN,
    Wait.W: select.POLLOUT,
    Wait.RW: select.POLLIN | select.POLLOUT,
}
_READY = {
    select.POLLIN: Ready.R,
    select.POLLOUT: Ready.W,
    select.POLLIN | select.POLLOUT: Ready.RW,
}


class Connection(psycopg.Connection[Any]):
    """A connection whose greenlet goes on while its socket is ready."""

    def wait(self, gen: Waits[T], *args: Any, **kwargs: Any) -> T:
        """Let psycopg's work go on until it ends; return its result."""
        return super().wait(_going_on(gen, self.pgconn.socket), *args, **kwargs)


def connect(_: Any, __: Any, arguments: Any, settings: Any) -> Connection:
    """Return a new connection, as SQLAlchemy's event "do_connect" asks for it."""
    return Connection.connect(*arguments, **settings)


def _going_on(work: Waits[T], descriptor: int) -> Waits[T]:
    """Yield what the work has to wait for, and nothing that is ready already."""
    poll = _poll()
    try:
        wanted = next(work)
        while True:
            poll.register(descriptor, _EVENTS[wanted])
            found = poll.poll(0)
            # anything else is an error, which psycopg looks into itself
            ready = _READY.get(found[0][1]) if found else None
            wanted = work.send((yield wanted) if ready is None else ready)
    except StopIteration as end:
        result: T = end.value
        return result
