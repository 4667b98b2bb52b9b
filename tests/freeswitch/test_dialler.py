"""Which phone is called, through which FreeSWITCH: asked over a real event socket."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from gevent.event import AsyncResult, Event

from fsplanfix.errors import DialRefused, LinkDown
from fsplanfix.freeswitch import dialler as dialling
from fsplanfix.freeswitch.connection import Connection, Server
from fsplanfix.freeswitch.dialler import (
    Click,
    Dialler,
    Phone,
    find_phone,
    outbound_number,
)
from fsplanfix.freeswitch.originate import DialPlan
from fsplanfix.simulators.freeswitch import Switch, variables

PLAN = DialPlan("sofia/gateway/trunk/{number}")


@pytest.mark.parametrize(
    ("user", "found"),
    [("101", Phone.REGISTERED), ("105", Phone.ABSENT), ("999", Phone.UNKNOWN)],
)
@pytest.mark.parametrize("domain", ["", "pbx.example.com"])
def test_freeswitch_is_asked_about_the_phone(
    switch: Switch, connection: Connection, user: str, found: Phone, domain: str
) -> None:
    assert find_phone(connection, user, domain) is found
    asked = domain or "127.0.0.1"
    assert f"user_exists id {user} {asked}" in switch.commands
    assert (f"sofia_contact {user}@{asked}" in switch.commands) == (found is not Phone.UNKNOWN)


def test_a_freeswitch_that_cannot_tell_leaves_it_to_the_call(
    switch: Switch, connection: Connection
) -> None:
    switch.contacts = {"101": "-ERR sofia_contact Command not found!\n"}
    assert find_phone(connection, "101", "") is Phone.UNCLEAR


def test_a_freeswitch_that_does_not_answer_leaves_it_to_the_call(
    switch: Switch, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "CHECK_TIMEOUT", 0.1)
    switch.stall()
    assert find_phone(connection, "101", "pbx.example.com") is Phone.UNCLEAR


class Known:
    """What is known of clients."""

    def __init__(self, name: str = "", line: str = "") -> None:
        self.name, self.line = name, line

    def name_of(self, number: str, callid: str) -> str:
        return self.name

    def last_line_of(self, number: str) -> str:
        return self.line


def is_outside(user: str) -> bool:
    return len(user) > 6


def dialler(connections: list[Connection], done: list[Click]) -> Dialler:
    return Dialler(lambda: connections, PLAN, "", Known(), is_outside, done.append)


def legs(
    switch: Switch,
    connection: Connection,
    plan: DialPlan,
    user: str = "101",
    caller_id: str = "",
    clients: Known | None = None,
) -> list[dict[str, str]]:
    """Click once; return the variables of each leg in the command, as FreeSWITCH reads them."""
    switch.makecall, switch.speed = "makecall_manager_declines", 50
    connection.subscribe([])
    done = Event()
    clicks = Dialler(
        *(lambda: [connection], plan, caller_id, clients or Known(), is_outside),
        lambda _: done.set(),
    )
    clicks.start(user, [user], "79161234567")
    assert done.wait(5)
    (command,) = switch.originated
    return [variables(braces) for braces in re.findall(r"\{[^{}]*\}", command)]


@pytest.mark.parametrize(
    "ringback",
    ["%(800,3200,425)", "%(400,200,400,450);%(400,2000,400,450)", "/srv/sounds/ring.wav"],
)
@pytest.mark.parametrize("context", ["", "default"])
@pytest.mark.parametrize("user", ["101", "79260000007"])
def test_the_manager_hears_a_ringback_tone_while_the_clients_phone_rings(
    switch: Switch, connection: Connection, ringback: str, context: str, user: str
) -> None:
    plan = DialPlan("sofia/gateway/trunk/{number}", context, ringback=ringback)
    assert legs(switch, connection, plan, user)[0]["transfer_ringback"] == ringback


@pytest.mark.parametrize("context", ["", "default"])
def test_the_clients_leg_inherits_nothing_that_would_hide_the_network(
    switch: Switch, connection: Connection, context: str
) -> None:
    plan = DialPlan("sofia/gateway/trunk/{number}", context)
    manager, *client = legs(switch, connection, plan)
    assert "ignore_early_media" not in manager
    assert [leg["ignore_early_media"] for leg in client] == ([] if context else ["false"])


@pytest.mark.parametrize("context", ["", "planfix_click"])
def test_the_client_sees_our_number_and_never_the_employees_name(
    switch: Switch, connection: Connection, context: str
) -> None:
    """Exported: a context that sets effective_caller_id_number does not replace it."""
    plan = DialPlan("sofia/gateway/trunk/{number}", context)
    employee, *client = legs(switch, connection, plan, caller_id="74950000001")
    assert len(client) == (not context)
    names = ["origination_caller_id_number", "origination_caller_id_name"]
    if context:
        names = [f"nolocal:{name}" for name in names]
        exported = [*names, "nolocal:bridge_answer_timeout"]
        assert employee["export_vars"].split(",") == exported
    (leg,) = client or [employee]
    assert [leg[name] for name in names] == ["74950000001"] * 2


def test_where_no_number_is_known_the_context_chooses_one(
    switch: Switch, connection: Connection
) -> None:
    (leg,) = legs(switch, connection, DialPlan("sofia/gateway/trunk/{number}", "planfix_click"))
    assert leg["export_vars"] == "nolocal:bridge_answer_timeout"
    assert not [name for name in leg if name.startswith("nolocal:origination_caller_id")]
    # what holds if the context sets none: FreeSWITCH puts it in place of the directory's
    names = ("effective_caller_id_number", "effective_caller_id_name")
    assert [leg[name] for name in names] == ["anonymous"] * 2


@pytest.mark.parametrize("user", ["101", "79260000007"])
def test_the_client_is_not_called_before_the_manager_has_picked_up(
    switch: Switch, connection: Connection, user: str
) -> None:
    assert legs(switch, connection, PLAN, user)[0]["group_confirm_early_ok"] == "false"


@pytest.mark.parametrize("context", ["", "planfix_click"])
def test_a_client_whose_network_plays_for_ever_is_given_up_after_a_minute(
    switch: Switch, connection: Connection, context: str
) -> None:
    """FreeSWITCH 1.10.12 rang on without end through a context: it reads the client's leg only."""
    employee, *client = legs(switch, connection, DialPlan(PLAN.dial_string, context))
    if not context:
        assert client[0]["bridge_answer_timeout"] == "60"
        return
    assert employee["nolocal:bridge_answer_timeout"] == "60"
    assert "nolocal:bridge_answer_timeout" in employee["export_vars"].split(",")


