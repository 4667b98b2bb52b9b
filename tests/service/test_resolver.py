"""Addresses are looked up by name, and a name that hangs is nothing to the others."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.monkey import get_original

from fsplanfix.service.resolver import Resolver

from ..support.service import PATIENCE

HANGS, WORKS = "hangs.example", "works.example"


class Dns:
    """Answers for all names but one, for which threads wait until `answers` is free."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = get_original("_thread", "allocate_lock")()
        self.answers.acquire()

    def look_up(self, host: str, port: int) -> list[tuple[str, int]]:
        self.asked.append(host)
        if host == HANGS:
            self.answers.acquire()
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(host, port)]


@pytest.fixture
def dns() -> Iterator[Dns]:
    one = Dns()
    yield one
    one.answers.release()


def test_a_name_that_hangs_keeps_no_other_waiting(dns: Dns) -> None:
    resolver = Resolver(dns.look_up)
    waiting = [gevent.spawn(outcome, resolver.getaddrinfo, HANGS, 443) for _ in range(200)]
    with gevent.Timeout(PATIENCE):
        while HANGS not in dns.asked:
            gevent.sleep(0)
        assert resolver.getaddrinfo(WORKS, 443) == [(WORKS, 443)]
    # as when a request's time is over: the others go on waiting for the same answer
    waiting[0].kill()
    assert not any(job.ready() for job in waiting[1:])
    dns.answers.release()
    gevent.joinall(waiting, timeout=PATIENCE)
    assert {job.value for job in waiting[1:]} == {socket.EAI_AGAIN}
    assert dns.asked == [HANGS, WORKS]


def test_a_name_is_looked_up_again_the_next_time(dns: Dns) -> None:
    resolver = Resolver(dns.look_up)
    for _ in range(2):
        assert resolver.getaddrinfo(WORKS, 443) == [(WORKS, 443)]
    assert dns.asked == [WORKS, WORKS]


def outcome(look_up: Callable[..., Any], *args: Any) -> Any:
    try:
        return look_up(*args)
    except socket.gaierror as error:
        return error.errno


def test_an_address_takes_no_thread() -> None:
    identity = get_original("_thread", "get_ident")
    threads: set[int] = set()

    def look_up(*_: object, **__: object) -> list[str]:
        threads.add(identity())
        return ["found"]

    resolver = Resolver(look_up)
    for host in ("127.0.0.1", "::1"):
        assert resolver.getaddrinfo(host, 80) == ["found"]
    assert threads == {identity()}
