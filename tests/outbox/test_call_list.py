"""The list of calls that are over, on a real SQLite and a real PostgreSQL."""

from collections.abc import Iterable
from dataclasses import replace

import gevent
import pytest
from sqlalchemy import func, select, text

from fsplanfix.calls.model import Direction, Kind, Status
from fsplanfix.calls.result import Result, Share
from fsplanfix.errors import StoreError
from fsplanfix.outbox.call_list import ListedCall, Search
from fsplanfix.outbox.cleanup import Cleanup
from fsplanfix.outbox.reader import Reader
from fsplanfix.outbox.schema import calls, shares
from fsplanfix.outbox.store import Store

from ..support.listed_calls import call, every_call, listing, save
from ..support.traces import NAMES, events, rules_of, told

HOUR = 3600
DAY = 86400


def callids(found: Iterable[ListedCall]) -> list[str]:
    return [one.callid for one in found]


@pytest.mark.no_cover
def test_every_recorded_call_has_one_row(store: Store) -> None:
    expected: set[str] = set()
    listed = listing(store)
    for n, name in enumerate(NAMES):
        said = [
            replace(notice, callid=f"{n} {notice.callid}"[:99])
            for notice in told(events(name), rules_of(name))
        ]
        ours = sorted({notice.callid for notice in said})
        expected.update(notice.callid for notice in said if notice.kind is not Kind.RECORD)
        # as it comes: first what happens, then that it is over
        store.save(said, dict.fromkeys(ours, "open"), "s", now=1.0)
        assert not any(listed.one(callid) for callid in ours)
        store.save([], dict.fromkeys(ours), "s", now=2.0)
    assert set(callids(every_call(store))) == expected


def test_a_row_says_who_called_who_was_rung_and_who_answered(store: Store) -> None:
    save(store, call("c1", 100.5, "101", "102", "103", taken_by="102", name="Пётр Ёлкин"))
    (row,) = listing(store).page(Search(), 10)
    assert row == ListedCall(
        *("c1", 100.5, "in", "79161234567", "74950000001", "Пётр Ёлкин"),
        *(Result.ANSWERED.value, 10, 60, 0),
        [
            Share("102", Status.SUCCESS, 60),
            Share("101", Status.CANCELED, 0),
            Share("103", Status.CANCELED, 0),
        ],
    )
    assert listing(store).one("c1") == row
    assert listing(store).one("nobody") is None


def test_what_another_worker_told_counts_too(store: Store) -> None:
    """One worker knew of 101, the other of 102 and of the end."""
    said = call("c1", 100, "101", "102")
    store.save([n for n in said if n.ext == "101"][:1], {"c1": "open"}, "s", now=1.0)
    store.save([n for n in said if n.ext == "102"], {"c1": None}, "t", now=2.0)
    (row,) = listing(store).page(Search(), 10)
    assert [share.ext for share in row.shares] == ["101", "102"]
    assert row.result == Result.MISSED


def test_a_call_that_goes_on_after_its_end_keeps_one_row(store: Store) -> None:
    said = call("c1", 100, "101", taken_by="101")
    store.save(said[:1], {"c1": None}, "s", now=1.0)
    assert listing(store).page(Search(), 10)[0].result == Result.MISSED
    more = [replace(notice, ordinal=2) for notice in said]
    store.save(more, {"c1": None}, "s", now=2.0, reopened={"c1"})
    (row,) = listing(store).page(Search(), 10)
    assert (row.result, [share.talked for share in row.shares]) == (Result.ANSWERED, [60])


def test_pages_show_every_call_once_also_those_of_one_moment(store: Store) -> None:
    for n in range(23):
        save(store, call(f"c{n:02}", 100 + n // 5, f"10{n % 3}"))
    calls_list = listing(store)
    for search in (Search(), Search(ext="101"), Search(line="4950")):
        everything = callids(calls_list.page(search, 100))
        seen, after = [], None
        while page := calls_list.page(search, 4, after):
            seen += callids(page)
            after = page[-1].place
        assert seen == everything
        assert len(set(seen)) == len(seen)
    assert len(everything) == 23


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (Search(), ["c4", "c3", "c2", "c1"]),
        (Search(number="79161234567"), ["c1"]),
        (Search(digits="123"), ["c2", "c1"]),
        (Search(digits="%"), []),
        (Search(name="елкин"), ["c3"]),
        (Search(name="ПЁТР"), ["c3"]),
        (Search(name="100%"), ["c2"]),
        (Search(name="_"), []),
        (Search(name="anonymous"), ["c4"]),
        (Search(ext="101"), ["c3", "c1"]),
        (Search(ext="101", direction="out"), ["c3"]),
        (Search(line="74950000001", direction="in"), ["c4", "c2", "c1"]),
        (Search(results=("missed",)), ["c4", "c2"]),
        (Search(results=("no answer", "answered")), ["c3", "c1"]),
        (Search(since=200, until=400), ["c3", "c2"]),
        (Search(name="\x00", number="\x00"), []),
    ],
)
def test_calls_are_found(store: Store, search: Search, found: list[str]) -> None:
    save(
        store,
        call("c1", 100, "101", "102", taken_by="101"),
        call("c2", 200, "102", phone="79261230000", name="ООО 100% плюс"),
        call("c3", 300, "101", phone="79031112233", way=Direction.OUT, name="Пётр Ёлкин"),
        call("c4", 400, "103", phone="anonymous"),
    )
    assert callids(listing(store).page(search, 10)) == found


