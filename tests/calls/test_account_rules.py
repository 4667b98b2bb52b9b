"""Several companies in one tracker: each call by the rules of its own account."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fsplanfix.calls import snapshot
from fsplanfix.calls.model import ACCOUNT, Missed, Notice, Rules, Windows
from fsplanfix.calls.number_rules import read_rules
from fsplanfix.calls.reconcile import missed
from fsplanfix.calls.tracker import Tracker
from fsplanfix.calls.unclaimed import MOST_ENTRIES, Named, read
from fsplanfix.calls.whose import AccountRules, account_of_channel, all_rules
from fsplanfix.freeswitch.events import SwitchEvent

from ..support.accounts import account as channels_at
from ..support.accounts import positions, restarted
from ..support.cases import for_each
from ..support.commands import call_cli
from ..support.scene import IN, Scene
from ..support.traces import NAMES, assert_every_part_ends_once, events, path_of, rules_of, told

FUSIONPBX = [name for name in NAMES if name.startswith("fusionpbx/")]
DOMAINS = {"a": "a.example", "b": "b.example"}


def of_domains(rules: Mapping[str, Rules], shared: Rules | None = None) -> AccountRules:
    """Rules of accounts with a domain each, the shared ones unlike any of theirs."""
    mine = {name: replace(own, domains=frozenset({DOMAINS[name]})) for name, own in rules.items()}
    return AccountRules(mine, shared or Rules())


def alone(name: str, rules: AccountRules, account: str) -> list[Notice]:
    """What is told of one company by a tracker of its own."""
    return [replace(n, account=account) for n in told(events(name), rules[account])]


def by_account(notices: list[Notice], account: str) -> list[Notice]:
    return [notice for notice in notices if notice.account == account]


OTHERS = Rules(country="KZ", ext_pattern=re.compile("none"), hidden_number="nobody")
"""Settings of the environment that fit neither company: nothing may be read by them in the end."""

A = Rules(
    aliases={"101": "501", "79260000007": "502"},
    missed=Missed.FIRST,
    hidden_number="hidden",
    default_ext={"*": "500"},
    number_rules=read_rules(r"(7916\d+)=00$1"),
)
B = Rules(country="KZ", ext_pattern=re.compile(r"10\d", re.ASCII), report_unrouted=False)


@for_each(FUSIONPBX)
def test_two_accounts_are_told_what_one_would_be_each_its_own(name: str) -> None:
    whole, rules = told(events(name), rules_of(name)), rules_of(name)
    found = told(events(name), of_domains({"a": rules, "b": rules}, rules))
    assert [replace(notice, account=ACCOUNT) for notice in found] == whole
    for account in DOMAINS:
        assert by_account(found, account) == alone(name, of_domains({account: rules}), account)


@for_each(FUSIONPBX)
def test_each_call_is_told_by_the_rules_of_its_own_account(name: str) -> None:
    rules = of_domains({"a": A, "b": B}, OTHERS)
    found = told(events(name), rules)
    for account in rules:
        assert by_account(found, account) == alone(name, rules, account)


@for_each([name for name in NAMES if not name.startswith("accounts/")])
def test_an_account_by_its_lines_is_told_what_it_would_be_alone(name: str) -> None:
    lines = {n.diversion for n in told(events(name), rules_of(name)) if n.diversion}
    lines.add("74959999998")
    rules = AccountRules(
        {
            "a": replace(rules_of(name), lines=tuple(lines)),
            "b": Rules(country="KZ", lines=("74959999999", "7999*")),
        },
        replace(OTHERS, ext_pattern=Rules().ext_pattern),
    )
    assert told(events(name), rules) == alone(name, rules, "a")


@pytest.mark.no_cover
@for_each(FUSIONPBX)
def test_a_restart_at_any_moment_leaves_each_call_to_its_company(name: str) -> None:
    rules, where = of_domains({"a": A, "b": B}, OTHERS), positions(name)
    stream = events(name)
    whose = {notice.callid: notice.account for notice in told(stream, rules)}
    for cut in range(len(stream)):
        tracker = Tracker(rules)
        said = [n for event in stream[:cut] for n in tracker.feed(event)]
        tracker = restarted(tracker)
        for event in missed(tracker, channels_at(name, where[cut])):
            said += tracker.feed(event)
        said += [n for event in stream[cut:] for n in tracker.feed(event)]
        assert_every_part_ends_once(said)
        assert {(n.callid, n.account) for n in said} <= whose.items()


def ringing(rules: AccountRules, **phone: str) -> Scene:
    scene = Scene(rules).client(number="89161234567", Caller__Destination__Number="84950000001")
    return scene.phone("B", "101", parent="A", **phone).rings("B")


def accounts_of(scene: Scene) -> set[str]:
    return {notice.account for notice in scene.notices}


A_PHONE = {"variable_dialed_domain": "a.example"}
B_PHONE = {"variable_dialed_domain": "b.example"}


def test_the_clients_leg_is_read_again_when_a_phone_names_the_company() -> None:
    a = Rules(aliases={"101": "501"}, number_rules=read_rules(r"8(\d+)=7$1"))
    b = Rules(country="KZ", number_rules=read_rules(r"8(\d+)=7$1;"))
    for account, phone, ext in (("a", A_PHONE, "501"), ("b", B_PHONE, "101")):
        scene = ringing(of_domains({"a": a, "b": b}, Rules(country="FR")), **phone)
        assert scene.so_far == [f"{IN}I{ext}"]
        assert accounts_of(scene) == {account}


def test_a_hidden_caller_is_named_and_left_out_as_the_account_wants() -> None:
    for hidden, told_of in (("hidden", ["in hidden 74950000001 I101"]), ("", [])):
        rules = of_domains({"a": Rules(hidden_number=hidden)}, Rules(hidden_number="nobody"))
        scene = Scene(rules).client(number="0").phone("B", "101", parent="A", **A_PHONE)
        assert scene.rings("B").so_far == told_of
    # what the environment leaves out may be told by an account
    rules = of_domains({"a": Rules()}, Rules(hidden_number="", ignore_numbers=("7916*",)))
    assert ringing(rules, **A_PHONE).so_far == [f"{IN}I101"]
    rules = of_domains({"a": Rules(ignore_numbers=("7916*",))}, Rules())
    assert ringing(rules, **A_PHONE).so_far == []


def test_the_dialplans_line_is_written_as_the_account_writes_it() -> None:
    rules = of_domains({"a": Rules(area_code="495")}, Rules(area_code="812"))
    scene = Scene(rules).client()
    scene.event("CHANNEL_PROGRESS_MEDIA", "A", variable_planfix_diversion="0000002")
    scene.phone("B", "101", parent="A", **A_PHONE).rings("B")
    assert scene.so_far == ["in 79161234567 74950000002 I101"]


def test_a_mobile_rung_before_the_company_is_known_is_its_employees() -> None:
    rules = of_domains({"a": Rules(aliases={"79260000007": "107"})}, Rules(country="KZ"))
    scene = Scene(rules).client().outside("M", parent="A", number="89260000007")
    scene.phone("B", "101", parent="A", **A_PHONE).rings("B").gone("M").gone("B")
    assert scene.gone("A").told == [f"{IN}I101 M101"]
    scene = Scene(rules).client().outside("M", parent="A", number="89260000007")
    scene.phone("B", "101", parent="A", **A_PHONE).gone("B")
    assert scene.rings("M").gone("M").gone("A").told == [f"{IN}I107 M107"]
    scene = Scene(rules).client().outside("M", parent="A", number="89260000007")
    scene.phone("B", "101", parent="A", **A_PHONE).gone("B").gone("M")
    assert scene.gone("A").told == [f"{IN}I107 M107 I101 M101"]


def test_windows_missed_and_default_exts_are_the_accounts() -> None:
    a = Rules(windows=Windows.ANSWER, missed=Missed.NONE, default_ext={"*": "500"})
    rules = of_domains({"a": a, "b": Rules()}, Rules(default_ext={"*": "900"}))
    assert ringing(rules, **A_PHONE).so_far == []
    assert ringing(rules, **A_PHONE).gone("B").gone("A").told == [f"{IN}I101 X101"]
    assert ringing(rules, **B_PHONE).gone("B").gone("A").told == [f"{IN}I101 M101"]
    for context, ext in (("a.example", "500"), ("b.example", "-")):
        scene = Scene(rules).client().event("CHANNEL_ANSWER", "A", Caller__Context=context)
        assert scene.gone("A").told == [f"{IN}I{ext} M{ext}"]


def test_an_employee_calls_by_his_accounts_country() -> None:
    rules = of_domains({"a": Rules(), "b": Rules(country="KZ")}, Rules(country="FR"))
    for account, dialled, phone in (
        ("a", "89161234567", "79161234567"),
        ("b", "87011234567", "77011234567"),
    ):
        scene = Scene(rules).employee("B", "101", dialled, variable_domain_name=DOMAINS[account])
        scene.outside("A", parent="B", number=dialled).gone("A").gone("B")
        assert [(n.account, n.phone, n.ext) for n in scene.notices] == [(account, phone, "101")] * 2


def test_what_an_account_calls_a_gateway_is_one_for_it_alone() -> None:
    a = Rules(trunk_users=frozenset({"200"}))
    for account, heard in (("a", [f"{IN}I- M-"]), ("b", [])):
        rules = of_domains({"a": a, "b": Rules()})
        scene = Scene(rules).employee(
            "A", "200", "74950000001", shows="79161234567", variable_domain_name=DOMAINS[account]
        )
        assert scene.gone("A").told == heard


def test_a_line_is_compared_as_each_account_writes_it() -> None:
    rules = AccountRules(
        {
            "a": Rules(area_code="495", lines=("74950000001",)),
            "b": Rules(area_code="812", lines=("7812000000*",)),
            "c": Rules(country="KZ", lines=("7727*",)),
        },
        Rules(country="FR"),
    )
    for dialled, account in (("0000001", "a"), ("0000002", "b"), ("87271234567", "c")):
        scene = Scene(rules).client(Caller__Destination__Number=dialled).gone("A")
        assert accounts_of(scene) == {account}
    assert Scene(rules).client(Caller__Destination__Number="0100002").gone("A").told == []


def test_what_another_company_knows_of_a_call_stays_with_it() -> None:
    rules = of_domains({"a": Rules(), "b": Rules()})
    scene = Scene(rules).client().phone("B", "101", parent="A", **A_PHONE).rings("B")
    scene.phone("C", "101", parent="A", variable_planfix_data_secret="b", **B_PHONE)
    scene.event("RECORD_START", "C", Record__File__Path="/b/c.wav").rings("C")
    scene.answers("A").answers("C").bridge("A", "C").gone("B")
    scene.event("RECORD_STOP", "C", Record__File__Path="/b/c.wav").gone("C").gone("A")
    assert accounts_of(scene) == {"a"}
    assert [n.recording for n in scene.notices if n.recording] == []
    assert not any(n.data or n.is_recorded for n in scene.notices)
    assert "101" not in {n.ext for n in scene.notices[1:] if n.kind == "ACCEPTED"}


@for_each(
    [
        ({"Caller-Context": "a.example"}, "a", ACCOUNT),
        ({"Caller-Context": "public", "variable_domain_name": "a.example"}, "a", ACCOUNT),
        ({"Caller-Context": "b.example"}, "b", ACCOUNT),
        ({"variable_domain_name": "b.example"}, "b", "@b.example"),
        ({"Caller-Destination-Number": "84950000001"}, "a", ACCOUNT),
        ({"variable_planfix_account": "b", "Caller-Context": "a.example"}, "b", "b"),
        ({"variable_planfix_account": "x"}, "x", "x"),
        ({"Caller-Context": "public"}, "", ACCOUNT),
        ({"variable_presence_id": "1@b.example", "variable_sip_to_host": "b.example"}, "", ACCOUNT),
    ]
)
def test_a_client_in_the_dialplan_belongs_to(case: tuple[dict[str, str], str, str]) -> None:
    headers, of_many, of_one = case
    event = SwitchEvent.made_of({"Unique-ID": "A", "Call-Direction": "inbound", **headers})
    many = of_domains({"a": Rules(lines=("74950000001",)), "b": Rules()}, Rules(country="KZ"))
    assert account_of_channel(event, many) == of_many
    part = Rules(domains=frozenset({"a.example"}), lines=("74950000001",))
    assert account_of_channel(event, all_rules(part)) == of_one
    assert account_of_channel(event, all_rules(Rules())) == ACCOUNT


def test_the_same_ext_of_two_companies_is_busy_for_each_alone() -> None:
    scene = Scene(of_domains({"a": Rules(aliases={"101": "501"}), "b": Rules()}))
    scene.employee("B", "101", "102", variable_domain_name="a.example")
    scene.employee("C", "101", "102", variable_domain_name="b.example")
    scene.employee("D", "103", "102", variable_domain_name="b.example")
    assert scene.tracker.book.exts_in_calls("a") == {"501"}
    assert scene.tracker.book.exts_in_calls("b") == {"101", "103"}
    assert scene.tracker.book.exts_in_calls() == set()


def test_an_open_call_is_restored_with_its_account() -> None:
    rules = of_domains({"a": Rules(), "b": Rules()}, Rules(country="KZ"))
    scene = Scene(rules).client(number="89161234567", Caller__Destination__Number="84950000001")
    state = snapshot.dump(scene.tracker, "A")
    assert state is not None
    scene.tracker = Tracker(rules)
    snapshot.restore(scene.tracker, state)
    scene.phone("B", "101", parent="A", **B_PHONE).rings("B")
    assert scene.so_far == [f"{IN}I101"]
    state = snapshot.dump(scene.tracker, "A")
    assert state is not None
    # the account is gone from the file: what was begun as its call ends as its call
    scene.tracker = Tracker(of_domains({"a": Rules()}))
    snapshot.restore(scene.tracker, state)
    scene.gone("B").gone("A")
    assert accounts_of(scene) == {"b"}


def test_a_call_of_a_store_of_one_company_goes_on_as_its_call() -> None:
    scene = Scene().client().phone("B", "101", parent="A").rings("B")
    state = snapshot.dump(scene.tracker, "A")
    assert state is not None
    scene.tracker = Tracker(of_domains({"a": Rules(), "b": Rules()}))
    snapshot.restore(scene.tracker, state)
    scene.gone("B").gone("A")
    assert accounts_of(scene) == {ACCOUNT}


def test_a_recovered_call_stays_its_companys() -> None:
    rules = of_domains({"a": Rules(), "b": Rules()})
    scene = ringing(rules, **A_PHONE).gone("B").gone("A")
    scene.client(variable_recovered="true", Caller__Context="b.example").gone("A")
    scene.client("A", variable_recovered="true")
    scene.phone("B", "102", parent="A").rings("B").gone("B").gone("A")
    assert accounts_of(scene) == {"a"}


def is_due(scene: Scene) -> bool:
    return scene.tracker.unclaimed.is_due


def nobodys(scene: Scene, leg: str, line: str, **named: str) -> None:
    scene.client(leg, Caller__Destination__Number=line, **named).gone(leg)


def test_calls_of_nobody_are_counted_by_line_and_domain() -> None:
    scene = Scene(of_domains({"a": Rules(lines=("74950000001",))}))
    unclaimed = scene.tracker.unclaimed
    nobodys(scene, "A", "74950000001")
    assert not is_due(scene)
    for leg in "BC":
        scene.client(leg, Caller__Destination__Number="74950000002")
        scene.phone(f"{leg}1", "101", parent=leg, variable_dialed_domain="c.example")
        scene.rings(f"{leg}1").gone(f"{leg}1").gone(leg)
    nobodys(scene, "D", "74950000003", variable_planfix_account="d")
    assert is_due(scene)
    first = unclaimed.added_to("")
    assert read(first) == [
        (Named("74950000002", "c.example", ""), 2),
        (Named("74950000003", "", "d"), 1),
    ]
    assert not is_due(scene)


def test_a_line_that_is_known_already_is_kept_once_a_minute() -> None:
    scene = Scene(of_domains({"a": Rules()}))
    unclaimed = scene.tracker.unclaimed
    nobodys(scene, "A", "74950000002")
    first = unclaimed.added_to("")
    nobodys(scene, "B", "74950000002")
    assert not is_due(scene)
    scene.now += 60
    nobodys(scene, "C", "74950000002")
    assert is_due(scene)
    assert read(unclaimed.added_to(first)) == [(Named("74950000002", "", ""), 3)]


def test_no_flood_of_lines_grows_what_is_counted() -> None:
    scene = Scene(of_domains({"a": Rules()}))
    for n in range(200):
        nobodys(scene, f"A{n}", f"7495{n:07}")
    assert len(read(scene.tracker.unclaimed.added_to(""))) == MOST_ENTRIES


def test_one_company_that_is_the_whole_switch_counts_nothing() -> None:
    scene = Scene().client().gone("A")
    assert read(scene.tracker.unclaimed.added_to("")) == []


def test_replay_names_the_account_of_each_request_if_there_are_several(tmp_path: Path) -> None:
    file, trace = tmp_path / "accounts.toml", str(path_of("fusionpbx/did_answered"))

    def replay() -> list[str | None]:
        done = call_cli(tmp_path, "replay", "--json", trace, ACCOUNTS_FILE=str(file))
        return [json.loads(line).get("account") for line in done.stdout.splitlines()]

    file.write_text('[a]\ndomains = "a.example"\n')
    assert replay() == [None] * 3
    file.write_text('[a]\ndomains = "a.example"\n[b]\ndomains = "b.example"\n')
    assert replay() == ["a"] * 3
    done = call_cli(tmp_path, "replay", trace, ACCOUNTS_FILE=str(file))
    assert "  [a]" in done.stdout.splitlines()[0]
