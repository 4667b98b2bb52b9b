"""The manager's pages over real HTTP: the list of calls, figures, a story, who may do what."""

import csv
import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import gevent
import pytest

from fsplanfix.admin.overview import DELIVERED_WITHIN
from fsplanfix.calls.model import Direction, Kind
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Entry
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.contacts import NOBODY, Contact
from fsplanfix.service.caller_lookup import GONE_WRONG, in_words
from fsplanfix.service.clicks import OUTCOMES
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import write_tone

from ..support.listed_calls import call, save
from ..support.outbox import claim, settle
from ..support.service import PATIENCE, Service, running
from ..support.visitor import PASSWORD, Visitor, rejected_ids

MOSCOW = ZoneInfo("Europe/Moscow")
VIEW_PASSWORD = "a-view-password"
NOON = datetime(2026, 11, 18, 12, 0, tzinfo=MOSCOW).timestamp()


def fill(folder: Path) -> None:
    """Calls of one day, all of them delivered but for one notice that was rejected."""
    write_tone(folder / "tone.wav")
    store = Store(f"sqlite:///{folder}/store.db")
    answered = call("c1", NOON, "101", "102", "103", taken_by="102", name="Пётр <b>Ёлкин")
    record = replace(
        answered[-1],
        kind=Kind.RECORD,
        ext="",
        position=99,
        recording=f"{folder}/tone.wav",
        status=None,
    )
    save(
        store,
        [*answered, record],
        call("c2", NOON + 3600, "101", "102", phone="79031112233", name="=1+1"),
        call("c3", NOON + 7200, "103", way=Direction.OUT, phone="74991112233"),
        call("c4", NOON - 3600, "101", phone="anonymous"),
        now=time.time(),
    )
    while found := claim(store, 10, time.time() + 10, "me"):
        for queued in found:
            is_bad = queued.notice.callid == "c2" and queued.notice.kind is Kind.COMPLETED
            state = State.REJECTED if is_bad else State.DONE
            answer = 'Planfix rejected it: 400 {"error": "Unknown ext"}' if is_bad else ""
            settle(store, queued, state, time.time(), answer)
    assert Queue(store).backlog().rejected == 2
    store.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("pages")
    fill(folder)
    switch, planfix = Switch(), Planfix(token="planfix-token")
    switch.start()
    planfix.start()
    more = {"ADMIN_PASSWORD": PASSWORD, "VIEW_PASSWORD": VIEW_PASSWORD, "KEEP_DAYS": "3650"}
    with running(switch, planfix, folder, RECORDINGS_DIR=str(folder), **more) as one:
        yield one
    planfix.stop()
    switch.stop()


@pytest.fixture
def visitor(service: Service) -> Visitor:
    one = Visitor(service)
    one.log_in()
    one.cookies.set("zone", "Europe/Moscow")
    return one


def callids(page: str) -> list[str]:
    return re.findall(r'class="who" href="/calls/([^"]+)"', page)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["c3", "c2", "c1", "c4"]),
        ("client=8+916+123-45-67", ["c1"]),
        ("client=1112233", ["c3", "c2"]),
        ("client=елкин", ["c1"]),
        ("ext=103&way=in", ["c1"]),
        ("line=%2B7495", ["c3", "c2", "c1", "c4"]),
        ("result=missed", ["c2", "c4"]),
        ("result=unreached", ["c3"]),
        ("since=2026-11-18&until=2026-11-18", ["c3", "c2", "c1", "c4"]),
        ("until=2026-11-17", []),
        ("since=nonsense&way=x&result=x&after=x", ["c3", "c2", "c1", "c4"]),
        ("since=0001-01-01&until=9999-12-31", ["c3", "c2", "c1", "c4"]),
        ("after=nan~c1", ["c3", "c2", "c1", "c4"]),
        (f"after={NOON!r}~c1", ["c4"]),
        ("client=%25", []),
        ("client=%00", []),
        ("client='%20OR%201=1", []),
    ],
)
def test_calls_are_searched(visitor: Visitor, query: str, found: list[str]) -> None:
    assert callids(visitor.see(f"/calls?{query}")) == found


def test_a_row_says_what_a_manager_asks(visitor: Visitor) -> None:
    page = visitor.see("/calls?ext=102&result=answered")
    row = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<tbody")[2])).strip()
    assert "18 Nov, 12:00" in row
    assert "Пётр &lt;b&gt;Ёлкин +7 916 123-45-67" in row
    assert "102 rang too: 101, 103" in row
    assert "+7 495 000-00-01 0:10 1:00" in row
    assert 'href="/recording/1/c1"' in page


def test_a_hidden_number_is_said_in_words(visitor: Visitor) -> None:
    assert 'class="phone">hidden number<' in visitor.see("/calls?result=missed")
    visitor.headers["Accept-Language"] = "ru"
    assert 'class="phone">скрытый номер<' in visitor.see("/calls?result=missed")


def test_a_field_that_is_too_long_is_refused(visitor: Visitor) -> None:
    assert visitor.get(f"{visitor.at}/calls?client={'9' * 500}").status_code == 400