def test_nobody_is_called_while_no_freeswitch_is_linked() -> None:
    with pytest.raises(LinkDown):
        dialler([], []).start("101", ["101"], "79161234567")


@pytest.mark.parametrize(
    ("users", "reason"),
    [
        (["105"], "Extension 7 cannot be called: no phone is registered"),
        (["999"], "Extension 7 cannot be called: FreeSWITCH's directory has no such user"),
        (["999", "105"], "Extension 7 cannot be called: no phone is registered"),
        (["105", "999"], "Extension 7 cannot be called: no phone is registered"),
    ],
)
def test_the_reason_why_nobody_can_be_called_is_the_nearest_one(
    connection: Connection, users: list[str], reason: str
) -> None:
    with pytest.raises(DialRefused, match=reason):
        dialler([connection], []).start("7", users, "79161234567")


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        ("", "ANSWERED"),
        ("-ERR NO_ANSWER", "NO_ANSWER"),
        ("-ERR The connection to FreeSWITCH ended", "OTHER"),
        ("-USAGE: <call url>", "OTHER"),
    ],
)
def test_the_outcome_has_one_word_for_the_numbers(outcome: str, cause: str) -> None:
    assert Click("u", "101", "79161234567", outcome).cause == cause


@pytest.mark.parametrize(
    ("own", "line", "seen"),
    [
        ("74950000005", "74950000007", "74950000005"),
        ("-ERR no reply\n", "74950000007", "74950000007"),
        ("0000000000", "74950000007", "74950000007"),
        ("101", "74950000007", "74950000007"),
        ("101}user/x", "", "anonymous"),
        ("", "", "anonymous"),
    ],
)
def test_without_our_number_the_client_sees_the_employees_or_the_line_he_called_last(
    switch: Switch, connection: Connection, own: str, line: str, seen: str
) -> None:
    switch.outbound_numbers["101"] = own
    _, client = legs(switch, connection, PLAN, clients=Known(line=line))
    assert client["origination_caller_id_number"] == seen


