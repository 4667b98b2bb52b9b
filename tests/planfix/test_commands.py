import re
from collections.abc import Sequence

import pytest
from cachetools import TTLCache
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.calls.model import Rules
from fsplanfix.calls.number_rules import read_rules
from fsplanfix.errors import DialRefused, LinkDown
from fsplanfix.freeswitch.originate import Callee, DialPlan, originate_command
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.commands import Commands, Destination, DialLimits
from fsplanfix.planfix.keys import Key, PbxKeys
from fsplanfix.planfix.pairing import Pairing, Partner, stored_partner

TOKEN = "pbx-token"
GOOD = {"cmd": "makeCall", "from": "101", "to": "79161234567", "token": TOKEN}
PLAN = DialPlan("sofia/gateway/trunk/{number}", ringback="%(800,3200,425)")
OURS = "74950000000"
KEYS = PbxKeys(TOKEN)
PARTNER = Partner("https://example.planfix.com/tel/api", "planfix-token")
PAIRED = Pairing(Store("sqlite://"), PARTNER.url, PARTNER.token)


class Dialled(list[tuple[str, str]]):
    """Stands where FreeSWITCH is asked: keeps the first user and the number."""

    problem: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.destinations: list[Destination] = []

    def dial(self, ext: str, users: Sequence[str], to: Destination) -> None:
        if self.problem is not None:
            raise self.problem
        self.append((users[0], to.number))
        self.destinations.append(to)


def made_of(dialled: Dialled) -> list[str]:
    """The commands to FreeSWITCH that clicks lead to."""
    return [
        originate_command(user, user, Callee(to.number, to.digits, caller_id=OURS), PLAN, "u-1")
        for (user, _), to in zip(dialled, dialled.destinations, strict=True)
        if not to.colleagues
    ]


def commands(
    dialled: Dialled, allow: str | None = None, rules: Rules | None = None, **limits: int
) -> Commands:
    pattern = re.compile(allow) if allow else None
    return Commands(
        PAIRED,
        KEYS,
        rules or Rules(),
        DialLimits(pattern, **limits),
        dialled.dial,
        lambda ext, number, reason: None,
    )


def test_a_click_dials_the_manager_and_the_client() -> None:
    dialled = Dialled()
    assert commands(dialled).answer(GOOD) == (200, {})
    assert dialled == [("101", "79161234567")]


@pytest.mark.parametrize("written", ["+7 (916) 123-45-67", "89161234567", "79161234567"])
def test_a_number_may_be_written_as_people_do(written: str) -> None:
    dialled = Dialled()
    commands(dialled).answer({**GOOD, "to": written})
    assert dialled == [("101", "79161234567")]


@pytest.mark.parametrize(
    ("written", "digits"),
    [
        ("+7 495 000-00-01,123", "123"),
        ("+7 (495) 000-00-01,,12#", "12#"),
        ("+74950000001;ext=5", "5"),
        ("8 495 000-00-01 доб. 123", "123"),
        ("8 495 000-00-01 ДОБ 123", "123"),
        ("74950000001 ext. 9876543210", "9876543210"),
        ("+7 495 000-00-01 (доб. 123)", "123"),
        ("+7 (495) 000-00-01(Доб 12)", "12"),
        ("+7 495 000-00-01, ( ext. 123 )", "123"),
        ("+7 495 000-00-01, доб. 123", "123"),
        ("+7 495 000-00-01 ,доб.123", "123"),
        ("+7\u00a0495\u202f000\u201100\u201001\u00a0(доб.\u00a0123)", "123"),
        ("8\u2012495\u2013000\u201400\u201501,\u202fдоб. 123", "123"),
        ("8\u2212495\u2212000\u221200\u221201", ""),
        ("+7(495)000-00-01,", ""),
        ("74950000001x7", "7"),
        ("+7.495.000.00.01 добавочный 12", "12"),
        ("8/495/000-00-01", ""),
    ],
)
def test_a_number_may_have_an_extension(written: str, digits: str) -> None:
    dialled = Dialled()
    assert commands(dialled).answer({**GOOD, "to": written}) == (200, {})
    assert dialled.destinations == [Destination("74950000001", digits)]
    sent = made_of(dialled)[0]
    assert (f"send_dtmf\\sWW{digits}}}" in sent) if digits else ("send_dtmf" not in sent)


