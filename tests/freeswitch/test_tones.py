import re
from contextlib import suppress

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.freeswitch import tones

SAFE = re.compile(r"[A-Za-z0-9%(),;:/_.-]+", re.ASCII)
PIECES = ["%(1000,4000,425)", ";", "/ring.wav", "local_stream://", "tone_stream://", "loops=-1"]
PIECES += ["{", "}", "[", "]", "'", '"', "\\", "$", "${x}", "&", "|", " ", "\n", "\0", ":_:", "^^"]


@pytest.mark.parametrize("country", tones.BY_COUNTRY)
def test_every_tone_of_a_country_can_be_played(country: str) -> None:
    assert country in phonenumbers.SUPPORTED_REGIONS
    assert tones.read(tones.ringback(country)) == tones.ringback(country) != tones.EUROPEAN


@pytest.mark.parametrize(
    ("country", "tone"),
    [
        ("RU", "%(800,3200,425)"),
        ("KZ", "%(1000,4000,425)"),
        ("DE", "%(1000,4000,425)"),
        ("US", "%(2000,4000,440,480)"),
        ("GB", "%(400,200,400,450);%(400,2000,400,450)"),
        ("BR", "%(1000,4000,425)"),
    ],
)
def test_each_country_has_its_tone_and_the_others_the_european_one(country: str, tone: str) -> None:
    assert tones.ringback(country) == tone


@pytest.mark.parametrize(
    "value",
    [
        "%(1000,4000,425)",
        "%(2000,4000,440,480)",
        "%(400,200,400,450);%(400,2000,400,450)",
        "/usr/share/freeswitch/sounds/ring-1.wav",
        "local_stream://moh/8000",
    ],
)
def test_a_tone_a_file_and_a_local_stream_can_be_played(value: str) -> None:
    assert tones.read(value) == value


@pytest.mark.parametrize("ending", ["", ";loops=-1"])
def test_a_tone_stream_becomes_the_tone_which_never_ends(ending: str) -> None:
    assert tones.read(f"tone_stream://%(1000,4000,425){ending}") == "%(1000,4000,425)"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "425",
        "ring",
        "%(1000,4000)",
        "%(0,4000,425)",
        "%(50,4000,425)",
        "%(1000,4000,0)",
        "%(1000, 4000, 425)",
        "%(1000\\,4000\\,425)",
        "%(1000,4000,425)\n",
        "%(1000,4000,425);",
        "%(\u0661000,4000,425)",
        ";".join(["%(1000,4000,425)"] * 5),
        "%(1000,4000,425),origination_uuid=x",
        "%(1000,4000,425)}user/102",
        "'%(1000,4000,425)'",
        "${us-ring}",
        "$${us-ring}",
        "tone_stream://%(1000,4000,425);loops=1",
        "tone_stream://path=/etc/passwd",
        "ring.wav",
        "/srv/sounds/ring",
        "/srv/sounds/a ring.wav",
        "/srv/sounds/ring.wav,x=1",
        "/" + "a" * 300 + ".wav",
        "http://example.com/ring.wav",
        "local_stream://",
        "silence",
    ],
)
def test_anything_else_is_refused_with_an_example(value: str) -> None:
    with pytest.raises(ValueError, match=r"write a tone like %\(1000,4000,425\), a sound file"):
        tones.read(value)


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_what_can_be_played_can_do_nothing_else(value: str) -> None:
    with suppress(ValueError):
        assert SAFE.fullmatch(tones.read(value))
