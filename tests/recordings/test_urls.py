"""URLs of recordings are signed, permanent, and open nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.recordings.urls import RecordingUrls, url_elsewhere

from ..support.recordings import BASE, URLS, WHERE, parts


def test_a_link_is_permanent_and_carries_its_path() -> None:
    link = URLS.url("c1", "/var/r/x.wav")
    assert link == RecordingUrls(f"{BASE}/", ["key"]).url("c1", "/var/r/x.wav")
    assert link.startswith(f"{BASE}/recordings/")
    signed, name = parts(link)
    assert name == "c1.wav"
    assert URLS.path(signed, name) == "/var/r/x.wav"


def test_old_keys_are_read_and_the_last_one_signs() -> None:
    old = parts(RecordingUrls(BASE, ["old"]).url("c", "/a.wav"))
    rotated = RecordingUrls(BASE, ["old", "new"])
    assert rotated.path(*old) == "/a.wav"
    assert rotated.url("c", "/a.wav") == RecordingUrls(BASE, ["new"]).url("c", "/a.wav")
    assert RecordingUrls(BASE, ["new"]).path(*old) is None


@pytest.mark.parametrize(
    "signed", ["", "x", "IngK.xxx", parts(URLS.url("c", "/a.wav"))[0][:-1] + "-"]
)
def test_a_signature_that_is_not_ours_opens_nothing(signed: str) -> None:
    assert URLS.path(signed, "c.wav") is None


@given(st.integers(0, 10**9))
def test_no_character_of_a_link_may_change(number: int) -> None:
    signed, name = parts(URLS.url(f"c{number}", f"/r/{number}.wav"))
    assert URLS.path(signed, name) == f"/r/{number}.wav"
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
    for other in alphabet:
        assert other == signed[-1] or URLS.path(signed[:-1] + other, name) is None
        assert URLS.path(signed + other, name) is None


def test_a_signature_is_for_its_own_name_only() -> None:
    signed, name = parts(URLS.url("c", "/a.wav"))
    assert URLS.path(signed, "d.wav") is None
    assert URLS.path(signed, name) == "/a.wav"


def test_an_odd_file_name_gives_no_odd_suffix() -> None:
    assert URLS.url("c", "/a.w<v>").endswith("/c")


@given(st.text(max_size=80), st.text(max_size=30))
def test_no_forged_link_opens_anything(signed: str, name: str) -> None:
    assert URLS.path(signed, name) is None


@pytest.mark.parametrize(
    ("path", "link"),
    [
        (f"{WHERE}/2026/11/x.wav", "https://files.example.com/rec/2026/11/x.wav"),
        (f"{WHERE}/a b&c?.wav", "https://files.example.com/rec/a%20b%26c%3F.wav"),
        ("/elsewhere/x.wav", "https://files.example.com/rec/x.wav"),
        (f"{WHERE}/../../x.wav", "https://files.example.com/rec/x.wav"),
    ],
)
def test_another_server_may_serve_the_files(path: str, link: str) -> None:
    assert url_elsewhere("https://files.example.com/rec/", path, WHERE) == link
