"""The dialplan files an administrator drops in, played: through the real service, over its real socket."""

import re
from pathlib import Path
from xml.etree import ElementTree

import gevent
import pytest
import requests

from fsplanfix.simulators.channel import Channel, Phones
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.commands import call_cli
from .support.deliveries import link_to_the_recording
from .support.dialplan import (
    CLIENT,
    DOMAIN,
    FILES,
    FOLDER,
    FUSION,
    LINE,
    click,
    dialplan,
    house,
    name,
    told,
)
from .support.service import Halt, Service, running, settings_for, started


@pytest.mark.parametrize("path", FILES, ids=name)
def test_each_file_is_well_formed_and_says_where_it_goes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "include"
    top = text.partition("-->")[0]
    assert all(word in top for word in ("<!--", "Goes to:", "Change:", "Then:"))
    assert max(map(len, text.splitlines())) <= 130


def test_the_readme_names_every_file() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name(path)}`" in readme for path in FILES if path.parent.name != "fusionpbx")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_with_a_socket_carry_the_rescue(path: Path) -> None:
    applications = [
        (action.get("application"), action.get("data", ""))
        for action in ElementTree.parse(path).iter("action")
    ]
    names = [application for application, _ in applications]
    if "socket" in names:
        assert names.index("sched_transfer") < names.index("socket")
        assert ("set", "socket_resume=true") in applications[: names.index("socket")]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_hung_service_costs_three_seconds_and_a_stopped_one_nothing(path: Path) -> None:
    """What the README says was measured; the files hold what makes it so."""
    actions = [
        (action.get("application", ""), action.get("data", ""))
        for action in ElementTree.parse(path).iter("action")
    ]
    rescues = [data for application, data in actions if application == "sched_transfer"]
    sockets = [data for application, data in actions if application == "socket"]
    assert len(rescues) == len(sockets) <= 1
    if not sockets:
        return

    # one address: each one more may be waited for, if it is another machine's
    assert sockets == ["127.0.0.1:8084 async full"]
    # on to the number and the context where the call is
    seconds, number, dialplan_kind, context = rescues[0].split()
    assert (seconds, number, dialplan_kind) == ("+3", "${destination_number}", "XML")
    assert [f"{number} XML {context}"] == [data for what, data in actions if what == "transfer"]
    # nothing on the way to the phones takes time
    at_once = {"set", "export", "record_session", "sched_transfer", "transfer", "socket"}
    assert {what for what, _ in actions} <= at_once | {"bridge", "stop_record_session", "hangup"}


def test_the_phone_shows_the_client_and_the_manager_is_rung_first(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.contacts[CLIENT] = {"contact_name": "Иванов Иван", "manager": "102"}
    with house(switch, planfix, tmp_path) as (_, plan):
        call = Channel(switch, plan, Phones(picks_up={"102": 4}), CLIENT, LINE).run("public")
        planfix.wait_for(lambda crm: "record" in told(crm, call.uuid))
        link = link_to_the_recording(planfix)
        assert requests.get(link, timeout=60).status_code == 200
    assert (call.rang, call.shown, call.talked_with) == (["102"], {"102": "Иванов Иван"}, "102")
    assert told(planfix, call.uuid) == [
        "contact",
        "INCOMING 102",
        "ACCEPTED 102",
        "COMPLETED 102 Success",
        "record",
    ]
    assert call.variables["planfix_contact_name"] == "Иванов Иван"
    assert call.misbehaviour == []
    assert not call._scheduled


def test_a_manager_who_is_away_leaves_the_client_to_the_group(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with house(switch, planfix, tmp_path) as (_, plan):
        call = Channel(switch, plan, Phones(picks_up={"103": 2}), CLIENT, LINE).run("public")
        planfix.wait_for(lambda crm: "record" in told(crm, call.uuid))
    assert (call.rang, call.talked_with) == (["102", "101", "102", "103"], "103")
    assert "COMPLETED 103 Success" in told(planfix, call.uuid)
    assert "COMPLETED 102 Canceled" in told(planfix, call.uuid)


@pytest.mark.parametrize("off", [{"102"}, {"101", "102", "103"}])
def test_phones_that_are_off_are_passed_over(
    switch: Switch, planfix: Planfix, tmp_path: Path, off: set[str]
) -> None:
    switch.registered -= off
    with house(switch, planfix, tmp_path) as (_, plan):
        call = Channel(
            switch, plan, Phones(picks_up={"101": 1, "103": 2}, off=off), CLIENT, LINE
        ).run("public")
    assert call.rang == [ext for ext in ("101", "103") if ext not in off]
    assert call.cause == ("NO_ANSWER" if len(off) == 3 else "NORMAL_CLEARING")
    # nobody to name: the static list is rung
    assert bool(call.variables.get("planfix_ring")) == (len(off) < 3)


def test_a_user_whose_dial_string_is_a_trunk_rings_and_does_not_show_the_client_there(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.registered -= {"103"}
    switch.dial_strings["103"] = "sofia/gateway/trunk/79260000003"
    with house(switch, planfix, tmp_path) as (_, plan):
        call = Channel(switch, plan, Phones(picks_up={"103": 1}), CLIENT, LINE).run("public")
    assert call.rang == ["102", "101", "102", "103"]
    assert call.shown == {"101": "Ivan Petrov", "102": "Ivan Petrov", "103": CLIENT}


MOBILE = "79260000002"


def test_a_colleague_who_has_only_a_mobile_rings_with_the_group_through_his_trunk(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    settings = {
        "EXTENSION_ALIASES": f"{MOBILE}:110",
        "DIAL_STRINGS": "110:sofia/gateway/second/{number}",
        "RING_FIRST": "",
        "CONTACT_DEADLINE": "5",
    }
    switch.speed = 50
    with running(switch, planfix, tmp_path, **settings) as service:
        plan = dialplan(service, tmp_path, group="101,110")
        call = Channel(switch, plan, Phones(picks_up={MOBILE: 1}), CLIENT, LINE).run("public")
        planfix.wait_for(lambda crm: "COMPLETED 110 Success" in told(crm, call.uuid))
    assert (call.rang, call.talked_with) == (["101", MOBILE], MOBILE)
    assert f"sofia/gateway/second/{MOBILE}" in call.variables["planfix_ring"]


def test_manager_then_his_mobile_then_who_talked_last_then_all_in_one_call(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.before = lambda fields: gevent.sleep(0.3 * (fields.get("status") == "Canceled"))
    planfix.contacts[CLIENT] = {"contact_name": "Иванов Иван", "manager": "104"}
    settings = {"EXTENSION_ALIASES": f"{MOBILE}:102", "RING_SECONDS": "10"}
    with house(switch, planfix, tmp_path, **settings) as (service, plan):
        first = Channel(switch, plan, Phones(picks_up={"104": 1}), CLIENT, LINE).run("public")
        planfix.wait_for(lambda crm: "record" in told(crm, first.uuid))
        service.end()

    planfix.contacts[CLIENT]["manager"] = "102"
    with house(switch, planfix, tmp_path, **settings) as (_, plan):
        phones = Phones(picks_up={"103": 2}, early={MOBILE})
        call = Channel(switch, plan, phones, CLIENT, LINE).run("public")
        planfix.wait_for(lambda crm: "record" in told(crm, call.uuid))

    assert call.rang == ["102", MOBILE, "104", "101", "102", "103"]
    names = dict.fromkeys(("101", "102", "103", "104"), "Иванов Иван")
    assert call.shown == {**names, MOBILE: CLIENT}
    assert call.talked_with == "103"
    lines = told(planfix, call.uuid)
    assert lines[:5] == [
        "contact",
        "INCOMING 102",
        "COMPLETED 102 Canceled",
        "INCOMING 104",
        "COMPLETED 104 Canceled",
    ]
    assert set(lines[5:8]) == {"INCOMING 101", "INCOMING 102", "INCOMING 103"}
    assert lines[8] == "ACCEPTED 103"
    assert sorted(lines[9:]) == [
        "COMPLETED 101 Canceled",
        "COMPLETED 102 Canceled",
        "COMPLETED 103 Success",
        "record",
    ]
    assert call.misbehaviour == []


def test_a_ring_that_nobody_takes_is_missed_by_all_and_leaves_no_recording(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with house(switch, planfix, tmp_path) as (_, plan):
        call = Channel(switch, plan, Phones(), CLIENT, LINE).run("public")
        missed = [f"COMPLETED {ext} Missed" for ext in ("101", "102", "103")]
        planfix.wait_for(lambda crm: set(missed) <= set(told(crm, call.uuid)))
    assert call.cause == "NO_ANSWER"
    assert told(planfix, call.uuid).count("COMPLETED 102 Canceled") == 1
    assert sorted(line for line in told(planfix, call.uuid) if "Missed" in line) == missed
    assert not (tmp_path / f"{call.uuid}.wav").exists()


def test_explain_tells_what_planfix_said_of_the_caller(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with house(switch, planfix, tmp_path) as (_, plan):
        call = Channel(switch, plan, Phones(), CLIENT, LINE).run("public")
        planfix.wait_for(lambda crm: "COMPLETED 103 Missed" in told(crm, call.uuid))
    done = call_cli(tmp_path, "explain", call.uuid[:13], STORE_URL=f"sqlite:///{tmp_path}/store.db")
    shown = " ".join(done.stdout.split())
    assert re.search(r"caller looked up: Ivan Petrov, manager 102 \(asked, \d+ ms\)", shown)


def test_whoever_is_in_a_call_is_not_rung(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    with house(switch, planfix, tmp_path) as (service, plan):
        talk = Channel(
            switch, plan, Phones(picks_up={CLIENT: 0.1}, talks=1e6), "102", CLIENT, user_name="102"
        )
        talking = gevent.spawn(talk.run, "default")
        planfix.wait_for(lambda crm: "ACCEPTED 102" in told(crm, talk.uuid))
        call = Channel(switch, plan, Phones(picks_up={"101": 1}), CLIENT, LINE).run("public")
        talk.hang_up()
        talking.get(timeout=60)
        service.wait_for("caller_lookup .*rung=2")
    assert call.rang == ["101", "103"]


@pytest.mark.parametrize("group", ["", "104|&park(),user/105,'{a=b}',101"])
def test_the_group_is_what_the_dialplan_says(
    switch: Switch, planfix: Planfix, tmp_path: Path, group: str
) -> None:
    with house(switch, planfix, tmp_path) as (service, _):
        plan = dialplan(service, tmp_path, group=group.replace("&", "&amp;"))
        call = Channel(switch, plan, Phones(), CLIENT, LINE).run("public")
    assert call.rang == (["102", "101"] if group else ["102"])


@pytest.mark.parametrize("client", [CLIENT, "79260000001"])
def test_a_new_client_opens_the_window_of_the_one_who_picks_up(
    switch: Switch, planfix: Planfix, tmp_path: Path, client: str
) -> None:
    with house(switch, planfix, tmp_path, WINDOWS="known", RING_FIRST="") as (_, plan):
        call = Channel(switch, plan, Phones(picks_up={"103": 2}), client, LINE).run("public")
        planfix.wait_for(lambda crm: "record" in told(crm, call.uuid))
    windows = [line for line in told(planfix, call.uuid) if "INCOMING" in line]
    rung = ["101", "102", "103"] if client == CLIENT else ["103"]
    assert sorted(windows) == [f"INCOMING {ext}" for ext in rung]
    assert call.rang == ["101", "102", "103"]


@pytest.mark.parametrize("is_static", [False, True])
def test_a_phone_that_sends_sound_before_it_answers_does_not_end_the_ring(
    switch: Switch, planfix: Planfix, tmp_path: Path, is_static: bool
) -> None:
    phones = Phones(picks_up={"103": 2}, early={"101"})
    with house(switch, planfix, tmp_path) as (service, _):
        plan = dialplan(None if is_static else service, tmp_path)
        call = Channel(switch, plan, phones, "79260000001", LINE).run("public")
    assert call.talked_with == "103"
    assert call.rang == ["101", "102", "103"]


def test_a_worker_for_the_socket_alone_knows_from_the_store_who_is_busy(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.speed = 50
    settings = settings_for(switch, planfix, tmp_path, CONTACT_DEADLINE="5")
    with started(Service(tmp_path, settings, "--only", "events")) as events:
        talking = Halt(switch, lambda step: step.get("Event-Name") == "CALL_UPDATE")
        player = gevent.spawn(switch.play, "group_answered", 0)
        events.wait_for("notice_created.*ext=102.*kind=ACCEPTED")
        assert talking.reached()
        switch.before = lambda _: None
        with started(Service(tmp_path, settings, "--only", "socket")) as service:
            phones = Phones(picks_up={"103": 1})
            plan = dialplan(service, tmp_path)
            call = Channel(switch, plan, phones, "79260000001", LINE).run("public")
        talking.go_on()
        player.join()
    assert call.rang == ["101", "103"]


def test_a_worker_for_the_socket_alone_asks_freeswitch_too(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.speed = 50
    switch.registered.discard("102")
    settings = settings_for(switch, planfix, tmp_path)
    with started(Service(tmp_path, settings, "--only", "socket")) as service:
        service.wait_for("freeswitch_linked")
        plan = dialplan(service, tmp_path)
        call = Channel(switch, plan, Phones(picks_up={"103": 2}), CLIENT, LINE).run("public")
    assert call.rang == ["101", "103"]


def test_an_outgoing_call_is_recorded_and_told(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with house(switch, planfix, tmp_path) as (_, plan):
        phones = Phones(picks_up={CLIENT: 3})
        call = Channel(switch, plan, phones, "101", "89161234567", user_name="101").run("default")
        planfix.wait_for(lambda crm: "record" in told(crm, call.uuid))
    assert told(planfix, call.uuid) == [
        "OUTGOING 101",
        "ACCEPTED 101",
        "COMPLETED 101 Success",
        "record",
    ]
    assert {(f["phone"], f["diversion"]) for f in planfix.accepted if f["cmd"] == "event"} == {
        (CLIENT, LINE)
    }


def test_a_click_goes_through_its_context_and_is_recorded(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with house(switch, planfix, tmp_path) as (_, plan):
        phones = Phones(picks_up={CLIENT: 3})
        call = Channel(switch, plan, phones, "101", CLIENT, user_name="101").run("planfix_click")
        planfix.wait_for(lambda crm: "record" in told(crm, call.uuid))
    (event,) = [fields for fields in planfix.accepted if fields.get("status") == "Success"]
    assert (event["ext"], event["is_recorded"], event["diversion"]) == ("101", "1", LINE)


@pytest.mark.parametrize(
    ("context", "fusion"), [("planfix_click", False), ("default", False), (DOMAIN, True)]
)
@pytest.mark.parametrize("chosen", ["", "74950000009"])
def test_the_client_sees_neither_the_ext_nor_the_name_of_the_employee(
    switch: Switch,
    tmp_path: Path,
    context: str,
    fusion: bool,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As vanilla's directory gives them to each user. chosen: what fsplanfix knows, if anything."""
    seen: list[tuple[str, str]] = []

    def hear(event: str, fields: dict[str, str]) -> None:
        if event == "CHANNEL_CREATE" and fields["Call-Direction"] == "outbound":
            seen.append((fields["Caller-Caller-ID-Number"], fields["Caller-Caller-ID-Name"]))

    monkeypatch.setattr(switch, "say", hear)
    switch.speed = 50
    plan = dialplan(None, tmp_path, fusion)
    inside = {"effective_caller_id_number": "101", "effective_caller_id_name": "Extension 101"}
    clicked = click(context, caller_id=chosen) | inside
    Channel(switch, plan, Phones(picks_up={CLIENT: 2}), "101", CLIENT, **clicked).run(context)
    assert seen == [(chosen or LINE,) * 2]


@pytest.mark.parametrize(("context", "fusion"), [("default", False), (DOMAIN, True)])
def test_who_dials_himself_shows_neither_his_ext_nor_his_name(
    switch: Switch, tmp_path: Path, context: str, fusion: bool
) -> None:
    switch.speed = 50
    plan = dialplan(None, tmp_path, fusion)
    inside = {"effective_caller_id_number": "101", "effective_caller_id_name": "Extension 101"}
    call = Channel(switch, plan, Phones(picks_up={CLIENT: 2}), "101", CLIENT, **inside).run(context)
    assert call.variables["effective_caller_id_number"] == LINE
    assert call.shown == {CLIENT: LINE}


@pytest.mark.parametrize(
    ("context", "fusion"), [("planfix_click", False), ("default", False), (DOMAIN, True)]
)
def test_a_click_that_both_sides_record_has_one_recording(
    switch: Switch,
    tmp_path: Path,
    context: str,
    fusion: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RECORD_CLICKS with a dialplan that records: FreeSWITCH wrote two files in different folders."""
    begun: list[str] = []

    def hear(event: str, fields: dict[str, str]) -> None:
        if event == "RECORD_START":
            begun.append(fields["Record-File-Path"])

    monkeypatch.setattr(switch, "say", hear)
    switch.speed = 50
    clicked = click(context, recordings=f"{tmp_path}/ours")
    files = dialplan(None, tmp_path, fusion)
    Channel(switch, files, Phones(picks_up={CLIENT: 2}), "101", CLIENT, **clicked).run(context)
    (path,) = begun
    assert path.startswith(str(tmp_path))
    assert "/ours/" not in path


def test_ours_come_before_the_files_of_a_vanilla_configuration() -> None:
    """They take every number of 11 digits (01_example.com.xml) or a DID (00_inbound_did.xml)."""
    folders = {"public": "00_inbound_did.xml", "default": "01_example.com.xml"}
    for folder, theirs in folders.items():
        ours = [path.name for path in FILES if path.parent.name == folder]
        assert ours
        assert max(ours) < theirs


@pytest.mark.parametrize(
    ("context", "fusion"), [("planfix_click", False), ("default", False), (DOMAIN, True)]
)
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("leg", "tone"),
    [
        ({"transfer_ringback": "%(1000,4000,425)"}, "%(1000,4000,425)"),
        ({"ignore_early_media": "true"}, "%(800,3200,425)"),
    ],
)
def test_after_a_click_the_employee_hears_the_network_or_a_tone(
    switch: Switch,
    tmp_path: Path,
    context: str,
    fusion: bool,
    early: bool,
    leg: dict[str, str],
    tone: str,
) -> None:
    switch.speed = 50
    plan = dialplan(None, tmp_path, fusion)
    phones = Phones(picks_up={CLIENT: 2}, early={CLIENT} if early else set())
    call = Channel(switch, plan, phones, "101", CLIENT, **leg)
    call.clicked = True
    call.run(context)
    assert call.heard == {CLIENT: "the network" if early else tone}
    assert call.talked_with == CLIENT


@pytest.mark.parametrize(("context", "fusion"), [("default", False), (DOMAIN, True)])
@pytest.mark.parametrize("early", [False, True])
def test_an_employee_who_dials_hears_the_network_or_the_phones_own_tone(
    switch: Switch, tmp_path: Path, context: str, fusion: bool, early: bool
) -> None:
    switch.speed = 50
    plan = dialplan(None, tmp_path, fusion)
    phones = Phones(picks_up={CLIENT: 2}, early={CLIENT} if early else set())
    call = Channel(switch, plan, phones, "101", CLIENT, ignore_early_media="true").run(context)
    assert call.heard == {CLIENT: "the network" if early else "the phone's own tone"}


def test_a_marked_call_stays_out_of_planfix_and_data_goes_in(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with house(switch, planfix, tmp_path) as (_, plan):
        door = Channel(switch, plan, Phones(picks_up={"101": 1}), "74950000099", LINE).run("public")
        marked = Channel(
            switch, plan, Phones(picks_up={"101": 1}), "79260000001", "74950000002"
        ).run("public")
        planfix.wait_for(lambda crm: "record" in told(crm, marked.uuid))
    assert door.talked_with == "101"
    assert set(told(planfix, door.uuid)) <= {"contact"}
    (end,) = [fields for fields in planfix.accepted if fields.get("status") == "Success"]
    assert (end["data_utm_source"], end["data_utm_medium"]) == ("site.io", "banner")


@pytest.mark.parametrize(("manager", "rang"), [("102", ["102"]), ("", ["101", "102", "103"])])
def test_where_contexts_are_domains(
    switch: Switch, planfix: Planfix, tmp_path: Path, manager: str, rang: list[str]
) -> None:
    planfix.contacts[CLIENT] = {"contact_name": "ACME, Ltd", "manager": manager}
    with house(switch, planfix, tmp_path) as (service, _):
        plan = dialplan(service, tmp_path, fusion=True)
        phones = Phones(picks_up={"102": 2, "103": 1} if manager else {"103": 1})
        call = Channel(switch, plan, phones, CLIENT, "9000", **FUSION).run(DOMAIN)
        out = Channel(
            switch, plan, Phones(picks_up={CLIENT: 1}), "101", CLIENT, user_name="101", **FUSION
        )
        out.variables["call_direction"] = "outbound"
        out.run(DOMAIN)
        planfix.wait_for(lambda crm: "record" in told(crm, out.uuid))
    assert (call.rang, call.shown[rang[0]]) == (rang, "ACME Ltd")
    assert [line for line in call.log if line[0] == "socket"] != []
    assert [line for line in out.log if line[0] == "socket"] == []
    assert f"{DOMAIN}/{out.uuid}.wav" in next(data for app, data in out.log if app == "export")
    assert not call._scheduled
