from __future__ import annotations

import json
from typing import Any

import pytest

from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.connection import SENT_AHEAD, Connection, Server
from fsplanfix.freeswitch.dumps import read_dump
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.freeswitch.frames import Framer
from fsplanfix.freeswitch.headers import KNOWN, OURS
from fsplanfix.history.merge import legs_to_ask_for, missed_with_records

from ..support.accounts import account, positions
from ..support.peers import frame, log_in, peer
from ..support.traces import NAMES, events, rules_of

CUTS = 5


def read(event: SwitchEvent) -> tuple[dict[str, str], dict[str, str]]:
    """What the rules can read of an event."""
    return {name: event.get(name) for name in KNOWN - {OURS}}, event.ours()


@pytest.mark.no_cover
@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_of_a_dump_is_read_by_nobody(name: str) -> None:
    stream, where = events(name), positions(name)
    for cut in range(0, len(stream), max(len(stream) // CUTS, 1)):
        tracker = Tracker(rules_of(name))
        for event in stream[:cut]:
            tracker.feed(event)
        for position in where[cut :: max(len(where) // CUTS, 1)]:
            whole = account(name, position)
            short = [read_dump(json.dumps(dump).encode()) for dump in whole]
            found = [[*map(read, missed_with_records(tracker, it))] for it in (whole, short)]
            assert found[0] == found[1]
            assert legs_to_ask_for(tracker, whole) == legs_to_ask_for(tracker, short)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"Unique-ID": "a", "variable_planfix_name": "\\ud800"}', "\ud800"),
        (b'{"Unique-ID": "a", "variable_planfix_name": "\xff"}', "\ufffd"),
        (b'{"Unique-ID": "a", "variable_planfix_name": 5, "variable_x": "y"}', "5"),
    ],
)
def test_whatever_the_dialplan_has_set_is_read(text: bytes, name: str) -> None:
    assert read_dump(text) == {"Unique-ID": "a", "variable_planfix_name": name}


@pytest.mark.parametrize("text", [b"-ERR No such channel!\n", b"", b"[1]", b"[" * 100_000])
def test_what_is_no_dump_is_an_error(text: bytes) -> None:
    with pytest.raises((ValueError, AttributeError, RecursionError)):
        read_dump(text)


def test_commands_are_sent_before_the_answers_to_those_before_them() -> None:
    def script(sock: Any) -> None:
        log_in(sock)
        lines = sock.makefile("rb")
        waiting = list[bytes]()
        while line := lines.readline():
            waiting += [line.strip()] if line.strip() else []
            # the first is answered once many have come
            if len(waiting) == SENT_AHEAD or line.startswith(b"api echo last"):
                for command in waiting:
                    sock.sendall(frame(command, b"api/response"))
                waiting = []
        lines.close()

    with peer(script) as port:
        link = Connection(Server("127.0.0.1", port, "x"), lambda event: None)
        link.connect()
        words = [*map(str, range(SENT_AHEAD * 3)), "last"]
        answers = link.api_each([f"echo {word}" for word in words])
        assert list(answers) == [f"api echo {word}".encode() for word in words]
        link.stop()


def test_the_list_of_20000_channels_is_read() -> None:
    body = b"x" * (870 * 20_000)
    wire = frame(body, b"api/response") + frame(b"next", b"api/response")
    framer, found = Framer(), list[bytes]()
    for at in range(0, len(wire), 65536):
        found += [one.body for one in framer.feed(wire[at : at + 65536])]
    assert found == [body, b"next"]
