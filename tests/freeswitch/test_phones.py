"""Who has no phone, asked of a simulated FreeSWITCH over a real socket."""

import pytest
from gevent.event import Event

from fsplanfix.freeswitch.connection import Connection
from fsplanfix.freeswitch.dialler import Phone, find_phone
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.freeswitch.phones import REMEMBERED, CallPhones, absent_users, outside_users
from fsplanfix.simulators.freeswitch import Switch

from ..support.cases import for_each

USERS = ["101", "104", "105", "199"]


def absent(connection: Connection, *users: str, domain: str = "") -> set[str]:
    return set(absent_users(connection, users, domain, 30))


def test_one_question_finds_all_who_have_no_phone(switch: Switch, connection: Connection) -> None:
    assert absent(connection, *USERS) == {"105", "199"}
    assert absent(connection, *USERS, domain="pbx.example.com") == {"105", "199"}
    assert sum(command.startswith("expand ") for command in switch.commands) == 4
    switch.commands.clear()
    assert absent(connection, "101", "102", "103") == set()
    assert sum(command.startswith("expand ") for command in switch.commands) == 1


def test_a_user_with_a_dial_string_of_his_own_needs_no_registration(
    switch: Switch, connection: Connection
) -> None:
    switch.dial_strings["105"] = "sofia/gateway/trunk/79260000005"
    assert absent(connection, *USERS) == {"199"}


REGISTERED = "${sofia_contact(*/${dialed_user}@${dialed_domain})}"
VERTO = "${verto_contact(${dialed_user}@${dialed_domain})}"


@for_each(
    {
        "sofia/gateway/trunk/79260000005": True,
        "[leg_timeout=9]sofia/gateway/trunk/79260000005": True,
        f"{REGISTERED},sofia/gateway/trunk/79260000005": True,
        f"{{a=b}}{REGISTERED}|[x=1]loopback/79260000005/default": True,
        "${cond(1 == 1 ? sofia/gateway/trunk/79260000005 : user/1)}": True,
        REGISTERED: False,
        f"{{^^:sip_invite_domain=${{dialed_domain}}:presence_id=x@y}}{REGISTERED},{VERTO}": False,
        f"{{alert_info=http://www.notused.com}}{REGISTERED}": False,
        "error/user_busy": False,
        "": False,
    }.items()
)
def test_a_dial_string_of_ones_own_may_lead_outside(
    item: tuple[str, bool], switch: Switch, connection: Connection
) -> None:
    dial_string, leads_outside = item
    switch.dial_strings["105"] = dial_string
    assert ("105" in absent(connection, "101", "105")) == (not leads_outside)
    assert (find_phone(connection, "105", "") is Phone.ABSENT) == (not leads_outside)
    outside = outside_users(connection, ["101", "105", "x}"], "", 30)
    assert outside == ({"105"} if leads_outside else set())


def test_dial_strings_are_remembered_for_a_minute(switch: Switch, connection: Connection) -> None:
    now = [0.0]
    phones = CallPhones(lambda: [connection], lambda: now[0])
    channel = SwitchEvent(b"Event-Name: CHANNEL_DATA\n\n")

    def outside(*users: str) -> set[str]:
        return set(phones.outside(channel, users, "", 30))

    switch.dial_strings["105"] = "sofia/gateway/trunk/79260000005"
    answer = switch.api
    switch.api = lambda command: "-ERR"  # type: ignore[method-assign]
    assert outside("101", "105") == {"101", "105"}
    switch.api = answer  # type: ignore[method-assign]
    assert outside("101", "105") == {"105"}
    asked = len(switch.commands)
    assert outside("101", "105") == {"105"}
    assert len(switch.commands) == asked

    assert outside("102", "105") == {"105"}
    assert "102" in "".join(switch.commands[asked:])
    assert "105" not in "".join(switch.commands[asked:])
    del switch.dial_strings["105"]
    now[0] = REMEMBERED + 1
    assert outside("101", "105") == set()


