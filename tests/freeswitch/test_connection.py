import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fsplanfix.errors import LinkDown, LinkTimeout, LoginRefused, UnsafeCommand
from fsplanfix.freeswitch.connection import Connection, Server, live_channels

from ..support.peers import frame, keep_open, log_in, peer, read_command
from ..support.service import environment
from ..support.switches import Followed, connection, switch
from .faults import SCENARIOS, Opened, wait_for


class Ours:
    def __init__(self, host: str, port: int, seen: list[tuple[str, str]]) -> None:
        self.link = Connection(
            Server(host, port, "ClueCon"),
            lambda event: seen.append((event.name, event.leg)),
            login_timeout=2,
            silence=2,
        )
        self.link.connect()

    def send(self, data: str) -> Any:
        return self.link.send(data)

    def connected(self) -> bool:
        return bool(self.link.connected)

    def stop(self) -> None:
        self.link.stop()


def opened(host: str, port: int, seen: list[tuple[str, str]]) -> Opened:
    return Ours(host, port, seen)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_link_survives(name: str) -> None:
    SCENARIOS[name](opened)


@pytest.mark.parametrize("name", SCENARIOS)
def test_stock_greenswitch_does_not(name: str) -> None:
    """A scenario that stock greenswitch passed would prove nothing. It may also hang for good: then it has failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.freeswitch.faults", name],
            env=environment(),
            check=False,
            capture_output=True,
            timeout=10,
        )
    except subprocess.TimeoutExpired:
        return
    assert done.returncode != 0, done.stdout


def test_only_the_asked_for_events_arrive() -> None:
    with switch() as simulated, connection(simulated) as (link, seen):
        link.subscribe(["CHANNEL_CREATE", "CHANNEL_HANGUP_COMPLETE"])
        simulated.play("in_one_answered", speed=0)
        assert wait_for(lambda: len(seen) == 4)
        assert [event.name for event in seen] == ["CHANNEL_CREATE"] * 2 + [
            "CHANNEL_HANGUP_COMPLETE"
        ] * 2


@contextmanager
def refusing(reason: bytes) -> Iterator[Connection]:
    """Give a connection to a FreeSWITCH that refuses its first command."""

    def script(sock: Any) -> None:
        log_in(sock)
        sock.recv(4096)
        sock.sendall(b"Content-Type: command/reply\nReply-Text: -ERR " + reason + b"\n\n")
        keep_open(sock)

    with peer(script) as port:
        link = Connection(Server("127.0.0.1", port, "x"), lambda event: None)
        link.connect()
        yield link
        link.stop()


def test_a_refused_subscription_is_an_error() -> None:
    with (
        refusing(b"no keywords supplied") as link,
        pytest.raises(Exception, match="refused the event subscription"),
    ):
        link.subscribe(["NONSENSE"])


def test_api_answers_with_text() -> None:
    with switch() as simulated, connection(simulated) as (link, _):
        assert link.api("sofia_contact 105@127.0.0.1") == "error/user_not_registered"
        assert link.api("show channels as json") == '{"row_count": 0}\n'
        assert link.api("nosuchcommand") == "-ERR nosuchcommand Command not found!\n"


def test_bgapi_answers_with_what_the_job_came_to() -> None:
    with switch() as simulated, connection(simulated) as (link, _):
        link.subscribe(["CHANNEL_CREATE"])
        assert (
            link.bgapi("originate {x=1}user/105@127.0.0.1 &park()", timeout=30)
            == "-ERR USER_NOT_REGISTERED"
        )
        assert (
            link.bgapi("originate {x=1}user/999@127.0.0.1 &park()", timeout=30)
            == "-ERR SUBSCRIBER_ABSENT"
        )


def test_a_job_that_is_never_done_times_out() -> None:
    with (
        switch() as simulated,
        connection(simulated) as (link, _),
        pytest.raises(LinkTimeout, match="background"),
    ):
        link.bgapi("status", timeout=0.05)  # no subscription: the BACKGROUND_JOB never comes


def test_a_refused_background_command_is_an_error() -> None:
    with (
        refusing(b"no") as link,
        pytest.raises(Exception, match="refused a background command: -ERR no"),
    ):
        link.bgapi("status", timeout=30)


@pytest.mark.parametrize("break_", ["\n", "\r", "\n\n", "\0"])
def test_a_line_break_never_leaves_the_house(break_: str) -> None:
    with switch() as simulated, connection(simulated) as (link, _):
        for call in (link.api, lambda text: link.bgapi(text, 1)):
            with pytest.raises(UnsafeCommand):
                call(f"status{break_}api shutdown")
        assert simulated.commands == []


def test_a_command_to_a_stalled_switch_times_out() -> None:
    with switch() as simulated, connection(simulated) as (link, _):
        simulated.stall()
        with pytest.raises(LinkTimeout, match="did not answer in 0.05 s"):
            link.send("api status", timeout=0.05)


def test_a_command_after_the_end_says_so() -> None:
    with switch() as simulated, connection(simulated) as (link, _):
        simulated.drop()
        assert link.down.wait(30)
        with pytest.raises(LinkDown, match="no connection"):
            link.api("status")


def test_a_wrong_password_is_named_with_its_fix_and_never_shown() -> None:
    with switch(password="another") as simulated, pytest.raises(LoginRefused) as caught:
        Connection(Server("127.0.0.1", simulated.port, "hunter2"), lambda event: None).connect()
    assert "event_socket.conf.xml" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_acl_refusal_is_named_with_its_fix() -> None:
    with switch() as simulated:
        simulated.refuse_addresses = True
        with pytest.raises(LoginRefused, match="apply-inbound-acl"):
            Connection(Server("127.0.0.1", simulated.port, "ClueCon"), lambda event: None).connect()


def test_a_peer_that_closes_at_once_is_named() -> None:
    with (
        peer(lambda sock: None) as port,
        pytest.raises(LinkDown, match="closed the connection before the login"),
    ):
        Connection(Server("127.0.0.1", port, "x"), lambda event: None).connect()


def test_nothing_listening_is_named_with_its_fix() -> None:
    with switch() as simulated:
        port = simulated.port
    with pytest.raises(LinkDown, match="is it running"):
        Connection(Server("127.0.0.1", port, "ClueCon"), lambda event: None).connect()


def test_a_server_is_named_like_an_address() -> None:
    assert Server("::1", 8021, "x").name == "[::1]:8021"
    assert Server("pbx.example.com", 8021, "x").name == "pbx.example.com:8021"


def test_forged_headers_stay_values() -> None:
    with switch() as simulated:
        followed = Followed(simulated.port)
        assert followed.up.wait(30)
        simulated.forge("X-Evil", "a%0AUnique-ID: forged%0AEvent-Name: CHANNEL_HANGUP")
        assert wait_for(lambda: len(followed.seen) == 1)
        followed.stop()
    assert followed.seen[0].name == "CHANNEL_CREATE"
    assert followed.seen[0].leg != "forged"
    assert (
        followed.seen[0].get("variable_sip_h_X-Evil")
        == "a\nUnique-ID: forged\nEvent-Name: CHANNEL_HANGUP"
    )


def test_a_switch_that_never_tells_of_its_channels_is_followed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fsplanfix.freeswitch.connection.ACCOUNT_TIMEOUT", 0.1)
    event = b"Event-Name: CHANNEL_CREATE\nUnique-ID: a\n\n"

    def script(sock: Any) -> None:
        log_in(sock)
        sock.recv(4096)
        sock.sendall(
            b"Content-Type: command/reply\nReply-Text: +OK event listener enabled plain\n\n"
            + frame(event)
        )
        keep_open(sock)

    with peer(script) as port:
        followed = Followed(port)
        assert wait_for(lambda: bool(followed.seen))
        followed.stop()
    assert (followed.cores, followed.ups) == ([""], [None])


@pytest.mark.parametrize(
    ("shown", "channels"),
    [
        (b'{"row_count":0}', []),
        # a Call-ID as a UUID; what cannot be asked about is live all the same
        (
            b'{"rows":[{"uuid":"1-2@192.0.2.1"},{"uuid":"a\\"b"},{"uuid":"a b"}]}',
            [{"Unique-ID": "1-2@192.0.2.1", "Channel-Name": "y"}, {"Unique-ID": 'a"b'}],
        ),
        (b"[" * 100_000, None),
        (b'{"rows": [5]}', None),
        (b'{"rows": {"uuid": "x"}}', None),
        (b"-ERR permission denied", None),
    ],
)
def test_whatever_freeswitch_says_of_its_channels_is_read_with_care(
    shown: bytes, channels: list[dict[str, str]] | None
) -> None:
    asked: list[bytes] = []

    def script(sock: Any) -> None:
        log_in(sock)
        while command := read_command(sock):
            asked.append(command.strip())
            uuid = b'{"Unique-ID": "1-2@192.0.2.1", "Channel-Name": "y"}'
            sock.sendall(frame(shown if b"show" in command else uuid, b"api/response"))

    with peer(script) as port:
        link = Connection(Server("127.0.0.1", port, "x"), lambda event: None)
        link.connect()
        assert live_channels(link) == channels
        link.stop()
    assert asked == [
        b"api show channels as json",
        *([b"api uuid_dump 1-2@192.0.2.1 json"] if channels else []),
    ]
