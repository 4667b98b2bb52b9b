"""The simulated FreeSWITCH talks as the real one did."""

from __future__ import annotations

import json

import gevent
import pytest
from gevent import socket

from fsplanfix.simulators.freeswitch import Switch, variables
from fsplanfix.simulators.playback import freshen, load, names

from ..support.service import Halt


class Wire:
    """A bare socket to the event socket."""

    def __init__(self, switch: Switch) -> None:
        self.sock = socket.create_connection(("127.0.0.1", switch.port), timeout=60)
        self.file = self.sock.makefile("rb")

    def read(self) -> tuple[dict[str, str], str]:
        head: dict[str, str] = {}
        while line := self.file.readline().decode().rstrip("\n"):
            key, _, value = line.partition(": ")
            head[key] = value
        return head, self.file.read(int(head.get("Content-Length", 0))).decode()

    def say(self, command: str) -> tuple[dict[str, str], str]:
        self.sock.sendall(f"{command}\n\n".encode())
        return self.read()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def wire(switch: Switch) -> Wire:
    opened = Wire(switch)
    assert opened.read()[0] == {"Content-Type": "auth/request"}
    assert opened.say("auth ClueCon")[0]["Reply-Text"] == "+OK accepted"
    return opened


def test_the_conversation_of_a_login(wire: Wire) -> None:
    assert wire.say("api sofia_contact 101@127.0.0.1")[1] == "sofia/internal/sip:101@127.0.0.1:6101"
    assert wire.say("api sofia_contact 105@127.0.0.1")[1] == "error/user_not_registered"
    assert wire.say("api user_exists id 101 127.0.0.1")[1] == "true"
    assert wire.say("api user_exists id 999 127.0.0.1")[1] == "false"
    assert wire.say("api nosuchcommand")[1] == "-ERR nosuchcommand Command not found!\n"
    assert wire.say("api global_getvar recordings_dir")[1] == "/var/lib/freeswitch/recordings"
    assert wire.say("api show calls")[1].startswith("-USAGE")
    assert wire.say("nosuch")[0]["Reply-Text"] == "-ERR command not found"
    assert wire.say("event plain NOT_AN_EVENT")[0]["Reply-Text"] == "-ERR no keywords supplied"
    assert wire.say("event json CHANNEL_CREATE")[0]["Reply-Text"] == "-ERR no keywords supplied"
    assert (
        wire.say("event plain CHANNEL_CREATE")[0]["Reply-Text"]
        == "+OK event listener enabled plain"
    )
    assert wire.say("exit")[0]["Reply-Text"] == "+OK bye"
    assert wire.read()[0]["Content-Type"] == "text/disconnect-notice"
    assert wire.file.read() == b""
    wire.close()


def test_a_wrong_password_ends_the_session(switch: Switch) -> None:
    wire = Wire(switch)
    wire.read()
    assert wire.say("auth nonsense")[0]["Reply-Text"] == "-ERR invalid"
    assert wire.read()[0]["Content-Type"] == "text/disconnect-notice"
    wire.close()


def test_nothing_is_obeyed_before_the_login(switch: Switch) -> None:
    wire = Wire(switch)
    wire.read()
    assert wire.say("api status")[0]["Reply-Text"].startswith("-ERR")
    wire.close()


def test_channels_are_shown_while_a_call_lasts(switch: Switch, wire: Wire) -> None:
    ringing = Halt(switch, lambda step: step.get("Event-Name") == "CHANNEL_ANSWER")
    player = gevent.spawn(switch.play, "in_one_answered", 0)
    assert ringing.reached()
    shown = json.loads(wire.say("api show channels as json")[1])
    assert shown["row_count"] == 2
    dump = json.loads(wire.say(f"api uuid_dump {shown['rows'][0]['uuid']} json")[1])
    assert dump["Caller-Caller-ID-Number"] == "79161234567"
    assert (
        wire.say("api uuid_dump 00000000-0000-0000-0000-000000000000 json")[1]
        == "-ERR No such channel!\n"
    )
    assert wire.say(f"api uuid_kill {shown['rows'][0]['uuid']}")[1] == "+OK\n"
    player.kill()
    wire.close()


