from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.freeswitch.events import LONGEST_VALUE, SwitchEvent, decode
from fsplanfix.freeswitch.frames import LONGEST_BODY, LONGEST_HEAD, FrameError, Framer, read_head
from fsplanfix.freeswitch.headers import KNOWN, OURS

from ..support.cases import for_each
from ..support.traces import NAMES, bodies


def event(text: str) -> SwitchEvent:
    return SwitchEvent(text.encode())


def test_a_header_is_decoded_when_asked_for() -> None:
    found = event("Event-Name: CHANNEL_BRIDGE\nCaller-Name: %D0%98%D0%B2%D0%B0%D0%BD\n\n")
    assert (found.name, found.get("Caller-Name"), found.get("Nothing")) == (
        "CHANNEL_BRIDGE",
        "Иван",
        "",
    )


def test_the_name_need_not_come_first() -> None:
    assert event("Unique-ID: a\nEvent-Name: CUSTOM\n\n").name == "CUSTOM"
    assert event("Event-Name:CUSTOM\n").name == "CUSTOM"
    assert event("").name == ""


def test_the_first_of_two_wins() -> None:
    twice = "".join(
        f"{name}: {n}\n"
        for n in (1, 2)
        for name in ("Unique-ID", "variable_planfix_x", "variable_y")
    )
    found = event(f"Event-Name: A\nEvent-Name: B\n{twice}\n")
    assert (found.name, found.leg, found.ours(), found.get("variable_y")) == (
        "A",
        "1",
        {"x": "1"},
        "1",
    )


def test_a_blank_may_be_missing_after_the_colon() -> None:
    assert event("Event-Name: A\nUnique-ID:1\nEmpty:\nEmpty-Too: \nLast: x").get("Unique-ID") == "1"
    assert event("Event-Name: A\nEmpty:\nLast: x").get("Empty") == ""
    assert event("Event-Name: A\nEmpty:\nLast: x").get("Last") == "x"


@pytest.mark.parametrize("newline", ["%0A", "%0D%0A", "%E2%80%A8", "%C2%85", "%0B", "%0A%0A"])
def test_an_encoded_line_break_stays_in_its_value(newline: str) -> None:
    found = event(
        f"Event-Name: A\nvariable_sip_h_X: a{newline}Unique-ID: forged\nUnique-ID: real\n\n"
    )
    assert found.leg == "real"
    assert "Unique-ID: forged" in found.get("variable_sip_h_X")


def test_an_inner_body_is_text_and_never_headers() -> None:
    inner = "+OK\nUnique-ID: forged\n\nContent-Length: 99\n\n"
    found = event(f"Event-Name: BACKGROUND_JOB\nContent-Length: {len(inner)}\n\n{inner}")
    assert (found.body, found.leg) == (inner, "")
    assert event("Event-Name: A\nContent-Length: 3\n\n123456").body == "123"
    assert event("Event-Name: A\nContent-Length: x\n\n123456").body == ""
    assert event("Event-Name: A\n\n").body == ""


@pytest.mark.parametrize(
    ("text", "number"), [("17", 17), ("-1", 0), ("x", 0), ("\u0661", 0), ("9" * 30, 0), ("", 0)]
)
def test_a_number_is_a_number_or_nothing(text: str, number: int) -> None:
    assert event(f"Event-Name: A\nN: {text}\n\n").number("N") == number


def test_a_value_is_only_looked_at_so_far() -> None:
    assert len(event(f"Event-Name: A\nX: {'x' * 100_000}\n\n").get("X")) == LONGEST_VALUE - 1


def test_invalid_utf8_is_replaced() -> None:
    assert SwitchEvent(b"Event-Name: A\nX: \xcf\xe5%CF\n\n").get("X") == "\ufffd\ufffd\ufffd"


def test_a_header_without_a_colon_is_none() -> None:
    assert event("Event-Name: A\nvariable_planfix_x\nvariable_planfix_y: 1\n\n").ours() == {
        "y": "1"
    }


def test_the_header_lines_are_given_back_as_they_came() -> None:
    lines = b"Event-Name: A\nUnique-ID: 1\n"
    assert SwitchEvent(lines).raw == lines
    assert SwitchEvent(b"\n" + lines).leg == "1"


def test_a_body_is_what_came_and_no_more() -> None:
    found = event("\nEvent-Name: MESSAGE\nContent-Length: 9\n\nhello\nUnique-ID: 7\n")
    assert (found.name, found.leg, found.body) == ("MESSAGE", "", "hello\nUni")
    assert event("Event-Name: MESSAGE\nContent-Length: 99\n\nhello").body == "hello"