def test_calls_are_downloaded_as_csv_for_a_spreadsheet(visitor: Visitor) -> None:
    answer = visitor.get(f"{visitor.at}/calls.csv?result=missed")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    text = answer.content.decode("utf-8-sig")
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["callid"], first["name"]) == ("c2", "'=1+1")
    assert first["began"] == "2026-11-18T13:00:00+03:00"
    assert second["number"] == "anonymous"
    visitor.headers["Accept-Language"] = "ru"
    assert visitor.get(f"{visitor.at}/calls.csv").content.startswith(
        "\ufeffbegan;direction".encode()
    )


@pytest.mark.parametrize("span", ["day", "week", "month", "nonsense"])
def test_figures_count_calls(visitor: Visitor, span: str) -> None:
    page = visitor.see(f"/figures?span={span}&day=2026-11-18")
    tiles = {
        word: number
        for number, word in re.findall(r"<b>([\d:–]+)</b><span>(?:<a[^>]*>)?([^<]+)", page)
    }
    assert tiles == {
        "calls in all": "4",
        "answered": "1",
        "missed": "2",
        "not called back": "1",
        "outgoing, reached: 0": "1",
        "waited on average": "0:10",
        "talked on average": "1:00",
    }
    assert callids(page) == ["c2"]
    rows = re.findall(
        r'<th scope="row">(\d\d:00)</th><td>(\d+)</td><td>(\d+)</td><td>(\d+)</td>', page
    )
    assert [row for row in rows if row[1:] != ("0", "0", "0")] == [
        ("11:00", "0", "1", "0"),
        ("12:00", "1", "0", "0"),
        ("13:00", "0", "1", "0"),
        ("14:00", "0", "0", "1"),
    ]
    assert ("No calls in this period." in visitor.see("/figures?day=2026-11-17")) is True


def test_hours_are_those_of_the_browser(service: Service) -> None:
    visitor = Visitor(service)
    visitor.log_in()
    for zone, hour in (
        ("Asia/Kathmandu", "14:45"),
        ("UTC", "09:00"),
        ("America/New_York", "04:00"),
    ):
        visitor.cookies.set("zone", zone)
        assert f"18 Nov, {hour}" in visitor.see("/calls?result=answered")
    for zone in ("../../etc/passwd", "Nowhere/Land", "x" * 500, "<b>", "posix", "/UTC"):
        visitor.cookies.set("zone", zone)
        assert "c1" in callids(visitor.see("/calls"))


def test_a_story_is_told_in_the_readers_language_and_zone(visitor: Visitor) -> None:
    page = visitor.see("/calls/c1")
    assert "talk is over" in page
    assert re.search(r'class="time">12:0\d:\d\d<', page)
    visitor.headers["Accept-Language"] = "ru"
    page = visitor.see("/calls/c2")
    assert "отклонено Планфиксом" in page
    assert "Планфикс отклонил: 400 Unknown ext" in page
    told = re.sub(r"<[^>]+>", " ", page.partition('<ol class="timeline">')[2].partition("</ol>")[0])
    assert not re.findall(r"[a-z]{4,}", told.replace("Unknown ext", ""))


def test_a_viewer_looks_and_changes_nothing(service: Service, visitor: Visitor) -> None:
    viewer = Visitor(service)
    assert viewer.log_in(VIEW_PASSWORD).status_code == 302
    page = viewer.see("/")
    assert "Unknown ext" in page
    assert "Send again" not in page
    assert "You may look and listen" in page
    assert callids(viewer.see("/calls"))
    for what in ("drop", "retry"):
        answer = viewer.press(f"/rejected/{what}", page, ids="1,2,3", all="yes", sure="yes")
        assert (answer.status_code, "Only an administrator" in answer.text) == (403, True)
    assert len(rejected_ids(visitor.see("/"))) == 1
    service.wait_for("dashboard_login role=viewer")


def test_a_viewer_who_logs_out_leaves_administrators_inside(
    service: Service, visitor: Visitor
) -> None:
    viewer, other = Visitor(service), Visitor(service)
    viewer.log_in(VIEW_PASSWORD)
    other.log_in(VIEW_PASSWORD)
    viewer.press("/logout", viewer.see("/"))
    assert "Log in" in other.see("/")
    assert "Latest calls" in visitor.see("/")


def test_listening_is_logged_with_who_and_what(service: Service) -> None:
    viewer = Visitor(service)
    viewer.log_in(VIEW_PASSWORD)
    answer = viewer.get(f"{viewer.at}/recording/1/c1")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "audio/wav")
    part = viewer.get(f"{viewer.at}/recording/1/c1", headers={"Range": "bytes=100-199"})
    assert (part.status_code, len(part.content)) == (206, 100)
    service.wait_for("recording_listened callid=c1 file=.*tone.wav role=viewer address=127.0.0.1")
    assert sum("recording_listened" in line for line in service.log) == 1
    for path in ("2/c1", "0/c1", "1/c2", "1/nobody", "99999999999999999999/c1", "1/%00"):
        assert viewer.get(f"{viewer.at}/recording/{path}").status_code == 404


