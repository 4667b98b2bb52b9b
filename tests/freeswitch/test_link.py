import time

import gevent
import pytest
from gevent.event import Event

from fsplanfix.errors import LinkDown
from fsplanfix.freeswitch.connection import Server
from fsplanfix.freeswitch.link import Gap, Link, NoFollower
from fsplanfix.simulators.freeswitch import Switch

from ..support.switches import Followed, switch
from .faults import wait_for


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
            assert link.connection is None
        assert wait_for(lambda: not simulated.sessions)


def test_commands_need_not_wait_for_what_was_missed() -> None:
    """Nobody could click for a second while FreeSWITCH told of 20,000 channels."""
    is_asking, may_go_on = Event(), Event()

    class Slow(NoFollower):
        def on_reconnect(self, gap: Gap) -> None:
            is_asking.set()
            assert may_go_on.wait(30)
            gap.release()

    with switch() as simulated:
        link = Link(Server("127.0.0.1", simulated.port, "ClueCon"), ["CHANNEL_CREATE"], Slow())
        greenlet = gevent.spawn(link.run)
        assert is_asking.wait(30)
        linked = link.connection
        assert linked is not None
        assert linked.api("status")
        assert not link.is_caught_up
        may_go_on.set()
        assert wait_for(lambda: link.is_caught_up)
        greenlet.kill()
        assert link.connection is None
        assert not link.is_caught_up


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


def test_a_process_that_was_frozen_reads_what_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock has gone on for a quarter of an hour: that is no silence of FreeSWITCH's."""
    monkeypatch.setattr("fsplanfix.freeswitch.connection.ASK_AFTER_SHARE", 0.01)
    with switch(heartbeat=10_000) as simulated:
        followed = Followed(simulated.port, silence=60)
        assert followed.up.wait(30)
        now = time.monotonic
        monkeypatch.setattr("fsplanfix.freeswitch.connection.monotonic", lambda: now() + 900)
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
