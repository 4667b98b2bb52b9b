import re
from collections.abc import Sequence

import pytest
from cachetools import TTLCache
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.calls.model import Rules
from fsplanfix.errors import DialRefused, LinkDown
from fsplanfix.freeswitch.originate import DialPlan, originate_command
from fsplanfix.planfix.commands import Account, Commands, DialLimits

TOKEN = "pbx-token"
GOOD = {"cmd": "makeCall", "from": "101", "to": "79161234567", "token": TOKEN}
PLAN = DialPlan("sofia/gateway/trunk/{number}", caller_id="74950000000", ringback="%(800,3200,425)")
ACCOUNT = Account("https://example.planfix.com/tel/api", "planfix-token", TOKEN)


class Dialled(list[tuple[str, str]]):
    """Stands where FreeSWITCH is asked: keeps the first user and the number."""

    problem: Exception | None = None

    def dial(self, ext: str, users: Sequence[str], number: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.append((users[0], number))


def commands(dialled: Dialled, allow: str | None = None, **limits: int) -> Commands:
    pattern = re.compile(allow) if allow else None
    return Commands(
        ACCOUNT,
        Rules(),
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
    "wrong",
    [
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
        ("112", "not a phone number with a country code"),
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
        ACCOUNT, Rules(), DialLimits(), dialled.dial, lambda ext, number, reason: None, clicks
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


def test_the_manager_is_called_first_then_the_client() -> None:
    assert originate_command("101", "79161234567", PLAN, "u-1") == (
        "originate {origination_uuid=u-1,origination_caller_id_number=79161234567,"
        "origination_caller_id_name=79161234567,originate_timeout=30,call_timeout=60,"
        "group_confirm_early_ok=false,transfer_ringback=%(800\\,3200\\,425),planfix_makecall=1,"
        "planfix_ext=101,planfix_phone=79161234567,planfix_caller_id=74950000000,"
        "effective_caller_id_number=74950000000}user/101 "
        "&bridge({ignore_early_media=false,bridge_answer_timeout=60,"
        "origination_caller_id_number=74950000000,origination_caller_id_name=74950000000}"
        "sofia/gateway/trunk/79161234567)"
    )


def test_the_phone_may_be_asked_to_answer_by_itself() -> None:
    plan = DialPlan("sofia/gateway/trunk/{number}", auto_answer=True)
    made = originate_command("101", "79161234567", plan, "u")
    assert (
        ",sip_auto_answer=true,alert_info=<http://www.notused.com>;info=alert-autoanswer;delay=0}user/101"
        in made
    )
    assert "auto" not in originate_command("79260000007", "79161234567", plan, "u", outside=True)


def test_a_manager_on_a_mobile_is_called_like_a_client() -> None:
    made = originate_command("79260000007", "79161234567", PLAN, "u", outside=True)
    assert "planfix_ext=79260000007," in made
    assert re.search(r"}sofia/gateway/trunk/79260000007 &bridge\(.*/trunk/79161234567\)$", made)


def test_the_client_may_be_dialled_through_a_context() -> None:
    plan = DialPlan("", dial_context="default", user_domain="pbx.example.com")
    assert originate_command("101", "79161234567", plan, "u").endswith(
        "}user/101@pbx.example.com 79161234567 XML default"
    )


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
LEG_VARIABLES = r"\{(?:[A-Za-z0-9_.=,-]|%\([0-9]+\\,[0-9]+\\,425\))+\}"
OUR_NUMBER = "origination_caller_id_number=74950000000,origination_caller_id_name=74950000000"
BRIDGE = (
    r"&bridge\(\{ignore_early_media=false,bridge_answer_timeout=60,"
    rf"{OUR_NUMBER}\}}sofia/gateway/trunk/"
)
DIALLED_COMMAND = re.compile(rf"originate {LEG_VARIABLES}user/[0-9]{{2,5}} {BRIDGE}[0-9]{{3,15}}\)")


@given(HOSTILE, HOSTILE)
def test_nothing_but_digits_ever_reaches_a_command(ext: str, number: str) -> None:
    dialled = Dialled()
    code, _ = commands(dialled).answer({**GOOD, "from": ext, "to": number})
    assert (code == 200) == bool(dialled)
    for pair in dialled:
        assert DIALLED_COMMAND.fullmatch(originate_command(*pair, PLAN, "u-1"))


@given(st.sampled_from(["makeCall", "setup"]), st.sampled_from(FIELDS), HOSTILE)
def test_a_hostile_value_in_any_parameter_is_answered_and_dials_nothing_else(
    cmd: str, name: str, value: str
) -> None:
    dialled = Dialled()
    right = {**GOOD, "cmd": cmd, "planfix_url": ACCOUNT.url, "planfix_token": ACCOUNT.token}
    code, body = commands(dialled).answer({**right, name: value})
    assert code in (200, 400, 401)
    assert all(len(text) < 200 for text in body.values())
    assert all(DIALLED_COMMAND.fullmatch(originate_command(*pair, PLAN, "u-1")) for pair in dialled)


@given(HOSTILE, HOSTILE, st.booleans())
def test_the_command_itself_refuses_what_is_not_a_user_and_digits(
    user: str, number: str, outside: bool
) -> None:
    try:
        made = originate_command(user, number, PLAN, "u-1", outside)
    except DialRefused:
        return
    first = r"sofia/gateway/trunk/[0-9]+" if outside else r"user/[A-Za-z0-9_.-]+"
    assert re.fullmatch(rf"originate {LEG_VARIABLES}{first} {BRIDGE}[0-9]+\)", made)
