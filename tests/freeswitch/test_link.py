import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from gevent.event import Event

from fsplanfix.errors import LinkDown, LinkTimeout, LoginRefused, UnsafeCommand
from fsplanfix.freeswitch.connection import Connection, Server, live_channels
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.freeswitch.link import Gap, Link, NoFollower
from fsplanfix.simulators.freeswitch import Switch

from ..support.peers import frame, keep_open, log_in, peer, read_command
from ..support.service import environment
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


@contextmanager
def switch(**options: Any) -> Iterator[Switch]:
    simulated = Switch(**options)
    simulated.start()
    try:
        yield simulated
    finally:
        simulated.stop()


@contextmanager
def connection(
    simulated: Switch, silence: float = 45.0
) -> Iterator[tuple[Connection, list[SwitchEvent]]]:
    seen: list[SwitchEvent] = []
    opened = Connection(
        Server("127.0.0.1", simulated.port, "ClueCon"), seen.append, silence=silence
    )
    opened.connect()
    try:
        yield opened, seen
    finally:
        opened.stop()


def test_only_the_asked_for_events_arrive() -> None:
    with switch() as simulated, connection(simulated) as (link, seen):
        link.subscribe(["CHANNEL_CREATE", "CHANNEL_HANGUP_COMPLETE"])
        simulated.play("in_one_answered", speed=0)
        assert wait_for(lambda: len(seen) == 4)
        assert [event.name for event in seen] == ["CHANNEL_CREATE"] * 2 + [
            "CHANNEL_HANGUP_COMPLETE"
        ] * 2


def test_a_refused_subscription_is_an_error() -> None:
    def script(sock: Any) -> None:
        log_in(sock)
        sock.recv(4096)
        sock.sendall(b"Content-Type: command/reply\nReply-Text: -ERR no keywords supplied\n\n")
        keep_open(sock)

    with peer(script) as port:
        link = Connection(Server("127.0.0.1", port, "x"), lambda event: None)
        link.connect()
        with pytest.raises(Exception, match="refused the event subscription"):
            link.subscribe(["NONSENSE"])
        link.stop()


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
    def script(sock: Any) -> None:
        log_in(sock)
        sock.recv(4096)
        sock.sendall(b"Content-Type: command/reply\nReply-Text: -ERR no\n\n")
        keep_open(sock)

    with peer(script) as port:
        link = Connection(Server("127.0.0.1", port, "x"), lambda event: None)
        link.connect()
        with pytest.raises(Exception, match="refused a background command: -ERR no"):
            link.bgapi("status", timeout=30)
        link.stop()


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


class Followed:
    """A Link in a greenlet, with what it reported."""

    def __init__(self, port: int, silence: float = 45.0) -> None:
        self.seen: list[SwitchEvent] = []
        self.ups: list[Sequence[Mapping[str, str]] | None] = []
        self.cores: list[str] = []
        self.up = Event()
        server = Server("127.0.0.1", port, "ClueCon")
        self.link = Link(server, ["CHANNEL_CREATE"], self, silence)
        self.greenlet = gevent.spawn(self.link.run)

    def on_event(self, event: SwitchEvent) -> None:
        self.seen.append(event)

    def on_reconnect(self, gap: Gap) -> None:
        self.cores.append(gap.core)
        self.ups.append(gap.live_channels())
        self.seen += gap.release()
        self.up.set()

    def on_end(self, held: list[SwitchEvent]) -> None:
        self.seen += held

    @property
    def reason(self) -> str:
        """Why the connection ended, once it has."""
        connection = self.link.connection
        assert connection is not None
        assert connection.down.wait(30)
        return connection.reason

    def stop(self) -> None:
        self.greenlet.kill()


def test_the_link_comes_back_after_a_cut() -> None:
    with switch() as simulated:
        followed = Followed(simulated.port)
        assert followed.up.wait(30)
        assert wait_for(lambda: followed.link.connection is not None)
        simulated.drop()
        assert followed.reason.startswith(("FreeSWITCH closed the connection", "connection lost"))
        assert wait_for(lambda: len(followed.ups) == 2)
        simulated.play("in_one_answered", speed=0)
        assert wait_for(lambda: len(followed.seen) == 2)
        followed.stop()
    assert followed.link.connection is None


def test_what_a_link_holds_when_it_is_ended_between_two_connections_is_handed_over() -> None:
    """FreeSWITCH went away before it could be asked what was missed, and we were stopped."""

    class Asking(Followed):
        def on_reconnect(self, gap: Gap) -> None:
            simulated.play("in_one_answered", speed=0)
            assert wait_for(lambda: len(self.link._held or []) == 2)
            self.up.set()
            raise LinkDown("gone before it answered")

    with switch() as simulated:
        followed = Asking(simulated.port)
        assert followed.up.wait(30)
        followed.stop()
    assert [event.name for event in followed.seen] == ["CHANNEL_CREATE"] * 2


