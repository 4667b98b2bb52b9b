"""Figures of days, weeks and months, by the clock of whoever looks."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import gevent
import pytest

from fsplanfix.admin.figures import figures, period_of
from fsplanfix.admin.shared import Shared
from fsplanfix.outbox.store import Store

from ..support.listed_calls import call, listing, save
from ..support.service import PATIENCE

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        ("day", date(2026, 11, 18), date(2026, 11, 18)),
        ("week", date(2026, 11, 16), date(2026, 11, 22)),
        ("month", date(2026, 11, 1), date(2026, 11, 30)),
    ],
)
def test_a_period_has_whole_days(span: str, first: date, last: date) -> None:
    period = period_of(span, date(2026, 11, 18))
    assert (period.first, period.last) == (first, last)
    assert period_of(span, period.after).before == last
    assert period_of(span, period.before).after == first


@pytest.mark.parametrize("span", ["day", "week", "month"])
@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_a_day_on_which_clocks_change_has_its_own_hours(store: Store, span: str, day: date) -> None:
    for hour in range(24):
        began = datetime(day.year, day.month, day.day, hour, 30, tzinfo=BERLIN).timestamp()
        save(store, call(f"c{hour}", began, "101", taken_by="101"))
    found = figures(listing(store), period_of(span, day), BERLIN, "anonymous", lambda: True)
    assert found.sums.answered == 24
    assert dict(found.days)[day].answered == 24
    # the clock leaps from 2 to 3 in March: half past two is half past three
    expected = [1] * 24
    if day.month == 3:
        expected[2:4] = [0, 2]
    assert [sums.answered for sums in found.hours] == expected


def test_calls_before_and_after_do_not_count(store: Store) -> None:
    for n, (on, hour) in enumerate([(17, 23), (18, 0), (18, 23), (19, 0)]):
        began = datetime(2026, 11, on, hour, 59 if hour else 0, tzinfo=BERLIN).timestamp()
        save(store, call(f"c{n}", began, "101"))
    day = period_of("day", date(2026, 11, 18))
    found = figures(listing(store), day, BERLIN, "anonymous", lambda: True)
    assert (found.sums.calls, found.sums.missed) == (2, 2)
    assert (found.sums.wait, found.sums.talk) == (None, None)


def test_whoever_asks_at_the_same_time_shares_the_answer() -> None:
    now = [100.0]
    shared: Shared[int] = Shared(10, lambda: now[0])
    found: list[str] = []

    def find(name: str) -> int:
        found.append(name)
        gevent.sleep(0)
        return len(found)

    jobs = [gevent.spawn(shared.get, "a", lambda: find("a")) for _ in range(5)]
    gevent.joinall(jobs, timeout=PATIENCE, raise_error=True)
    assert {job.value for job in jobs} == {1}
    assert shared.get("b", lambda: find("b")) == 2
    now[0] += 11
    assert shared.get("a", lambda: find("a")) == 3


def test_an_answer_that_failed_is_found_again() -> None:
    shared: Shared[int] = Shared(10)
    with pytest.raises(ZeroDivisionError):
        shared.get("a", lambda: 1 // 0)
    assert shared.get("a", lambda: 7) == 7
