import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.calls.numbers import normalize, written

RU = [
    ("79161234567", "79161234567"),
    ("+79161234567", "79161234567"),
    ("89161234567", "79161234567"),
    ("9161234567", "79161234567"),
    ("8 (916) 123-45-67", "79161234567"),
    ("+7 916 123-45-67", "79161234567"),
    ("7-916-123\u201145\u201167", "79161234567"),
    ("8.916.123.45.67", "79161234567"),
    ("8\u00a0916\u00a01234567", "79161234567"),
    ("8\u202f916\u2212123\u201345\u221267", "79161234567"),
    ("tel:+79161234567", "79161234567"),
    ("TEL:89161234567", "79161234567"),
    ("sip:79161234567@192.0.2.7", "79161234567"),
    ("sips:+79161234567@pbx.example.com:5061;user=phone", "79161234567"),
    ("<sip:89161234567@192.0.2.7>", "79161234567"),
    ("79161234567;ext=22", "79161234567"),
    ("+74950000001", "74950000001"),
    ("84950000001", "74950000001"),
    ("+78120000001", "78120000001"),
    ("88005553535", "78005553535"),
    ("79990000000", "79990000000"),
    ("380501234567", "380501234567"),
    ("+380501234567", "380501234567"),
    ("810380501234567", "380501234567"),
    ("00380501234567", "380501234567"),
    ("14155552671", "14155552671"),
    ("+49 30 901820", "4930901820"),
    # short numbers stay as they are
    ("101", "101"),
    ("2001", "2001"),
    ("112", "112"),
    ("900", "900"),
    ("0611", "0611"),
    ("*9", "*9"),
    ("*97#", "*97#"),
    ("+*97#", "*97#"),
    # a local number without its area code, and digits that are no number of any country
    ("1234567", "1234567"),
    ("99999999999", "99999999999"),
    # hidden callers
    ("anonymous", ""),
    ("Anonymous", ""),
    ("unknown", ""),
    ("sip:anonymous@anonymous.invalid", ""),
    ("", ""),
    # garbage
    ("+", ""),
    ("79161234567x", ""),
    ("\uff17\uff19\uff11\uff16", ""),
    ("\u0667\u0669\u0661\u0666", ""),
    ("9" * 40, ""),
    ("101\n102", ""),
    ("101%0A102", ""),
]
OTHERS = [
    ("UA", "0501234567", "380501234567"),
    ("UA", "050 123 45 67", "380501234567"),
    ("UA", "380501234567", "380501234567"),
    ("UA", "79161234567", "79161234567"),
    ("KZ", "87011234567", "77011234567"),
    ("KZ", "7011234567", "77011234567"),
    ("KZ", "+77011234567", "77011234567"),
    ("KZ", "89161234567", "79161234567"),
    ("DE", "030 901820", "4930901820"),
    ("DE", "004930901820", "4930901820"),
    ("DE", "491701234567", "491701234567"),
    ("DE", "01701234567", "491701234567"),
    ("US", "(415) 555-2671", "14155552671"),
    ("US", "14155552671", "14155552671"),
    ("US", "011442071838750", "442071838750"),
    ("US", "911", "911"),
]


@pytest.mark.parametrize(("raw", "wanted"), RU)
def test_a_number_seen_from_russia(raw: str, wanted: str) -> None:
    assert normalize(raw, "RU") == wanted


@pytest.mark.parametrize(("country", "raw", "wanted"), OTHERS)
def test_a_number_seen_from_elsewhere(country: str, raw: str, wanted: str) -> None:
    assert normalize(raw, country) == wanted


@given(st.text(max_size=400), st.sampled_from(["RU", "UA", "KZ", "DE", "US"]))
def test_whatever_a_stranger_sends_becomes_digits_or_nothing(raw: str, country: str) -> None:
    number = normalize(raw, country)
    assert set(number) <= set("0123456789*#")
    if not set("*#") & set(number):
        assert len(number) <= 15


@pytest.mark.parametrize(
    "number", sorted({number for _, number in RU if number.startswith("7") or len(number) < 7})
)
def test_a_number_of_the_own_country_is_left_alone_when_it_comes_back(number: str) -> None:
    assert normalize(number, "RU") == number


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("79161234567", "+7 916 123-45-67"),
        ("442071838750", "+44 20 7183 8750"),
        ("anonymous", "anonymous"),
        ("112", "112"),
        ("", ""),
        ("999999999999999", "999999999999999"),
        ("7916123456²", "7916123456²"),
    ],
)
def test_a_number_as_people_write_it(number: str, shown: str) -> None:
    assert written(number) == shown