def test_a_follower_that_fails_leaves_no_connection_behind() -> None:
    class Failing(NoFollower):
        def on_reconnect(self, gap: Gap) -> None:
            raise RuntimeError("cannot be taken")

    with switch() as simulated:
        link = Link(Server("127.0.0.1", simulated.port, "ClueCon"), [], Failing())
        for _ in range(3):
            with pytest.raises(RuntimeError):
                link.run()
        assert wait_for(lambda: not simulated.sessions)


def test_each_start_of_a_switch_has_a_core_of_its_own() -> None:
    with switch() as simulated:
        followed = Followed(simulated.port)
        assert followed.up.wait(30)
        first = simulated.core
        simulated.restart()
        assert wait_for(lambda: len(followed.ups) == 2)
        followed.stop()
    assert followed.cores == [first, simulated.core]


def test_a_switch_may_not_tell_its_core() -> None:
    with switch() as simulated:
        simulated.denied = {"global_getvar"}
        followed = Followed(simulated.port)
        assert followed.up.wait(30)
        followed.stop()
    assert followed.cores == [""]


def test_the_link_waits_for_a_switch_that_is_not_there_yet() -> None:
    simulated = Switch()
    simulated.start()
    port = simulated.port
    simulated.stop()
    followed = Followed(simulated.port)
    gevent.sleep(0)
    late = Switch(("127.0.0.1", port))
    late.start()
    assert followed.up.wait(30)
    followed.stop()
    late.stop()


def test_a_switch_that_stalls_is_left_and_found_again() -> None:
    with switch(heartbeat=0.1) as simulated:
        followed = Followed(simulated.port, silence=2)
        assert followed.up.wait(30)
        assert wait_for(lambda: simulated.beats >= 25)  # heartbeats alone keep it up
        assert len(followed.ups) == 1
        simulated.stall()
        assert followed.reason == "nothing was heard for 2 s"
        assert wait_for(lambda: len(followed.ups) == 2)
        followed.stop()


def test_a_silent_switch_that_answers_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet office, with an event-heartbeat-interval of hours."""
    monkeypatch.setattr("fsplanfix.freeswitch.connection.ASK_AFTER_SHARE", 0.01)
    with switch(heartbeat=10_000) as simulated:
        followed = Followed(simulated.port, silence=60)
        assert followed.up.wait(30)
        assert wait_for(lambda: simulated.commands.count("uptime") >= 3)
        assert followed.link.connection is not None
        assert len(followed.ups) == 1
        followed.stop()


def test_a_refusal_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsplanfix.freeswitch.connection.ASK_AFTER_SHARE", 0.01)
    with switch(heartbeat=10_000) as simulated:
        simulated.denied = {"uptime"}
        followed = Followed(simulated.port, silence=60)
        assert followed.up.wait(30)
        assert wait_for(lambda: simulated.commands.count("uptime") >= 2)
        assert len(followed.ups) == 1
        followed.stop()


def test_a_half_open_connection_is_left() -> None:
    with switch(heartbeat=0.1) as simulated:
        followed = Followed(simulated.port, silence=2)
        assert followed.up.wait(30)
        simulated.half_open()
        assert wait_for(lambda: len(followed.ups) == 2)
        followed.stop()


def test_the_pause_between_tries_grows_from_half_a_second_to_fifteen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def note(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise SystemExit

    simulated = Switch()
    simulated.start()
    port = simulated.port
    simulated.stop()
    link = Link(Server("127.0.0.1", port, "x"), [], NoFollower())
    monkeypatch.setattr("fsplanfix.freeswitch.link.gevent.sleep", note)
    with pytest.raises(SystemExit):
        link.run()
    for pause, planned in zip(pauses, [0.5, 1, 2, 4, 8, 15, 15, 15], strict=True):
        assert 0.8 * planned <= pause <= 1.2 * planned


def test_an_orderly_shutdown_is_told_apart() -> None:
    with switch() as simulated:
        followed = Followed(simulated.port)
        assert followed.up.wait(30)
        assert wait_for(lambda: followed.link.connection is not None)
        simulated.shut_down()
        assert followed.reason == "FreeSWITCH is shutting down or has ended the connection"
        followed.stop()


def test_a_cut_in_the_middle_of_an_event_is_a_cut() -> None:
    with switch() as simulated:
        followed = Followed(simulated.port)
        assert followed.up.wait(30)
        simulated.cut_in_event("in_one_answered")
        assert wait_for(lambda: len(followed.ups) == 2)
        followed.stop()
    assert followed.seen == []


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