def test_what_waits_longer_than_a_delivery_takes_is_shown(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    save(store, call("c1", time.time(), "101"), now=time.time() - DELIVERED_WITHIN)
    store.close()
    planfix.answers.extend([500] * 50)
    with running(switch, planfix, tmp_path, ADMIN_PASSWORD=PASSWORD) as service:
        visitor = Visitor(service)
        visitor.log_in()
        page = visitor.see("/")
        assert re.search(r'<li class="warn">Waiting to be sent: \d, since', page)


def test_lines_of_the_journal_are_told_in_the_readers_language(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    contact = Contact("Анна", ("102",))
    written = [
        *(f"click to call: {outcome}" for outcome in OUTCOMES.values()),
        *(in_words(NOBODY, how, 0.012) for how in (*GONE_WRONG, "asked", "cached")),
        *(in_words(contact, how, 0.012) for how in ("asked", "cached")),
        in_words(replace(contact, name=""), "asked", 0.012),
        'try 1 to send INCOMING: Planfix rejected it: 400 {"error": "Анна"}',
    ]
    store = Store(f"sqlite:///{tmp_path}/store.db")
    save(store, call("c1", NOON, "101"), now=NOON)
    for line in written:
        Archive(store).write_down(Entry(NOON, line, "c1", "101", "79161234567"))
    store.close()
    with running(switch, planfix, tmp_path, ADMIN_PASSWORD=PASSWORD, KEEP_DAYS="3650") as service:
        visitor = Visitor(service)
        visitor.log_in()
        page = visitor.see("/calls/c1")
        assert "click to call: the employee picked up" in page
        assert "caller looked up: Анна, manager 102 (asked, 12 ms)" in page
        what = "the phone rings, a call window opens"
        assert f"try 1 to send “{what}”: Planfix rejected it: 400 Анна" in page
        visitor.headers["Accept-Language"] = "ru"
        page = visitor.see("/calls/c1")
    assert "поиск звонящего в Планфиксе: Анна, менеджер 102 (по запросу, 12 мс)" in page
    story = re.findall(r'<span class="what">(.*?)</span>', page, re.DOTALL)
    assert len(story) >= len(written)
    english = re.findall(r"\b[a-z]{3,}\b", re.sub(r"<[^>]*>?", "", " ".join(story)))
    assert english == []


def test_the_state_says_what_planfix_accepted_last(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path, ADMIN_PASSWORD=PASSWORD) as service:
        visitor = Visitor(service)
        visitor.log_in()
        assert "Planfix: nothing accepted yet" in visitor.see("/")
        planfix.answers.extend([500] * 50)
        switch.play("in_one_no_answer", speed=0)
        service.wait_for("not_delivered")
        page = visitor.see("/")
        # what is on its way is not worth a word
        assert "Waiting to be sent" not in page
        assert "last accepted" not in page
        planfix.answers.clear()
        with gevent.Timeout(PATIENCE):
            while "Planfix: last accepted" not in (page := visitor.see("/")):
                gevent.sleep(0.05)


def test_a_log_in_over_plain_http_explains_itself(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    more = {"ADMIN_PASSWORD": PASSWORD, "PUBLIC_URL": "https://pbx.example.com"}
    with running(switch, planfix, tmp_path, **more) as service:
        visitor = Visitor(service)
        far = {"Host": "10.9.9.9:8080"}
        page = visitor.get(f"{service.address}/login", headers=far).text
        assert "You cannot log in at this address" in page
        assert 'href="https://pbx.example.com"' in page
        port = service.address.rpartition(":")[2]
        assert f"ssh -L {port}:127.0.0.1:{port} SERVER" in page
        fields = {"password": PASSWORD, "csrf_token": "x"}
        answer = visitor.post(f"{service.address}/login", headers=far, data=fields)
        assert "Open https://pbx.example.com" in answer.text
        assert f"ssh -L {port}:127.0.0.1:{port} SERVER" in answer.text
        assert answer.status_code == 400
        for host in ("127.0.0.1:8080", "localhost:8080", "pbx.example.com", "[::1]:8080"):
            page = visitor.get(f"{service.address}/login", headers={"Host": host}).text
            assert "You cannot log in" not in page, host


def test_an_unknown_page_is_a_page_for_people_and_json_for_programs(visitor: Visitor) -> None:
    answer = visitor.get(f"{visitor.at}/nothing", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, "There is no such page." in answer.text) == (404, True)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert visitor.get(f"{visitor.at}/nothing").json() == {"error": "Not Found"}


def test_the_language_is_changed_where_one_is(visitor: Visitor) -> None:
    page = visitor.see("/calls?result=missed")
    answer = visitor.press("/language", page, language="ru", back="/calls?result=missed")
    assert answer.headers["Location"] == "/calls?result=missed"
    for back in (
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "",
        "/\nx",
        "\t//evil",
    ):
        answer = visitor.press("/language", visitor.see("/"), language="ru", back=back)
        assert answer.headers["Location"] == "/"
