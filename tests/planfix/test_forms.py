from fsplanfix.planfix.forms import build_form
from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.planfix import problem

from ..support.cases import for_each
from ..support.traces import NAMES, events, rules_of, told

URLS = RecordingUrls("https://pbx.example.com/", ["key"])


@for_each(NAMES)
def test_every_request_has_just_the_fields_the_api_allows(name: str) -> None:
    for notice in told(events(name), rules_of(name)):
        fields = build_form(notice, URLS.url)
        assert problem(fields) == ""
        assert all(fields.values())


def test_marketing_data_gets_its_prefix() -> None:
    last = build_form(told(events("utm_variables"))[-1], URLS.url)
    assert (last["data_utm_source"], last["data_utm_medium"]) == ("site.io", "banner")
