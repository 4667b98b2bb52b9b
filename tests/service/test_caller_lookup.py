"""From a channel's data to the variables the dialplan gets."""

from collections.abc import Iterable, Mapping, Sequence

import gevent
import pytest
from gevent.queue import Queue

from fsplanfix.calls.model import Rules
from fsplanfix.calls.number_rules import read_rules
from fsplanfix.errors import LinkDown
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.outbox.records import Entry
from fsplanfix.planfix.contacts import NOBODY, Contact, Contacts
from fsplanfix.service.caller_lookup import CallerLookup, in_words
from fsplanfix.service.ring import First, RingPlan

from ..support.service import PATIENCE
from ..support.traces import wire

CHANNEL = next(
    said
    for said in wire("outbound_lookup_then_resume")
    if said.startswith("Event-Name: CHANNEL_DATA")
)


class Phones:
    """Stands where FreeSWITCH is asked about phones."""

    def __init__(
        self,
        absent: Iterable[str] = (),
        outside: Iterable[str] = (),
        unknown: Iterable[str] = (),
    ) -> None:
        self._absent, self._outside = {*absent, *unknown}, set(outside)
        self._unknown = set(unknown)

    def absent(self, _: SwitchEvent, users: Sequence[str], *__: object) -> set[str]:
        return self._absent & set(users)

    def unknown(self, _: SwitchEvent, users: Sequence[str], *__: object) -> set[str]:
        return self._unknown & set(users)

    def outside(self, _: SwitchEvent, users: Sequence[str], *__: object) -> set[str]:
        return self._outside & set(users)


def found(
    answer: dict[str, object],
    rules: Rules | None = None,
    channel: str = CHANNEL,
    last: str = "",
    absent: Iterable[str] = (),
    outside: Iterable[str] = (),
    plan: RingPlan | None = None,
    unknown: Iterable[str] = (),
) -> dict[str, str]:
    asked: list[Mapping[str, str]] = []

    def ask(fields: Mapping[str, str], seconds: float) -> Mapping[str, object]:
        asked.append(fields)
        return answer

    contacts = Contacts(ask, 1.5, lambda how, seconds: None)
    lookup = CallerLookup(
        rules or Rules(),
        contacts,
        plan or RingPlan(),
        lambda phone, seconds: last,
        Phones(absent, outside, unknown),
        lambda seconds: frozenset(),
    )
    variables = lookup.find_variables(SwitchEvent(channel.encode()), 1.0)
    is_known_caller = (
        "\nCaller-Caller-ID-Number: 79161234567" in channel and "user_name" not in channel
    )
    if channel == CHANNEL or "planfix_group" in channel:
        assert [fields["phone"] for fields in asked] == ["79161234567"] * is_known_caller
    else:
        assert not asked
    return variables


def with_group(group: str, channel: str = CHANNEL) -> str:
    return channel.replace(
        "\nvariable_uuid: ", f"\nvariable_planfix_group: {group}\nvariable_uuid: ", 1
    )


def test_an_outside_caller_gets_a_name_and_a_manager() -> None:
    assert found({"contact_name": "Иванов, Иван", "manager": 103}) == {
        "effective_caller_id_name": "Иванов Иван",
        "planfix_contact_name": "Иванов Иван",
        "planfix_known": "true",
        "planfix_manager": "103",
        "planfix_ring": "{ignore_early_media=true}"
        "[leg_timeout=20,origination_caller_id_name=Иванов Иван]user/103",
    }


def test_with_a_group_the_name_stays_on_the_phones_of_the_house() -> None:
    name = "origination_caller_id_name=Иванов Иван"
    mobile = "origination_caller_id_name=79161234567"
    plan = RingPlan(
        seconds=15, user_domain="pbx.example.com", dial_string="sofia/gateway/t/{number}"
    )
    assert found(
        {"contact_name": "Иванов, Иван", "manager": "103"},
        Rules(aliases={"79260000007": "103"}),
        with_group("101,102"),
        last="104",
        plan=plan,
    ) == {
        "planfix_contact_name": "Иванов Иван",
        "planfix_known": "true",
        "planfix_manager": "103",
        "planfix_ring": "{ignore_early_media=true}"
        f"[leg_timeout=15,{name}]user/103@pbx.example.com"
        f"|[leg_timeout=15,{mobile},planfix_ext=103]sofia/gateway/t/79260000007"
        f"|[leg_timeout=15,{name}]user/104@pbx.example.com"
        f"|[leg_timeout=15,{name}]user/101@pbx.example.com"
        f",[leg_timeout=15,{name}]user/102@pbx.example.com",
    }