def test_a_local_number_is_completed_with_the_area_code() -> None:
    dialled = Dialled()
    ours = Commands(
        PAIRED,
        KEYS,
        Rules(area_code="495", number_rules=read_rules(r"7(\d+)=8$1")),
        DialLimits(),
        dialled.dial,
        lambda ext, number, reason: None,
    )
    assert ours.answer({**GOOD, "to": "123-45-67,8"}) == (200, {})
    assert ours.answer({**GOOD, "to": "79161234567"}) == (200, {})
    assert dialled.destinations == [Destination("74951234567", "8"), Destination("79161234567")]


def test_a_colleagues_mobile_is_his_also_by_its_number() -> None:
    """With DIAL_RULES the call was told as one to a client."""
    dialled = Dialled()
    clicked = commands(dialled, rules=Rules(aliases={"79260000007": "102"}))
    assert clicked.answer({**GOOD, "to": "8 926 000-00-07"}) == (200, {})
    assert clicked.answer({**GOOD, "to": "8 926 000-00-07 доб. 5"}) == (200, {})
    assert dialled.destinations == [
        Destination("102", "", ("79260000007",)),
        Destination("79260000007", "5"),
    ]


def test_a_colleague_may_be_clicked_too() -> None:
    dialled = Dialled()
    assert commands(dialled, allow="7495[0-9]{7}").answer({**GOOD, "to": "102"}) == (200, {})
    assert dialled.destinations == [Destination("102", "", ("102",))]


def test_a_click_on_ones_own_ext_is_refused_with_a_sentence() -> None:
    dialled = Dialled()
    answer = commands(dialled, allow="101").answer({**GOOD, "from": "101", "to": "101"})
    reason = "101 is your own extension: click a colleague's or a client's"
    assert answer == (400, {"error": "Invalid parameters", "reason": reason})
    assert dialled == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "74950000001,123456789012"},
        {"to": "74950000001,12,34"},
        {"to": "74950000001 доб."},
        {"to": "74950000001 (доб. 123))"},
        {"to": "74950000001 доб. 123)"},
        {"to": "74950000001 (123)доб"},
        {"to": "74950000001,,доб. 123"},
        {"to": "7495\u2028000\u000b0001"},
        {"to": "74950000001;ext=1}user/x"},
        {"cmd": "makecall"},
        {"cmd": ""},
        {"from": ""},
        {"from": "1"},
        {"from": "101 102"},
        {"from": "101\n"},
        {"from": "\u0661\u0660\u0661"},
        {"from": "101@evil"},
        {"to": ""},
        {"to": "anonymous"},
        {"to": "7916\n1234567"},
        {"to": "79161234567%0A"},
        {"to": "sip:79161234567@evil"},
        {"to": "79161234567,sofia/gateway/x/1"},
        {"to": "*9"},
        {"to": "9" * 40},
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, str]) -> None:
    dialled = Dialled()
    assert commands(dialled).answer({**GOOD, **wrong}) == (400, {"error": "Invalid parameters"})
    assert dialled == []


@pytest.mark.parametrize("token", [None, "", "pbx-toke", "pbx-token ", "Ω", "\ud800"])
def test_a_wrong_token_is_refused_before_anything_else(token: str | None) -> None:
    fields = {name: value for name, value in GOOD.items() if name != "token"} | (
        {"token": token} if token else {}
    )
    assert commands(Dialled()).answer({**fields, "cmd": "nonsense"}) == (
        401,
        {"error": "Invalid token"},
    )


def reason(answer: tuple[int, dict[str, str]]) -> str:
    assert answer[0] == 400
    return answer[1]["reason"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("+380501234567", "abroad"),
        ("+7 701 123-45-67", "abroad"),
        ("+870773111632", "abroad"),
        ("+881612345678", "abroad"),
        ("+1 242 555-12-34", "abroad"),
        ("+7 803 123-45-67", "premium-rate"),
        ("1123456", "not a phone number with a country code"),
    ],
)
def test_dear_numbers_are_refused_unless_they_are_allowed(number: str, words: str) -> None:
    dialled = Dialled()
    assert words in reason(commands(dialled).answer({**GOOD, "to": number}))
    assert dialled == []
    assert commands(dialled, allow=r"\d+").answer({**GOOD, "to": number}) == (200, {})


def test_what_is_allowed_is_all_that_is_allowed() -> None:
    ours = commands(Dialled(), allow="7495[0-9]{7}")
    assert "DIAL_ALLOW" in reason(ours.answer(GOOD))
    assert ours.answer({**GOOD, "to": "8 495 000-00-01"}) == (200, {})