def originated(
    switch: Switch,
    connection: Connection,
    done: "AsyncResult[Click]",
    click: Callable[[], None],
) -> str:
    """Let somebody click, and the employee decline; return the command that it led to."""
    switch.makecall, switch.speed = "makecall_manager_declines", 50
    connection.subscribe([])
    click()
    done.get(timeout=60)
    (command,) = switch.originated
    return command


def test_an_employee_who_is_rung_on_his_mobile_shows_his_own_number(
    switch: Switch, connection: Connection
) -> None:
    switch.outbound_numbers["101"] = "74950000101"
    done: AsyncResult[Click] = AsyncResult()
    clicks = Dialler(lambda: [connection], PLAN, "", Known(), is_outside, done.set)
    command = originated(
        switch, connection, done, lambda: clicks.start("101", ["79260000007"], "79161234567")
    )
    assert command.count("origination_caller_id_number=74950000101") == 1


def test_the_employees_phone_shows_the_clients_name(switch: Switch, connection: Connection) -> None:
    employee, _ = legs(switch, connection, PLAN, clients=Known("Иванов Иван"))
    assert employee["origination_caller_id_name"] == "Иванов Иван"


def test_a_user_whose_dial_string_is_a_trunk_is_shown_the_number_and_not_the_name(
    switch: Switch, connection: Connection
) -> None:
    """FreeSWITCH 1.10.12 sent the name in the From of the trunk's INVITE."""
    switch.dial_strings["101"] = "sofia/gateway/trunk/79260000001"
    employee, _ = legs(switch, connection, PLAN, clients=Known("Иванов Иван"))
    assert employee["origination_caller_id_name"] == "79161234567"


def test_a_directory_that_is_silent_names_no_number(
    switch: Switch, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "CHECK_TIMEOUT", 0.1)
    switch.stall()
    assert outbound_number(connection, "101", "pbx.example.com") == ""


def test_where_the_first_phone_fails_at_once_the_next_is_tried(
    switch: Switch, connection: Connection
) -> None:
    """Registered, and gone when it is called: its contact is a corpse."""
    switch.makecall, switch.speed = "makecall_manager_declines", 50
    switch.contacts = {"105": "sofia/internal/sip:105@127.0.0.1:6105"}
    connection.subscribe([])
    done: AsyncResult[Click] = AsyncResult()
    clicks = Dialler(lambda: [connection], PLAN, "", Known(), is_outside, done.set)
    clicks.start("7", ["105", "101"], "79161234567")
    click = done.get(timeout=60)
    assert click is not None
    asked = [re.findall(r"}user/(\d+)", command) for command in switch.commands]
    assert [found for found in asked if found] == [["105"], ["101"]]
    assert click.cause == "CALL_REJECTED"


