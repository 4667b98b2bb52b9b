"""The server that the dialplan's `socket` application connects to, over real sockets."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from unicodedata import category

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.freeswitch import socket_app
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.freeswitch.socket_app import FindVariables, SocketApp, clean
from fsplanfix.simulators.channel import Channel, Phones
from fsplanfix.simulators.dialplan import Dialplan
from fsplanfix.simulators.freeswitch import Switch

from ..support.dialplan_socket import CHANNEL_DATA, connect, read_until

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")]


def ivan(channel: SwitchEvent, seconds: float) -> dict[str, str]:
    return {"effective_caller_id_name": "Иванов Иван", "planfix_manager": "103"}


@contextmanager
def serving(
    variables: FindVariables = ivan,
    deadline: float = 30,
    allowed: socket_app.Networks = LOOPBACK,
    host: str = "127.0.0.1",
) -> Iterator[SocketApp]:
    app = SocketApp((host, 0), allowed, variables, deadline)
    running = gevent.spawn(app.run)
    assert app.listening.wait(30)
    yield app
    app.stop()
    running.join(30)


def test_the_conversation_is_the_one_a_real_freeswitch_had() -> None:
    seen: list[SwitchEvent] = []

    def variables(channel: SwitchEvent, seconds: float) -> dict[str, str]:
        seen.append(channel)
        return ivan(channel, seconds)

    with serving(variables) as app, connect(app) as sock:
        assert read_until(sock, b"\n\n") == b"connect\n\n"
        sock.sendall(CHANNEL_DATA.encode())
        said = read_until(sock, b"exit\n\n").decode()
        sock.sendall(b"Content-Type: command/reply\nReply-Text: +OK\n\n" * 4)
        assert read_until(sock, b"never") == b""
    message = "sendmsg\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: "
    assert said == (
        f"{message}effective_caller_id_name=Иванов Иван\n\n"
        f"{message}planfix_manager=103\n\n"
        "resume\n\n"
        "exit\n\n"
    )
    assert seen[0].leg == "2a7e0744-b938-4b71-9b5e-178f05569788"
    assert seen[0].get("Caller-Caller-ID-Number") == "79161234567"
    assert app.held == 0


def test_five_hundred_calls_at_once_are_all_greeted() -> None:
    with serving(deadline=60) as app:
        socks = [connect(app) for _ in range(500)]
        jobs = [gevent.spawn(read_until, sock, b"\n\n") for sock in socks]
        gevent.joinall(jobs, timeout=60)
        assert [job.value for job in jobs] == [b"connect\n\n"] * 500
        assert app.held == 500
        for sock in socks:
            sock.close()


@pytest.mark.parametrize(
    "says", [b"", b"garbage", b"\n\n\n\n", b"a" * 400_000, b"Event-Name: CHANNEL_DATA\n", b"\0" * 9]
)
def test_whatever_comes_a_call_is_not_held_longer_than_the_deadline(says: bytes) -> None:
    with serving(deadline=0.5) as app, connect(app) as sock:
        said = read_until(sock, b"\n\n")
        try:
            sock.sendall(says)
            said += read_until(sock, b"never")  # the server ends it: we never do
        except ConnectionError:
            said += b"resume\n\nexit\n\n"
        assert said.startswith(b"connect\n\n")
        assert said.endswith(b"resume\n\nexit\n\n")
        gevent.sleep(0)
        assert app.held == 0


def test_a_peer_that_never_answers_a_command_is_left(switch: Switch) -> None:
    with serving(deadline=0.4) as app, connect(app) as sock:
        read_until(sock, b"\n\n")
        sock.sendall(CHANNEL_DATA.encode())
        assert read_until(sock, b"never").endswith(b"resume\n\nexit\n\n")


def test_a_mistake_of_ours_lets_the_call_go_on() -> None:
    def crash(channel: SwitchEvent, seconds: float) -> dict[str, str]:
        raise KeyError("a mistake")

    with serving(crash) as app, connect(app) as sock:
        read_until(sock, b"\n\n")
        sock.sendall(CHANNEL_DATA.encode())
        assert read_until(sock, b"never") == b"resume\n\nexit\n\n"


def test_a_value_with_a_line_break_is_never_sent() -> None:
    with serving(lambda channel, seconds: {"x": "a\n\nexit"}) as app, connect(app) as sock:
        read_until(sock, b"\n\n")
        sock.sendall(CHANNEL_DATA.encode())
        assert read_until(sock, b"never") == b"resume\n\nexit\n\n"


def test_strangers_are_turned_away() -> None:
    with serving(allowed=[ipaddress.ip_network("192.0.2.0/24")]) as app, connect(app) as sock:
        assert read_until(sock, b"\n\n") == b""


def test_one_call_too_many_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_app, "MOST_CALLS_HELD", 2)
    with serving() as app:
        first, second, third = (connect(app) for _ in range(3))
        assert [read_until(sock, b"\n\n") for sock in (first, second, third)] == [
            b"connect\n\n"
        ] * 2 + [b""]
        for sock in (first, second, third):
            sock.close()


def test_it_listens_on_ipv6_too() -> None:
    with serving(host="::1") as app:
        port = int(app.address.rpartition(":")[2])
        with socket.create_connection(("::1", port), timeout=60) as sock:
            assert read_until(sock, b"\n\n") == b"connect\n\n"


def test_a_command_that_freeswitch_refuses_does_not_stop_the_others(
    switch: Switch, tmp_path: object
) -> None:
    with serving(lambda channel, seconds: {"": "x", "planfix_manager": "103"}) as app:
        plan = Dialplan([], {})
        call = Channel(switch, plan, Phones(), "79161234567", "74950000001", socket_resume="true")
        call._socket(f"{app.address} async full")
    assert call.variables["planfix_manager"] == "103"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Иванов Иван", "Иванов Иван"),
        ("ACME, Ltd", "ACME Ltd"),
        ("ООО «Ромашка»", "ООО «Ромашка»"),
        ("ООО Ромашка/Иванов", "ООО Ромашка Иванов"),
        ("/a//b/", "a b"),
        ("O'Brien", "O’Brien"),
        ('a"b', "a b"),
        ("a\nb\r\0c\u2028d\u202ee", "a b c d e"),
        ("${system(reboot)}", "system(reboot)"),
        ("%0AUnique-ID: x", "0AUnique-ID x"),
        ("[x=1]{y=2}<z>^^:a|b&c:_:d;e=f\\g`h", "x 1 y 2 z a b c _ d e f g h"),
        ("😀 Anna", "Anna"),
        ("Б" * 10_000, "Б" * 60),
        (" " * 100 + "x", "x"),
        ("e\u0301", "é"),
        ("\ud800x", "x"),
        ("", ""),
    ],
)
def test_names_are_cleaned(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(st.text(max_size=200))
def test_a_cleaned_name_holds_nothing_freeswitch_gives_a_meaning_to(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 60
    assert not set(cleaned) & set("/\"'`\\,;|^:=$&{}[]<>%\n\r\t\0!~#*@?")
    assert all(
        category(char)[0] in "LMNPSZ" and category(char) not in ("Zl", "Zp") for char in cleaned
    )
    assert clean(cleaned) == cleaned
