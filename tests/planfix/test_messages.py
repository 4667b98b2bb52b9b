import pytest

from fsplanfix.planfix.messages import form
from fsplanfix.recordings.links import Links
from fsplanfix.simulators.crm import problem

from ..recordings import NAMES, events, told

LINKS = Links("https://pbx.example.com/", "key")


@pytest.mark.parametrize("name", NAMES)
def test_every_request_has_just_the_fields_the_api_allows(name: str) -> None:
    for notice in told(events(name)):
        fields = form(notice, LINKS.link)
        assert problem(fields) == ""
        assert all(fields.values())


def test_marketing_data_gets_its_prefix() -> None:
    last = form(told(events("utm_variables"))[-1], LINKS.link)
    assert (last["data_utm_source"], last["data_utm_medium"]) == ("site.io", "banner")


def test_a_link_is_permanent_and_carries_its_path() -> None:
    link = LINKS.link("c/1", "/var/r/x.wav")
    assert link == Links("https://pbx.example.com", "key").link("c/1", "/var/r/x.wav")
    base, _, rest = link.partition("/recordings/")
    signed, _, name = rest.partition("/")
    assert (base, name) == ("https://pbx.example.com", "c%2F1.wav")
    assert LINKS.path(signed) == "/var/r/x.wav"


@pytest.mark.parametrize("signed", ["", "x", "IngK.xxx", LINKS.link("c", "/a").split("/")[-2][:-1] + "-"])
def test_a_signature_that_is_not_ours_opens_nothing(signed: str) -> None:
    assert LINKS.path(signed) is None


def test_another_key_opens_nothing() -> None:
    signed = LINKS.link("c", "/a.wav").split("/")[-2]
    assert Links("https://pbx.example.com", "other").path(signed) is None


def test_an_odd_file_name_gives_no_odd_suffix() -> None:
    assert LINKS.link("c", "/a.w<v>").endswith("/c")