def test_a_caller_nobody_knows_rings_the_group_in_the_domain_of_the_call() -> None:
    channel = with_group("101,102").replace(
        "\nvariable_uuid: ", "\nvariable_domain_name: two.example.com\nvariable_uuid: ", 1
    )
    ring = "{ignore_early_media=true}[leg_timeout=20]user/102@two.example.com"
    plan = RingPlan(user_domain="pbx.example.com")
    assert found({}, channel=channel, absent=["101"], plan=plan) == {"planfix_ring": ring}


def test_a_user_who_is_reached_through_a_trunk_is_shown_the_number() -> None:
    """His mobile may be the dial string that FreeSWITCH's directory gives him."""
    answer: dict[str, object] = {"contact_name": "Ivan Petrov"}
    ring = found(answer, channel=with_group("101,102"), outside=["102"])["planfix_ring"]
    assert "origination_caller_id_name=Ivan Petrov]user/101" in ring
    assert "origination_caller_id_name=79161234567]user/102" in ring


def test_mobiles_ring_through_their_employees_trunk_also_in_the_group() -> None:
    """Who is no directory user has no other phone; 102 is one whose phone is off."""
    plan = RingPlan(
        dial_string="sofia/gateway/a/{number}", dial_strings={"103": "sofia/gateway/b/{number}"}
    )
    aliases = {"79260000003": "103", "79260000004": "104", "79260000002": "102"}
    rules = Rules(aliases=aliases, dial_rules=read_rules(r"7(\d{10})=8$1"))
    ring = found(
        {"contact_name": "Ivan Petrov", "manager": "103"},
        rules,
        with_group("101,102,103,104"),
        absent=["102"],
        unknown=["103", "104"],
        plan=plan,
    )["planfix_ring"]
    number = "origination_caller_id_name=79161234567"
    b = f"[leg_timeout=20,{number},planfix_ext=103]sofia/gateway/b/89260000003"
    a = f"[leg_timeout=20,{number},planfix_ext=104]sofia/gateway/a/89260000004"
    name = "[leg_timeout=20,origination_caller_id_name=Ivan Petrov]"
    assert ring == f"{{ignore_early_media=true}}{b}|{name}user/101,{b},{a}"


def test_a_hidden_caller_rings_the_group_and_is_not_asked_about() -> None:
    hidden = CHANNEL.replace(
        "\nCaller-Caller-ID-Number: 79161234567", "\nCaller-Caller-ID-Number: anonymous"
    )
    assert found({"contact_name": "x"}, channel=with_group("101", hidden)) == {
        "planfix_ring": "{ignore_early_media=true}[leg_timeout=20]user/101"
    }


def test_a_freeswitch_that_says_nothing_does_not_outlive_the_deadline() -> None:
    """Its own time-out and the deadline of the call are both a LinkDown."""

    class Hung(Phones):
        def absent(self, *_: object) -> set[str]:
            try:
                gevent.sleep(3600)
            except LinkDown:
                gevent.sleep(3600)
            return set()

        def unknown(self, *_: object) -> set[str]:
            return self.absent()

        def outside(self, *_: object) -> set[str]:
            return self.absent()

    answer = {"contact_name": "Ivan Petrov"}
    contacts = Contacts(lambda fields, seconds: answer, 1.5, lambda how, seconds: None)
    lookup = CallerLookup(
        Rules(), contacts, RingPlan(), lambda phone, seconds: "", Hung(), lambda _: frozenset()
    )
    channel = SwitchEvent(with_group("101").encode())
    with pytest.raises(LinkDown), gevent.Timeout(0, LinkDown("no end")):
        lookup.find_variables(channel, 1.0)
    ring = lookup.find_variables(channel, 0.0)["planfix_ring"]
    # nobody says that 101 is a phone of the house
    assert "origination_caller_id_name=79161234567]user/101" in ring