def test_of_whom_freeswitch_does_not_tell_in_time_may_be_outside(
    switch: Switch, connection: Connection
) -> None:
    channel = SwitchEvent(b"Event-Name: CHANNEL_DATA\n\n")
    phones = CallPhones(lambda: [connection])
    assert phones.outside(channel, ["101"], "", 30) == set()

    heard = Event()
    answer = switch.api

    def late(command: str) -> str:
        heard.wait()
        return answer(command)

    switch.api = late  # type: ignore[method-assign]
    # 101 is remembered
    assert phones.outside(channel, ["101", "102", "x}"], "", 0) == {"102"}
    heard.set()
    # what was too late for this call serves the next one
    assert phones.outside(channel, ["101", "102"], "", 30) == set()
    switch.api = lambda command: "-ERR"  # type: ignore[method-assign]
    assert phones.outside(channel, ["101", "102"], "", 30) == set()
    assert outside_users(connection, ["101", "102", "x}"], "", 30) == {"101", "102"}
    switch.stall()
    assert outside_users(connection, ["101"], "", 0.1) == {"101"}


def test_who_is_no_user_is_told_apart_from_a_phone_that_is_off(
    switch: Switch, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = SwitchEvent(b"Event-Name: CHANNEL_DATA\n\n")
    phones = CallPhones(lambda: [connection])
    users = ["101", "105", "199", "x}"]
    assert phones.absent(channel, users, "", 30) == {"105", "199"}
    assert phones.unknown(channel, users, "", 30) == {"199"}
    assert phones.unknown(channel, users, "pbx.example.com", 30) == {"199"}
    monkeypatch.setattr(switch, "api", lambda command: "-ERR")
    assert phones.unknown(channel, users, "", 30) == set()
    assert CallPhones(list).unknown(channel, users, "", 30) == set()


def test_where_no_freeswitch_is_linked_everybody_may_be_outside() -> None:
    channel = SwitchEvent(b"Event-Name: CHANNEL_DATA\n\n")
    assert CallPhones(list).outside(channel, ["101", "x}"], "", 30) == {"101"}


def test_a_user_of_verto_has_a_phone(switch: Switch, connection: Connection) -> None:
    switch.verto.add("105")
    assert absent(connection, *USERS) == {"199"}
    assert find_phone(connection, "105", "") is Phone.UNCLEAR


def test_what_cannot_be_a_user_is_not_asked_about(switch: Switch, connection: Connection) -> None:
    switch.commands.clear()
    hostile = ("101)}${system(reboot", "101 ", "", "101@x", "1\n2")
    assert absent(connection, *hostile) == set()
    assert absent(connection, "105", domain="x)} ${system(reboot)}") == {"105"}
    assert not any("system" in command for command in switch.commands)


@pytest.mark.parametrize("says", ["error/x", "", "-ERR", "error/user_not_registered" * 9])
def test_an_answer_that_is_none_leaves_everybody_in(
    switch: Switch, connection: Connection, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch, "api", lambda command: says)
    assert absent(connection, *USERS) == set()


def test_without_the_directory_nobody_is_said_to_be_absent(
    switch: Switch, connection: Connection
) -> None:
    answer = switch.api
    switch.api = lambda command: "" if "user_data" in command else answer(command)  # type: ignore[method-assign]
    assert absent(connection, *USERS) == set()


def test_a_link_that_is_down_leaves_everybody_in(switch: Switch, connection: Connection) -> None:
    switch.drop()
    connection.down.wait()
    assert absent(connection, *USERS) == set()


def test_a_phones_contact_cannot_pass_for_another_answer(
    switch: Switch, connection: Connection
) -> None:
    switch.contacts["101"] = "sofia/internal/sip:101@x|error/user_not_registered"
    assert absent(connection, "101", "102") == set()