@pytest.mark.parametrize(
    ("cause", "has_rung"),
    [
        ("SERVICE_NOT_IMPLEMENTED", False),
        ("INTERWORKING", False),
        ("EXCHANGE_ROUTING_ERROR", False),
        ("NUMBER_CHANGED", False),
        ("INVALID_NUMBER_FORMAT", False),
        ("INVALID_PROFILE", False),
        ("NO_USER_RESPONSE", True),
        ("USER_BUSY", True),
        ("NO_ANSWER", True),
    ],
)
def test_the_next_phone_is_tried_only_where_none_has_rung(
    switch: Switch,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    cause: str,
    has_rung: bool,
) -> None:
    """FreeSWITCH 1.10.12 names these for 415, 423, 482, 410, 484, no profile, 480, 486, silence."""
    finish = switch._finish_job
    monkeypatch.setattr(
        switch,
        "_finish_job",
        lambda command, job, text: finish(command, job, text.replace("USER_NOT_REGISTERED", cause)),
    )
    switch.makecall, switch.speed = "makecall_manager_declines", 50
    switch.contacts = {"105": "sofia/internal/sip:105@127.0.0.1:6105"}
    connection.subscribe([])
    done: AsyncResult[Click] = AsyncResult()
    clicks = Dialler(lambda: [connection], PLAN, "", Known(), is_outside, done.set)
    clicks.start("7", ["105", "101"], "79161234567")
    click = done.get(timeout=60)
    assert click is not None
    assert click.cause == (cause if has_rung else "CALL_REJECTED")
    assert len(switch.originated) == (not has_rung)


@pytest.mark.parametrize("users", [["105", "101"], ["105", "79260000007"]])
def test_where_the_first_phone_fails_at_once_the_next_is_tried_for_a_colleague_too(
    switch: Switch, connection: Connection, users: list[str]
) -> None:
    switch.makecall, switch.speed = "makecall_manager_declines", 50
    switch.contacts = {"105": "sofia/internal/sip:105@127.0.0.1:6105"}
    connection.subscribe([])
    done: AsyncResult[Click] = AsyncResult()
    clicks = Dialler(lambda: [connection], PLAN, "", Known(), is_outside, done.set)
    clicks.start_inside("7", users, "102", ["102"])
    click = done.get(timeout=60)
    assert click is not None
    asked = [re.findall(r"}\S+/(\d+) ", command) for command in switch.commands]
    assert [found for found in asked if found] == [["105"], [users[1]]]
    assert switch.originated[0].endswith("}user/102)")
    assert click.cause == "CALL_REJECTED"


@pytest.mark.parametrize("has_one", [True, False])
def test_without_any_domain_the_refusal_names_the_setting(
    switch: Switch, connection: Connection, has_one: bool
) -> None:
    """As on FusionPBX, where 101 is registered and cannot be found without its domain."""
    if not has_one:
        del switch.globals["domain"]
    switch.contacts = {"101": "error/user_not_registered"}
    reason = "no phone is registered" if has_one else "set USER_DOMAIN to the domain of your users"
    with pytest.raises(DialRefused, match=f"Extension 101 cannot be called: .*{reason}"):
        dialler([connection], []).start("101", ["101"], "79161234567")


def test_a_freeswitch_that_does_not_tell_its_domain_is_asked_without(
    switch: Switch, connection: Connection
) -> None:
    switch.denied = {"global_getvar"}
    assert find_phone(connection, "105", "") is Phone.ABSENT
    assert find_phone(connection, "101", "") is Phone.REGISTERED


def test_a_click_that_cannot_be_spoken_is_told_all_the_same(
    switch: Switch, connection: Connection
) -> None:
    done: AsyncResult[Click] = AsyncResult()
    clicks = Dialler(lambda: [connection], PLAN, "", Known("a,b"), is_outside, done.set)
    clicks.start("101", ["101"], "79161234567")
    click = done.get(timeout=60)
    assert click is not None
    assert "cannot be dialled" in click.outcome


def test_a_colleague_is_rung(switch: Switch, connection: Connection) -> None:
    switch.makecall, switch.speed = "makecall_manager_declines", 50
    connection.subscribe([])
    done: AsyncResult[Click] = AsyncResult()
    clicks = Dialler(lambda: [connection], PLAN, "", Known(), is_outside, done.set)
    clicks.start_inside("101", ["101"], "102", ["79260000007", "102"])
    done.get(timeout=60)
    assert switch.originated[0].endswith("}user/102)")
    assert "origination_caller_id_number=101," in switch.originated[0]
    for nobody, why in (("105", "no phone is registered"), ("112", "has no such user")):
        with pytest.raises(DialRefused, match=f"Extension {nobody} cannot be called: .*{why}"):
            clicks.start_inside("101", ["101"], nobody, [nobody])