def test_a_double_click_makes_one_call() -> None:
    dialled, now = Dialled(), [100.0]
    clicks: TTLCache[tuple[str, str], bool] = TTLCache(10, 5.0, timer=lambda: now[0])
    ours = Commands(
        PAIRED,
        KEYS,
        Rules(),
        DialLimits(),
        dialled.dial,
        lambda ext, number, reason: None,
        clicks=clicks,
    )
    for moment in (100.0, 100.3, 104.9):
        now[0] = moment
        assert ours.answer({**GOOD, "to": "8 (916) 123-45-67"}) == (200, {})
    assert len(dialled) == 1
    now[0] = 105.1
    assert ours.answer(GOOD) == (200, {})
    assert len(dialled) == 2


def test_a_click_that_was_refused_may_be_tried_again_at_once() -> None:
    dialled = Dialled()
    ours = commands(dialled)
    dialled.problem = DialRefused("Extension 101 cannot be called: no phone is registered")
    assert reason(ours.answer(GOOD)) == "Extension 101 cannot be called: no phone is registered"
    dialled.problem = None
    assert ours.answer(GOOD) == (200, {})
    assert len(dialled) == 1


def test_only_so_many_calls_a_minute() -> None:
    dialled = Dialled()
    ours = commands(dialled, per_ext=2, in_all=3)
    answers = [
        ours.answer({**GOOD, "from": ext, "to": f"7916123456{digit}"})
        for digit, ext in enumerate(["101", "101", "101", "102", "103"])
    ]
    assert [code for code, _ in answers] == [200, 200, 400, 200, 400]
    assert "More than 2 calls in a minute for extension 101" in reason(answers[2])
    assert "More than 3 calls in a minute for the whole company" in reason(answers[4])
    assert len(dialled) == 3


def test_without_a_switch_planfix_is_told() -> None:
    dialled = Dialled()
    dialled.problem = LinkDown("no link")
    assert commands(dialled).answer(GOOD)[0] == 503


PIECES = [
    "101",
    "7916",
    "\n",
    "\r",
    "%0A",
    "{",
    "}",
    "[",
    "]",
    ",",
    "|",
    "&",
    ":_:",
    "^^",
    "${x}",
    "\u0661",
    " ",
    "@",
    "\0",
    "+",
    "(",
    ")",
    "-",
]
HOSTILE = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.sampled_from(["101", "79161234567"]).flatmap(
        lambda good: st.sampled_from(PIECES).map(lambda bad: good + bad)
    ),
    st.sampled_from(["7" * 1_000_000, "\u0661" * 1_000_000, "101\n" * 250_000]),
)
FIELDS = ("cmd", "from", "to", "token", "planfix_url", "planfix_token")
LEG_VARIABLES = r"\{(?:[A-Za-z0-9_.=,:-]|%\([0-9]+\\,[0-9]+\\,425\))+\}"
OUR_NUMBER = "origination_caller_id_number=74950000000,origination_caller_id_name=74950000000"
BRIDGE = (
    r"&bridge\(\{ignore_early_media=false,bridge_answer_timeout=60,"
    rf"{OUR_NUMBER}(?:,execute_on_answer_2=send_dtmf\\sWW[0-9*#]+)?\}}sofia/gateway/trunk/"
)
DIALLED_COMMAND = re.compile(rf"originate {LEG_VARIABLES}user/[0-9]{{2,5}} {BRIDGE}[0-9]{{3,15}}\)")


@given(HOSTILE, HOSTILE)
def test_nothing_but_digits_ever_reaches_a_command(ext: str, number: str) -> None:
    dialled = Dialled()
    code, _ = commands(dialled).answer({**GOOD, "from": ext, "to": number})
    assert (code == 200) == bool(dialled)
    assert all(map(DIALLED_COMMAND.fullmatch, made_of(dialled)))


@given(st.sampled_from(["makeCall", "setup"]), st.sampled_from(FIELDS), HOSTILE)
def test_a_hostile_value_in_any_parameter_is_answered_and_dials_nothing_else(
    cmd: str, name: str, value: str
) -> None:
    dialled = Dialled()
    right = {**GOOD, "cmd": cmd, "planfix_url": PARTNER.url, "planfix_token": PARTNER.token}
    code, body = commands(dialled).answer({**right, name: value})
    assert code in (200, 400, 401)
    assert all(len(text) < 200 for text in body.values())
    assert all(map(DIALLED_COMMAND.fullmatch, made_of(dialled)))


@given(st.sampled_from(["", "98916", "9*#1"]) | HOSTILE, HOSTILE)
def test_the_command_refuses_what_is_dialled_unless_it_is_digits(
    dialled: str, user_dialled: str
) -> None:
    callee = Callee("79161234567", caller_id=OURS, dialled=dialled)
    try:
        made = originate_command("501", "79260000007", callee, PLAN, "u-1", True, user_dialled)
    except DialRefused:
        return
    last = re.escape(dialled or "79161234567")
    first = re.escape(user_dialled or "79260000007")
    assert re.fullmatch("[0-9*#]*", dialled + user_dialled)
    assert re.search(rf"}}sofia/gateway/trunk/{first} &bridge.*/trunk/{last}\)$", made)