def test_without_last_in_the_order_our_history_is_not_asked() -> None:
    plan = RingPlan(first=(First.MANAGER,))
    assert "planfix_ring" not in found({}, last="104", plan=plan)
    assert "104" in found({}, last="104")["planfix_ring"]


def test_what_planfix_does_not_know_is_not_set() -> None:
    assert found({}) == {}
    assert found({"contact_name": "  ", "manager": ""}) == {}
    assert found({"manager": "103"})["planfix_manager"] == "103"


@pytest.mark.parametrize(
    ("code", "aliases", "manager"),
    [
        ("501", {"1001": "501"}, "1001"),
        ("501", {"79260000007": "501"}, "501"),
        ("501", {"501": "777", "79260000007": "501"}, ""),
        ("501", {"501": "777", "79260000007": "501", "1001": "501"}, "1001"),
        ("7", {}, ""),
        ("7", {"1001": "7"}, "1001"),
        ("123456", {}, ""),
        ("ivan", {"102": "ivan"}, "102"),
        ("101,user/102", {}, ""),
        ("501,7,104,105", {"79260000007": "501", "501": "777"}, "104"),
    ],
)
def test_the_manager_is_the_ext_behind_the_short_code(
    code: str, aliases: dict[str, str], manager: str
) -> None:
    assert found({"manager": code}, Rules(aliases=aliases)).get("planfix_manager", "") == manager


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("variable_uuid: ", "variable_user_name: 101\nvariable_uuid: "),
        ("Caller-Caller-ID-Number: 79161234567", "Caller-Caller-ID-Number: anonymous"),
        ("Caller-Privacy-Hide-Number: false", "Caller-Privacy-Hide-Number: true"),
        ("Call-Direction: inbound", "Call-Direction: outbound"),
    ],
)
def test_employees_and_hidden_callers_are_not_asked_about(old: str, new: str) -> None:
    assert old in CHANNEL
    assert found({"contact_name": "x"}, channel=CHANNEL.replace(f"\n{old}", f"\n{new}")) == {}


@pytest.mark.parametrize(
    ("contact", "how", "words"),
    [
        (
            Contact("Ivan Petrov", ("102", "103")),
            "asked",
            "Ivan Petrov, manager 102, 103 (asked, 87 ms)",
        ),
        (Contact("Ivan"), "cached", "Ivan (remembered from before, 87 ms)"),
        (Contact("", ("102",)), "asked", "no name, manager 102 (asked, 87 ms)"),
        (NOBODY, "asked", "Planfix does not know the number (asked, 87 ms)"),
        (
            NOBODY,
            "cached",
            "Planfix does not know the number, or could not say (remembered from before, 87 ms)",
        ),
        (NOBODY, "late", "Planfix did not answer in time (87 ms)"),
        (NOBODY, "failed", "Planfix gave no answer that can be used (87 ms)"),
        (
            NOBODY,
            "paused",
            "Planfix was not asked, because it failed several times in a row (87 ms)",
        ),
    ],
)
def test_a_lookup_is_kept_in_words(contact: Contact, how: str, words: str) -> None:
    assert in_words(contact, how, 0.0871) == f"caller looked up: {words}"


def test_the_journal_has_each_lookup_with_its_call() -> None:
    kept: Queue[Entry] = Queue()
    contacts = Contacts(
        lambda fields, seconds: {"contact_name": "Ivan"}, 1.5, lambda how, seconds: None
    )
    lookup = CallerLookup(
        Rules(),
        contacts,
        RingPlan(),
        lambda phone, seconds: "",
        Phones(),
        lambda seconds: frozenset(),
        kept.put,
    )
    channel = SwitchEvent(CHANNEL.encode())
    lookup.find_variables(channel, 1.0)
    entry = kept.get(timeout=PATIENCE)
    assert (entry.callid, entry.phone, entry.ext) == (channel.get("Unique-ID"), "79161234567", "")
    assert entry.what.startswith("caller looked up: Ivan (asked, ")