@pytest.mark.parametrize(
    ("ours", "own", "seen"),
    [
        ("74950000001", "74950000101", "74950000001"),
        ("", "74950000101", "74950000101"),
        ("", "", ""),
    ],
)
@pytest.mark.parametrize("colleagues", [["79260000007"], ["105", "79260000007"]])
def test_a_colleague_without_a_desk_phone_is_rung_on_his_mobile_and_sees_what_clients_see(
    switch: Switch, connection: Connection, colleagues: list[str], ours: str, own: str, seen: str
) -> None:
    switch.outbound_numbers["101"] = own
    done: AsyncResult[Click] = AsyncResult()
    plan = DialPlan("sofia/gateway/trunk/{number}", dial_strings={"7": "sofia/gateway/b/{number}"})
    clicks = Dialler(
        *(lambda: [connection], plan, ours, Known(line="74950000007"), is_outside, done.set),
        lambda number: f"9{number}",
    )
    command = originated(
        switch, connection, done, lambda: clicks.start_inside("101", ["101"], "7", colleagues)
    )
    seen = seen or "anonymous"
    assert command.endswith(
        f"origination_caller_id_number={seen},origination_caller_id_name={seen},planfix_ext=7}}"
        "sofia/gateway/b/979260000007)"
    )


def test_a_colleague_whose_dial_string_is_a_trunk_sees_what_clients_see(
    switch: Switch, connection: Connection
) -> None:
    switch.dial_strings["102"] = "sofia/gateway/trunk/79260000002"
    done: AsyncResult[Click] = AsyncResult()
    clicks = Dialler(lambda: [connection], PLAN, "74950000001", Known(), is_outside, done.set)
    command = originated(
        switch, connection, done, lambda: clicks.start_inside("101", ["101"], "102", ["102"])
    )
    assert command.endswith("origination_caller_id_name=74950000001}user/102)")


def test_a_colleague_on_a_mobile_is_rung_from_where_the_employees_phone_is(
    switch: Switch, connection: Connection
) -> None:
    with other_switch() as (theirs, there):
        switch.contacts = {"101": "error/user_not_registered"}
        theirs.makecall, theirs.speed = "makecall_manager_declines", 50
        there.subscribe([])
        done: AsyncResult[Click] = AsyncResult()
        both = [connection, there]
        clicks = Dialler(lambda: both, PLAN, "", Known(), is_outside, done.set)
        clicks.start_inside("101", ["101"], "102", ["79260000007"])
        done.get(timeout=60)
    assert (len(switch.originated), len(theirs.originated)) == (0, 1)


def test_a_colleague_is_rung_where_his_phone_is(switch: Switch, connection: Connection) -> None:
    away = "error/user_not_registered"
    with other_switch() as (theirs, there):
        switch.contacts = {"102": away}
        theirs.makecall, theirs.speed = "makecall_manager_declines", 50
        there.subscribe([])
        done: AsyncResult[Click] = AsyncResult()
        both = [connection, there]
        clicks = Dialler(lambda: both, PLAN, "", Known(), is_outside, done.set)
        clicks.start_inside("101", ["101"], "102", ["102"])
        done.get(timeout=60)
        assert theirs.originated[0].endswith("}user/102)")

        theirs.contacts = {"101": away}
        with pytest.raises(DialRefused, match="102 cannot be called: it is at another FreeSWITCH"):
            clicks.start_inside("101", ["101"], "102", ["102"])
        switch.contacts = {"101": away, "102": away}
        with pytest.raises(DialRefused, match="101 cannot be called: no phone is registered"):
            clicks.start_inside("101", ["101"], "102", ["102"])
    assert switch.originated == []


@contextmanager
def other_switch() -> Iterator[tuple[Switch, Connection]]:
    other = Switch()
    other.start()
    there = Connection(Server("127.0.0.1", other.port, "ClueCon"), lambda _: None)
    there.connect()
    yield other, there
    there.stop()
    other.stop()