@given(HOSTILE, HOSTILE, st.booleans())
def test_the_command_itself_refuses_what_is_not_a_user_and_digits(
    user: str, number: str, outside: bool
) -> None:
    try:
        made = originate_command("101", user, Callee(number, caller_id=OURS), PLAN, "u-1", outside)
    except DialRefused:
        return
    first = r"sofia/gateway/trunk/[0-9]+" if outside else r"user/[A-Za-z0-9_.-]+"
    assert re.fullmatch(rf"originate {LEG_VARIABLES}{first} {BRIDGE}[0-9]+\)", made)


SETUP = {
    "cmd": "setup",
    "token": TOKEN,
    "planfix_url": PARTNER.url,
    "planfix_token": PARTNER.token,
}


def unpaired(store: Store, keys: PbxKeys = KEYS) -> Commands:
    return Commands(
        Pairing(store, "", ""),
        keys,
        Rules(),
        DialLimits(),
        Dialled().dial,
        lambda ext, number, reason: None,
    )


def test_the_first_setup_pairs_and_no_other_redirects_it() -> None:
    store = Store("sqlite://")
    ours = unpaired(store)
    assert ours.answer({**SETUP, "token": "another-key"})[0] == 401
    assert stored_partner(store) is None

    assert ours.answer(SETUP) == (200, {})
    assert stored_partner(store) == PARTNER
    for wrong in ({"planfix_token": "another"}, {"planfix_url": "https://evil.example/tel/api"}):
        code, body = ours.answer({**SETUP, **wrong})
        assert code == 400
        assert "run fsplanfix unpair" in body["error"]
    assert ours.answer(SETUP) == (200, {})
    assert stored_partner(store) == PARTNER

    # after a restart
    assert unpaired(store).answer({**SETUP, "planfix_token": "another"})[0] == 400


def test_of_two_workers_that_are_asked_the_first_counts() -> None:
    store = Store("sqlite://")
    first, second = unpaired(store), unpaired(store)
    assert first.answer(SETUP) == (200, {})
    assert second.answer({**SETUP, "planfix_url": "https://evil.example/tel/api"})[0] == 400
    assert second.answer(SETUP) == (200, {})
    assert stored_partner(store) == PARTNER


def test_settings_win_over_what_setup_has_stored() -> None:
    store = Store("sqlite://")
    assert unpaired(store).answer(SETUP) == (200, {})
    pairing = Pairing(store, "https://second.planfix.com/tel/api", "second-token")
    assert pairing.partner == Partner("https://second.planfix.com/tel/api", "second-token")


@pytest.mark.parametrize(
    "wrong",
    [
        {"planfix_url": "http://example.planfix.com/tel/api"},
        {"planfix_url": "http://127.0.0.1:8090/tel/api"},
        {"planfix_url": ""},
        {"planfix_url": "https://"},
        {"planfix_url": "https://[/"},
        {"planfix_url": "https://a:x/"},
        {"planfix_url": "https://user:password@example.com/"},
        {"planfix_url": "https://example.planfix.com/tel/api\r\nX-Evil: 1"},
        {"planfix_url": "https://example.planfix.com/" + "a" * 10_000},
        {"planfix_url": "https://example.planfix.com/\0"},
        {"planfix_url": "https://\ud800.example/"},
        {"planfix_token": ""},
        {"planfix_token": "a b"},
        {"planfix_token": "a\nb"},
        {"planfix_token": "\ud800"},
        {"planfix_token": "x" * 301},
    ],
)
def test_a_setup_that_cannot_be_used_pairs_with_nobody(wrong: dict[str, str]) -> None:
    store = Store("sqlite://")
    code, body = unpaired(store).answer({**SETUP, **wrong})
    assert code == 400
    assert body["error"].endswith(".")
    assert stored_partner(store) is None


def test_the_key_of_before_is_right_as_long_as_it_is_set() -> None:
    keys = PbxKeys(TOKEN, "pbx-token-of-before")
    assert [keys.which(given) for given in (TOKEN, "pbx-token-of-before", "", "pbx")] == [
        Key.PRESENT,
        Key.FORMER,
        None,
        None,
    ]
    assert PbxKeys(TOKEN).which("") is None
    assert "token" not in repr(keys) + repr(PARTNER).replace("Partner(", "")