def test_figures_count_calls_and_not_windows(store: Store) -> None:
    save(
        store,
        call("c1", 10 * HOUR, "101", "102", "103", taken_by="102", talked=60),
        call("c2", 10 * HOUR + 60, "101", "102", "103"),
        call("c3", 11 * HOUR, "101", way=Direction.OUT, taken_by="101", talked=30),
        call("c4", 12 * HOUR, "101", way=Direction.OUT),
        call("c5", 2 * DAY, "101"),
    )
    found = listing(store)
    by_hour = {
        row.hour: (row.incoming, row.answered, row.missed, row.outgoing, row.reached)
        for row in found.hours(0, DAY, 1800)
    }
    assert by_hour == {10: (2, 1, 1, 0, 0), 11: (0, 0, 0, 1, 1), 12: (0, 0, 0, 1, 0)}
    # 5 h 45 min ahead of UTC, the whole hours begin elsewhere
    assert sorted(row.hour for row in found.hours(0, DAY, 5.75 * HOUR)) == [15, 16, 17]
    (ten,) = found.hours(10 * HOUR, 11 * HOUR, 0)
    assert (ten.waits, ten.waited, ten.talked) == (1, 10, 60)
    exts = sorted((r.ext, r.direction, r.status, r.calls, r.talked) for r in found.exts(0, DAY))
    assert exts == [
        ("101", "in", "Missed", 1, 0),
        ("101", "out", "NoAnswer", 1, 0),
        ("101", "out", "Success", 1, 30),
        ("102", "in", "Missed", 1, 0),
        ("102", "in", "Success", 1, 60),
        ("103", "in", "Missed", 1, 0),
    ]


def test_who_was_missed_and_not_called_back(store: Store) -> None:
    save(
        store,
        call("again", 100, "101", phone="79160000001"),
        call("last", 200, "101", phone="79160000001"),
        call("tried", 300, "101", phone="79160000001", way=Direction.OUT),
        call("called", 100, "101", phone="79160000002"),
        call("back", 200, "101", phone="79160000002", way=Direction.OUT, taken_by="101"),
        call("hidden", 100, "101", phone="anonymous"),
        call("answered", 100, "101", phone="79160000003", taken_by="101"),
        call("later", 150, "101", phone="79160000003"),
    )
    count, found = listing(store).unanswered(0, 1000, "anonymous", 10)
    assert [(one.call.callid, one.times, one.tried) for one in found] == [
        ("last", 2, 1),
        ("later", 1, 0),
    ]
    assert count == 2
    assert listing(store).unanswered(0, 1000, "anonymous", 1)[0] == 2
    assert listing(store).unanswered(0, 160, "anonymous", 10)[1][0].call.callid == "later"


def test_rows_are_deleted_with_the_rest(store: Store) -> None:
    save(store, call("old", 100, "101", "102"), now=10.0)
    save(store, call("new", 200, "101", "102"), now=20.0)
    Cleanup(store).clean(before=20.0)
    assert callids(listing(store).page(Search(), 10)) == ["new"]
    with store.transaction() as connection:
        for table, rows in ((calls, 1), (shares, 2)):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == rows


def test_a_hostile_name_is_only_text(store: Store) -> None:
    name = "'; DROP TABLE calls; -- \x00 \ud800 <b>"
    save(store, call("c1", 100, "101", name=name))
    (row,) = listing(store).page(Search(name="drop table"), 10)
    assert row.name == name.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")


def test_a_reading_that_nobody_waits_for_ends(store: Store) -> None:
    """It would go on for ever otherwise."""
    endless = (
        text(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)"
            " SELECT count(*) AS n FROM numbers"
        )
        .columns(n=calls.c.talked.type)
        .subquery()
    )
    if store.engine.dialect.name == "postgresql":
        endless = select(func.pg_sleep(9).label("n")).subquery()
    asked = []

    def is_wanted() -> bool:
        asked.append(True)
        return len(asked) < 2

    with pytest.raises(StoreError):
        Reader(store).rows(select(endless), {}, is_wanted)
    assert len(asked) >= 2


def test_reading_goes_on_while_a_writer_works(store: Store) -> None:
    save(store, call("c1", 100, "101"))
    with store.transaction() as connection:
        connection.execute(calls.update().values(name="not yet"))
        found = gevent.spawn(listing(store).page, Search(), 10).get(timeout=60)
    assert [row.name for row in found] == [""]
