"""What a request to Planfix comes to, whatever answers."""

import contextlib
import gzip
import os
import resource
import socket
import ssl
from collections.abc import Iterator

import gevent
import pytest
import trustme
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

from fsplanfix.errors import TransportError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi, seconds_to_wait
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import URLS, Clock, complete
from ..support.couriers import only_courier
from ..support.outbox import GROUP
from ..support.service import PATIENCE


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("99999999999999999999", 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2115 07:28:00 GMT", 3600),
        ("\u0661", 0),
    ],
)
def test_what_a_retry_after_asks_for(header: str, seconds: float) -> None:
    assert seconds_to_wait(header) == seconds


def test_a_request_that_drips_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(b" ")
                gevent.sleep(0.02)

    monkeypatch.setattr("fsplanfix.planfix.api.CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr("fsplanfix.planfix.api.READ_TIMEOUT", 0.2)
    server = StreamServer(("127.0.0.1", 0), drip)
    server.start()
    assert "did not answer in time" in str(failure_of(f"http://127.0.0.1:{server.server_port}/"))
    server.stop(timeout=0.1)


def test_a_request_that_was_given_up_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """One place, and it was lost with a request that nobody read."""
    is_silent = True

    def speak(sock: gevent.socket.socket, _: object) -> None:
        if is_silent:
            gevent.sleep(60)
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    server = StreamServer(("127.0.0.1", 0), speak)
    server.start()
    client = PlanfixApi(f"http://127.0.0.1:{server.server_port}/", "planfix-token", concurrency=1)
    with monkeypatch.context() as impatient:
        impatient.setattr("fsplanfix.planfix.api.CONNECT_TIMEOUT", 0.1)
        impatient.setattr("fsplanfix.planfix.api.READ_TIMEOUT", 0.1)
        for large in ("", "x" * 50_000_000):
            with pytest.raises(TransportError, match="in time"):
                client.post({"cmd": large})

    is_silent = False
    client.post({"cmd": "event"})
    client.close()
    server.stop(timeout=0.1)


def test_the_address_that_answers_is_reached_behind_two_that_are_silent(
    monkeypatch: pytest.MonkeyPatch, planfix: Planfix
) -> None:
    """A network that loses what is sent by IPv6, and a Planfix with two addresses of it."""
    monkeypatch.setattr("fsplanfix.planfix.api.CONNECT_TIMEOUT", 0.3)
    client = PlanfixApi(planfix.url, "planfix-token", concurrency=1)
    with silent_address() as silent, monkeypatch.context() as found:
        (answering,) = socket.getaddrinfo("127.0.0.1", planfix.port, 0, socket.SOCK_STREAM)
        addresses = [(*answering[:4], silent)] * 2 + [answering]
        found.setattr("gevent.socket.getaddrinfo", lambda *_: addresses)
        with pytest.raises(TransportError) as caught:
            client.post({"cmd": "event"})
    # what it was asked makes no sense, but it has answered
    assert caught.value.permanent
    client.close()


@contextlib.contextmanager
def silent_address() -> Iterator[tuple[str, int]]:
    """Give an address that answers no SYN: the queue of those that nobody accepts is full."""
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()


def test_a_request_that_waits_for_a_place_ends_though_another_planfix_takes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connections were closed, and a closed pool gives no place back."""
    asked, over = Event(), Event()

    def speak(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        asked.set()
        over.wait(PATIENCE)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    server = StreamServer(("127.0.0.1", 0), speak)
    server.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    client = PlanfixApi(url, "planfix-token", concurrency=1)
    first = gevent.spawn(client.post, {"cmd": "event"})
    assert asked.wait(PATIENCE)

    monkeypatch.setattr("fsplanfix.planfix.api.CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr("fsplanfix.planfix.api.READ_TIMEOUT", 0.1)
    waiting = gevent.spawn(failed, client)
    gevent.sleep(0)
    client.aim(url, "planfix-token")
    over.set()
    first.get(timeout=PATIENCE)
    assert "in time" in waiting.get(timeout=PATIENCE)
    client.post({"cmd": "event"})
    client.close()
    server.stop(timeout=0.1)


def failed(client: PlanfixApi) -> str:
    """Return why a request was not sent."""
    with pytest.raises(TransportError) as caught:
        client.post({"cmd": "event"})
    return str(caught.value)


def test_a_certificate_nobody_signed_is_no_planfix() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = StreamServer(("127.0.0.1", 0), lambda sock, _: sock.close(), ssl_context=context)
    server.start()
    assert "certificate is not trusted" in str(
        failure_of(f"https://127.0.0.1:{server.server_port}/")
    )
    server.stop(timeout=0.1)


def failure_of(url: str, token: str = "planfix-token") -> TransportError:
    client = PlanfixApi(url, token, concurrency=1)
    try:
        with pytest.raises(TransportError) as caught:
            client.post({"cmd": "event"})
    finally:
        client.close()
    assert token not in str(caught.value)
    return caught.value


def test_a_wrong_token_is_not_given_up(planfix: Planfix) -> None:
    assert not failure_of(planfix.url, "wrong").permanent


def test_a_refusal_is_permanent(planfix: Planfix) -> None:
    assert failure_of(planfix.url).permanent


def test_nothing_listening_is_worth_another_try(planfix: Planfix) -> None:
    planfix.stop()
    error = failure_of(planfix.url)
    assert "cannot be reached" in str(error)
    assert not error.permanent


def test_a_web_page_is_no_answer(planfix: Planfix) -> None:
    planfix.answers.append("html")
    assert "is PLANFIX_URL right?" in str(failure_of(planfix.url))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<!doctype html><html",
            "web page came back",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "answered 302",
        ),
        (b"garbage\r\n\r\n", "cannot be reached"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            "cannot be reached",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
            + gzip.compress(b"<html>", mtime=0),
            "web page came back",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "the answer is not HTTP"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 500 \xff\xfe\r\nContent-Length: 2\r\n\r\n\xff\xfe", "answered 500"),
    ],
)
def test_a_strange_answer_is_worth_another_try(answer: bytes, words: str) -> None:
    def speak(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        with contextlib.suppress(OSError):  # we may have heard enough
            sock.sendall(answer)
        sock.close()

    server = StreamServer(("127.0.0.1", 0), speak)
    server.start()
    error = failure_of(f"http://127.0.0.1:{server.server_port}/tel/api")
    server.stop(timeout=0.1)
    assert words in str(error)
    assert not error.permanent


@pytest.mark.parametrize("code", [b"500 Oops", b"400 Bad"])
def test_a_nul_in_an_answer_holds_up_nothing(store: Store, clock: Clock, code: bytes) -> None:
    """PostgreSQL holds no NUL: that answer was written down again and again, its slot never free."""

    def speak(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 " + code + b"\r\nContent-Length: 3\r\n\r\na\0b")
        sock.close()

    server = StreamServer(("127.0.0.1", 0), speak)
    server.start()
    client = PlanfixApi(f"http://127.0.0.1:{server.server_port}/", "planfix-token", concurrency=1)
    courier = only_courier(
        store, client, URLS.url, DeliverySettings(concurrency=1), complete, now=clock
    )
    store.save(GROUP[:1], {}, "s", clock())
    with gevent.Timeout(60):
        courier.step()
        courier.join()
        courier.step()
    (queued,) = Queue(store).listed([State.WAITING, State.REJECTED], 10)
    assert "a\ufffdb" in queued.answer
    assert queued.id not in courier.claims.leases
    client.close()
    server.stop(timeout=0.1)


@pytest.fixture
def high_numbers() -> Iterator[None]:
    """Files opened from now on have numbers above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    with contextlib.ExitStack() as taken:
        while taken.enter_context(open(os.devnull)).fileno() < 1024:
            pass
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("high_numbers")
def test_a_connection_is_kept_however_many_files_are_open() -> None:
    """Each request went over a new one: select knows no file above 1023."""
    peers = []

    def answer(sock: gevent.socket.socket, address: object) -> None:
        peers.append(address)
        while sock.recv(65536):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    server = StreamServer(("127.0.0.1", 0), answer)
    server.start()
    client = PlanfixApi(f"http://127.0.0.1:{server.server_port}/", "planfix-token", concurrency=1)
    for _ in range(3):
        client.post({})
    assert len(peers) == 1
    client.close()
    server.stop(timeout=0.1)


def test_a_connection_that_was_ended_at_rest_is_made_anew() -> None:
    peers = []

    def answer_once(sock: gevent.socket.socket, address: object) -> None:
        peers.append(address)
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    handlers = Pool()
    server = StreamServer(("127.0.0.1", 0), answer_once, spawn=handlers)
    server.start()
    client = PlanfixApi(f"http://127.0.0.1:{server.server_port}/", "planfix-token", concurrency=1)
    for _ in range(3):
        client.post({})
        # the server closes when its handler is over
        handlers.join()
        gevent.sleep(0)
    assert len(peers) == 3
    client.close()
    server.stop(timeout=0.1)