def test_a_background_job_has_an_inner_body(wire: Wire) -> None:
    wire.say("event plain BACKGROUND_JOB")
    assert wire.say("bgapi status\nJob-UUID: j-1")[0]["Job-UUID"] == "j-1"
    _, body = wire.read()
    head, _, inner = body.partition("\n\n")
    assert "Job-UUID: j-1" in head
    assert inner.startswith("UP 0 years")
    wire.say("bgapi originate nonsense")
    assert "-USAGE" in wire.read()[1]
    wire.close()


@pytest.mark.parametrize(
    "command",
    [
        r"{transfer_ringback=%(800,3200,425)}user/105 &park()",
        r"{transfer_ringback=%(800\,3200\,425)}user/105 &bridge({a=%(800,3200,425)}user/102)",
        "{a=b}{c=d}user/105 &park()",
        "{a=b}user/105 &bridge(user/102) XML default",
        "{a=b}user/105 &bridge(user/102 user/103)",
        "{a={b}}user/105 &park()",
        "{a=b}user/105",
    ],
)
def test_a_command_with_an_open_comma_a_blank_or_a_second_part_is_not_taken(
    wire: Wire, command: str
) -> None:
    wire.say("event plain BACKGROUND_JOB")
    wire.say(f"bgapi originate {command}")
    assert "-USAGE" in wire.read()[1]
    wire.close()


@pytest.mark.parametrize(
    "command",
    [
        r"{transfer_ringback=%(800\,3200\,425),a=b}user/105 &bridge({a=%(1\,2\,3),b=c}user/102)",
        "{a=b}user/105@127.0.0.1 79161234567 XML default",
        "{a=<http://www.notused.com>;info=alert-autoanswer;delay=0}user/105 &park()",
    ],
)
def test_a_command_with_escaped_commas_is_taken(wire: Wire, command: str) -> None:
    wire.say("event plain BACKGROUND_JOB")
    wire.say(f"bgapi originate {command}")
    assert "USER_NOT_REGISTERED" in wire.read()[1]
    wire.close()


def test_variables_are_read_as_freeswitch_does() -> None:
    assert variables(r"{a=%(800\,3200\,425),b=x=1}") == {"a": "%(800,3200,425)", "b": "x=1"}


def test_heartbeats_arrive() -> None:
    switch = Switch(heartbeat=0.05)
    switch.start()
    wire = Wire(switch)
    wire.read()
    wire.say("auth ClueCon")
    wire.say("event plain HEARTBEAT")
    assert "Event-Name: HEARTBEAT" in wire.read()[1]
    wire.close()
    switch.stop()


def test_a_playback_is_a_new_call_with_todays_times() -> None:
    steps = load("group_answered")
    fresh = freshen(steps, 1_800_000_000.0, "core", swap={"79161234567": "79260001122"})
    again = freshen(steps, 1_800_000_000.0, "core")
    assert not {s.get("Unique-ID") for s in fresh} & {s.get("Unique-ID") for s in [*steps, *again]}
    assert fresh[0].get("Event-Date-Timestamp") == "1800000000000000"
    assert fresh[0].get("Event-Date-GMT") == "Fri, 15 Jan 2027 08:00:00 GMT"
    assert {s.get("Core-UUID") for s in fresh} == {"core"}
    for old, new in zip(steps, fresh, strict=True):
        assert old.get("Event-Name") == new.get("Event-Name")
        assert "79161234567" not in new.body


def test_the_package_brings_what_the_demo_plays() -> None:
    assert {
        "group_answered",
        "in_one_no_answer",
        "blind_transfer_answered",
        "makecall_answered",
    } <= set(names())


def test_a_restart_forgets_calls_and_has_another_core(switch: Switch) -> None:
    before = switch.core
    switch.channels["x"] = {}
    switch.restart()
    assert switch.core != before
    assert switch.channels == {}