@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_survived(raw: bytes) -> None:
    found = SwitchEvent(raw)
    assert isinstance(found.get("Unique-ID"), str)
    assert found.at >= 0
    assert isinstance(found.body, str)
    found.ours()


def plainly(raw: bytes) -> dict[str, str]:
    """Every header of an event without a body, read line by line."""
    headers: dict[str, str] = {}
    for line in raw.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.decode("latin-1"), decode(value))
    return headers


NAMED = sorted(KNOWN - {OURS, "Content-Length"})
"""The headers that an event may be asked for."""


@pytest.mark.no_cover
@for_each(NAMES)
def test_one_pass_finds_what_reading_line_by_line_finds(name: str) -> None:
    for body in bodies(name):
        found, headers = SwitchEvent(body), plainly(body)
        wanted = {
            name.removeprefix(OURS): value
            for name, value in headers.items()
            if name.startswith(OURS)
        }
        assert found.ours() == wanted
        for header in (*NAMED, "Content-Length", "Caller-Username", "variable_uuid"):
            assert found.get(header) == headers.get(header, ""), header


PIECES = st.sampled_from(
    [
        *(name.removeprefix("variable_") for name in NAMED),
        "variable_",
        "planfix_",
        "sip_h_",
        "_",
        ":",
        ": ",
        " ",
        "\n",
        "x",
        "%0A",
        "ü",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_name_made_of_known_names_is_taken_for_another(text: str) -> None:
    """A stranger names his SIP headers as he likes: sip_h_user_name, sip_h_Unique-ID, sip_h_variable_planfix_ignore."""
    raw = text.encode()
    found, headers = SwitchEvent(raw), plainly(raw)
    for header in NAMED:
        assert found.get(header) == headers.get(header, ""), header
    names = {name for name in headers if name.startswith(OURS)}
    assert found.ours() == {name.removeprefix(OURS): headers[name] for name in names}


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_found_however_the_bytes_are_cut(seed: int) -> None:
    random = Random(seed)
    sent = [body for name in random.sample(NAMES, 3) for body in bodies(name)[:5]]
    wire = b"".join(
        b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(b), b) for b in sent
    )
    framer, found = Framer(), []
    at = 0
    while at < len(wire):
        step = random.randint(1, 9000)
        found += [frame.body for frame in framer.feed(wire[at : at + step])]
        at += step
    assert found == sent


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_upset_the_framer(chunks: list[bytes]) -> None:
    framer = Framer()
    try:
        for chunk in chunks:
            for frame in framer.feed(chunk):
                assert isinstance(frame.kind, str)
    except FrameError:
        pass


@pytest.mark.parametrize(
    "wire",
    [
        b"Content-Length: x\n\n",
        b"Content-Length: -1\n\n",
        b"Content-Length: %d\n\n" % (LONGEST_BODY + 1),
        b"Content-Length: 99999999999999\n\n",
        b"x" * (LONGEST_HEAD + 1),
    ],
)
def test_what_is_no_event_socket_is_an_error(wire: bytes) -> None:
    with pytest.raises(FrameError):
        list(Framer().feed(wire))


def test_stray_lines_are_passed_over() -> None:
    assert read_head(b"nonsense\nA: 1\nA: 2\nB:3") == {"A": "1", "B": "3"}
    (frame,) = Framer().feed(b"\n\n\nContent-Type: x\n\n")
    assert (frame.kind, frame.body) == ("x", b"")


@pytest.mark.parametrize("at", ["9" * 20, "4102444800000000", "-1", "1e9", "١٢٣", "x", ""])
def test_a_time_that_no_clock_shows_is_none(at: str) -> None:
    assert SwitchEvent.made_of({"Event-Name": "X", "Event-Date-Timestamp": at}).at == 0


def test_an_event_is_made_of_whatever_a_dump_holds() -> None:
    """JSON may hold halves of surrogate pairs, and line breaks in a name."""
    hostile = {"Event-Name": "X", "variable_planfix_phone": "a\ud800b", "y\nUnique-ID": "forged"}
    event = SwitchEvent.made_of(hostile)
    assert (event.name, event.leg) == ("X", "")
    assert event.get("variable_planfix_phone") == "a?b"


@pytest.mark.parametrize("name", ["variable_planfix_data_Источник", "variable_planfix_data_a b%2F"])
def test_a_header_keeps_its_name_whatever_its_letters(name: str) -> None:
    assert SwitchEvent.made_of({name: "Яндекс"}).ours() == {name.removeprefix(OURS): "Яндекс"}
