"""The courier against the strict stand-in, over real HTTP."""

import time
from collections.abc import Iterator

import gevent
import pytest
from gevent.server import StreamServer

from fsplanfix.errors import TransportError
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.client import Client
from fsplanfix.planfix.courier import Courier
from fsplanfix.recordings.links import Links
from fsplanfix.simulators.crm import Planfix

from ..outbox.test_store import GROUP
from ..recordings import events, told

LINKS = Links("https://pbx.example.com", "key")


class Clock:
    """The real time, moved forward at will."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(planfix: Planfix) -> Iterator[Client]:
    made = Client(planfix.url, "planfix-token", concurrency=16)
    yield made
    made.close()


@pytest.fixture
def courier(store: Store, client: Client, clock: Clock) -> Courier:
    return Courier(store, client, LINKS.link, concurrency=16, now=clock)


def send_all(courier: Courier) -> None:
    while courier.step():
        courier.finish(10)


def test_planfix_gets_a_whole_group_call_in_order(courier: Courier, store: Store, planfix: Planfix) -> None:
    store.save(told(events("group_answered")), {}, "s", time.time())
    send_all(courier)
    assert len(planfix.accepted) == 8
    assert planfix.accepted[0]["event"] == "INCOMING"
    assert planfix.accepted[-1]["cmd"] == "record"
    assert planfix.history.surprises == []
    assert store.counts() == {"done": 8}


def test_twenty_windows_open_within_two_round_trips(courier: Courier, store: Store, planfix: Planfix) -> None:
    """Each answer takes 100 ms; one after the other they would take two seconds."""
    from fsplanfix.calls.model import Kind

    from ..outbox.test_store import notice

    planfix.delay = 0.1
    store.save([notice(Kind.INCOMING, str(100 + n), n) for n in range(1, 21)], {}, "s", time.time())
    runner = gevent.spawn(courier.run)
    begun = time.monotonic()
    planfix.wait_for(lambda crm: len(crm.accepted) == 17)
    assert time.monotonic() - begun < 1.0
    planfix.wait_for(lambda crm: len(crm.accepted) == 20)
    courier.stop()
    runner.join()
    courier.finish(5)


def test_a_refused_request_is_set_aside_and_the_rest_goes(courier: Courier, store: Store, planfix: Planfix) -> None:
    planfix.answers.append(400)
    store.save(GROUP[:2], {}, "s", time.time())
    send_all(courier)
    assert store.counts() == {"dead": 1, "done": 1}
    assert len(planfix.received) == 2


@pytest.mark.parametrize("failure", [401, 403, 404, 429, 500, 502, 503, "html", "drop"])
def test_anything_else_is_tried_again(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock, failure: int | str
) -> None:
    planfix.answers.append(failure)
    store.save(GROUP[:1], {}, "s", clock())
    send_all(courier)
    assert store.counts() == {"waiting": 1}
    clock.ahead += 1.3
    send_all(courier)
    assert store.counts() == {"done": 1}
    assert len(planfix.accepted) == 1


def test_tries_end_after_three_days(courier: Courier, store: Store, planfix: Planfix, clock: Clock) -> None:
    store.save(GROUP[:1], {}, "s", clock())
    planfix.answers.extend([500, 500])
    send_all(courier)
    clock.ahead += 73 * 3600
    send_all(courier)
    assert store.counts() == {"dead": 1}


def test_a_notice_is_sent_when_it_is_called_for(courier: Courier, store: Store, planfix: Planfix) -> None:
    runner = gevent.spawn(courier.run)
    gevent.sleep(0)
    store.save(GROUP[:1], {}, "s", time.time())
    courier.call()
    planfix.wait_for(lambda crm: len(crm.accepted) == 1, timeout=3)
    courier.stop()
    runner.join()
    courier.finish(5)


def failure_of(url: str, token: str = "planfix-token") -> TransportError:
    client = Client(url, token, concurrency=1)
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
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<!doctype html><html", "web page came back"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (b"garbage\r\n\r\n", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "cannot be reached"),
        (b"HTTP/1.1 500 \xff\xfe\r\nContent-Length: 2\r\n\r\n\xff\xfe", "answered 500"),
    ],
)
def test_a_strange_answer_is_worth_another_try(answer: bytes, words: str) -> None:
    def speak(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        sock.sendall(answer)
        sock.close()

    server = StreamServer(("127.0.0.1", 0), speak)
    server.start()
    error = failure_of(f"http://127.0.0.1:{server.server_port}/tel/api")
    server.stop(timeout=0.1)
    assert words in str(error)
    assert not error.permanent
