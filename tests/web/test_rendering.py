"""Pages give way to calls."""

import gevent
from gevent import socket
from gevent.socket import wait_read

from fsplanfix.web.rendering import give_way

PAGES = 5


def test_an_event_that_comes_waits_for_one_page_at_most() -> None:
    done: list[str] = []
    here, there = socket.socketpair()

    def events() -> None:
        """One comes after the other: each with its own look at the sockets."""
        while len(done) < 100:
            there.send(b"x")
            wait_read(here.fileno())
            here.recv(1)
            done.append("event")

    def page() -> None:
        give_way()
        done.append("page")

    calls = gevent.spawn(events)
    gevent.joinall([gevent.spawn(page) for _ in range(PAGES)], raise_error=True)
    calls.kill()
    here.close()
    there.close()
    assert done.count("page") == PAGES
    assert done.count("event") < 100
    assert "page page" not in " ".join(done)
