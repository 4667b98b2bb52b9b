"""Rules that write a number another way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.calls.model import Rules
from fsplanfix.calls.number_rules import MOST_RULES, NumberRule, read_rules, rewritten
from fsplanfix.calls.numbers import Numbering

from ..support.scene import Scene

CATASTROPHES = [
    r"(\d+)+x",
    r"(\d|\d)*x",
    r"(\d?){60}x",
    r"(\d*)*(\d*)*(\d*)*x",
    r"((\d{1,30}){1,30})x",
]


def seen(raw: str, rules: str = "", area_code: str = "", country: str = "RU") -> str:
    return Numbering(country, area_code, read_rules(rules)).normalize(raw)


def test_a_trunk_prefix_before_a_russian_number_is_not_iranian() -> None:
    assert seen("989161234567") == "989161234567"
    assert seen("989161234567", r"9(8\d{10})=$1") == "79161234567"
    assert seen("+989161234567", r"9(8\d{10})=$1") == "989161234567"
    assert Numbering(rules=read_rules(r"9(8\d{10})=$1")).is_whole("989161234567")


def test_the_first_rule_that_fits_the_whole_number_counts() -> None:
    rules = r" 9(\d{11})=$1 ; 98(\d{10})=7$1;\*72=101 ;"
    assert seen("989161234567", rules) == "79161234567"
    assert seen("8 (916) 123-45-67", r"8916(\d{7})=+4930$1") == "49301234567"
    assert seen("*72", rules) == "101"
    assert seen("9891612345671", rules) == "9891612345671"
    assert seen("anonymous", r".*=101") == ""


@pytest.mark.parametrize(
    ("country", "area_code", "raw", "number"),
    [
        ("RU", "495", "0000001", "74950000001"),
        ("RU", "495", "000-00-01", "74950000001"),
        ("RU", "495", "112", "112"),
        ("RU", "495", "+0000001", "0000001"),
        ("RU", "495", "79161234567", "79161234567"),
        ("RU", "", "0000001", "0000001"),
        ("UA", "44", "2001234", "380442001234"),
        ("RU", "99999", "0000001", "0000001"),
    ],
)
def test_seven_digits_are_completed_by_the_area_code(
    country: str, area_code: str, raw: str, number: str
) -> None:
    assert seen(raw, "", area_code, country) == number
    assert Numbering(country, area_code).is_whole(raw) == (len(number) > 7)


def test_what_is_dialled_has_rules_of_its_own() -> None:
    numbering = Numbering(dial_rules=read_rules(r"7(495\d{7})=98$1;7(\d{10})=8$1;1(\d+)="))
    assert numbering.dialled("74950000001") == "984950000001"
    assert numbering.dialled("79161234567") == "89161234567"
    assert numbering.dialled("380501234567") == "380501234567"
    # nothing can be dialled of it, so the rule is passed over
    assert numbering.dialled("14155552671") == "14155552671"
    assert Numbering(dial_rules=read_rules("112=+112")).dialled("112") == "112"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9", "write it like"),
        ("=1", "write it like"),
        ("9=user/101", "write it like"),
        (r"9(\d+)=${x}", "write it like"),
        (r"9(\d+)=$0", "write it like"),
        (r"9(\d+)=\1", "write it like"),
        ("9=1,2", "write it like"),
        (r"9(\d+)=$2", "fewer groups"),
        ("[=1", "not a regular expression"),
        (r"(\d)\1=1", "not a regular expression"),
        ("(?!x)9=1", "not a regular expression"),
        (r"((\d{1,1000}){1,1000}){1,1000}=1", "not a regular expression"),
        ("9" * 201 + "=1", "longer than 200"),
        ("9=1;" * (MOST_RULES + 1), "more than 50"),
    ],
)
def test_a_wrong_rule_gets_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_rules(text)


@pytest.mark.parametrize("pattern", CATASTROPHES)
def test_a_pattern_that_would_never_end_elsewhere_ends(pattern: str) -> None:
    rules = read_rules(f"{pattern}=101")
    assert seen("1" * 256, f"{pattern}=101") == ""
    assert rewritten("1" * 256, rules) == "1" * 256


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_written_is_refused_or_makes_a_number(text: str, raw: str) -> None:
    try:
        rules = read_rules(text)
    except ValueError:
        return
    number = Numbering(rules=rules).normalize(raw)
    assert set(number) <= set("0123456789*#")


@given(
    st.sampled_from([r"\d*(\d)", r"9(.*)", "(.)(.)?.*", r"\+?7(\d*)"]),
    st.from_regex(r"\+?[0-9*#$1]{0,6}", fullmatch=True),
    st.from_regex(r"\+?[0-9*#]{1,20}", fullmatch=True),
)
def test_no_rule_makes_anything_but_a_number(pattern: str, replacement: str, raw: str) -> None:
    rules = (NumberRule(pattern, replacement.replace("$$", "$").rstrip("$")),)
    assert set(Numbering(rules=rules).normalize(raw)) <= set("0123456789*#")
    assert set(Numbering(dial_rules=rules).dialled("79161234567")) <= set("0123456789*#")


@pytest.mark.parametrize(
    ("rule", "dialled"),
    [
        (r"7(\d{10})=98$1", "989161234567"),
        (r"7(\d{10})=8$1", "89161234567"),
        (r"7916(\d{7})=$1", "1234567"),
        (r"7(\d{10})=*98#$1", "*98#9161234567"),
    ],
)
def test_a_click_is_told_with_the_number_that_planfix_sent(rule: str, dialled: str) -> None:
    rules = Rules(dial_rules=read_rules(rule))
    scene = Scene(rules).phone("E", "101", variable_planfix_phone="79161234567")
    scene.outside("C", "E", number=dialled).gone("C").gone("E")
    assert scene.told == ["out 79161234567 74950000000 O101 N101"]
    assert {notice.phone for notice in scene.notices} == {"79161234567"}


def test_another_number_than_the_one_dialled_is_told_as_it_is() -> None:
    rules = Rules(dial_rules=read_rules(r"7(\d{10})=98$1"))
    scene = Scene(rules).phone("E", "101", variable_planfix_phone="79161234567")
    scene.outside("C", "E", number="989169999999").gone("C").gone("E")
    assert {notice.phone for notice in scene.notices} == {"989169999999"}


def test_a_call_through_a_trunk_prefix_is_told_with_the_clients_number() -> None:
    rules = Rules(number_rules=read_rules(r"9(8\d{10})=$1"))
    scene = Scene(rules).employee("E", "101", "989161234567")
    scene.outside("C", "E", number="989161234567").gone("C").gone("E")
    assert scene.told == ["out 79161234567 74950000000 O101 N101"]
    assert {notice.phone for notice in scene.notices} == {"79161234567"}
