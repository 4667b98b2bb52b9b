"""The measurements measure: short runs of the real thing, whose figures nobody judges here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import (
    accounts,
    burst,
    esl,
    last_talk,
    limits,
    open_calls,
    outbox,
    pages,
    records,
    sockets,
    taken_up,
    traffic,
    windows,
    workers,
)
from bench.__main__ import socket_application
from bench.programs import connector
from bench.table import Rounds, Row
from fsplanfix.freeswitch.events import SwitchEvent
from soak.__main__ import Sample, report

from .support.postgres import empty_database
from .support.traces import by_ext, shorthand, told

pytestmark = pytest.mark.no_cover


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def test_a_made_up_call_says_what_the_recorded_one_says() -> None:
    moments = traffic.calls(3, 0.05)
    said = told(SwitchEvent(moment.body) for moment in moments)
    recorded = told(SwitchEvent(body) for _, body in traffic.recorded(traffic.GROUP))
    (wanted,) = shorthand(recorded).values()
    found = shorthand(said)
    assert set(found) == {moment.callid for moment in moments}
    assert len(found) == 3
    for tokens in found.values():
        assert by_ext(tokens[1:]) == by_ext(wanted[1:])
    # the link to the recording goes out with a COMPLETED
    assert len(wanted) == 1 + traffic.REQUESTS + 1


def test_companies_at_rest_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SETTLED", 0.0)
    monkeypatch.setattr(accounts, "WATCHED", 0.1)
    assert accounts.at_rest(3).memory > 0


def test_a_group_of_twenty_rings_twenty_phones() -> None:
    tracker_said = [SwitchEvent(moment.body) for moment in traffic.group_of(20)]
    assert [event.name for event in tracker_said].count("CHANNEL_PROGRESS") == 20
    assert len({event.leg for event in tracker_said}) == 21


@pytest.mark.parametrize("name", ["ours", "plain"])
def test_both_connectors_send_every_request_of_every_call(name: str) -> None:
    with connector(name) as stage:
        asked: list[dict[str, str]] = []
        stage.planfix.came = asked.append
        stage.switch.send(traffic.calls(5, 0.05))
        stage.planfix.wait_for(5 * traffic.REQUESTS, 30)
        stage.check(5 * traffic.REQUESTS)
    one = [f for f in asked if f["callid"] == asked[0]["callid"]]
    assert sorted(f.get("status") or f.get("event") or f["cmd"] for f in one) == sorted(
        ["INCOMING"] * 3 + ["ACCEPTED", "Canceled", "Canceled", "Success"]
    )
    assert sum("record_link" in f for f in one) == 1


def test_several_workers_share_a_postgresql(postgres: str) -> None:
    before = os.sched_getaffinity(0)
    assert workers.rate(2, empty_database(postgres), calls=4) > 0
    assert os.sched_getaffinity(0) == before


def test_windows_are_timed_for_every_call() -> None:
    found = windows.even_calls(calls=5)
    assert len(found.delays) == 5
    assert all(delay > 0 for delay in found.delays)
    assert found.share > 0


def test_health_is_asked_for_while_the_store_is_locked() -> None:
    assert burst.longest_while_locked(seconds=2) > 0


def test_calls_are_held_open_and_weighed() -> None:
    holder = open_calls.Holder(200)
    assert isinstance(holder.per_call, float)
    assert holder.round() > 0
    holder.end()


def test_calls_that_go_on_are_taken_up(tmp_path: Path) -> None:
    taken = taken_up.Taken(f"sqlite:///{tmp_path}/store.db", count=20, over=10)
    found = taken.start()
    assert 0 < found.ready <= found.taken_up
    assert taken.start_for_accounts(3).memory > 0


def test_who_talked_last_is_found_among_many_calls(store_url: str) -> None:
    store = last_talk.Million(store_url, 40)
    assert store.find() > 0
    store.close()


def test_both_backlogs_are_claimed_from(store_url: str) -> None:
    for outage in (False, True):
        full = outbox.Full(store_url, 40 if not outage else 16, outage)
        assert full.turns() > 0
        full.close()


def test_greenswitchs_server_is_timed() -> None:
    stock = sockets.Stock()
    assert sockets.median(stock.port, 1) > 0
    stock.end()


@pytest.mark.parametrize("name", ["greeted", "held"])
def test_our_server_is_timed(name: str) -> None:
    done = run("bench.sockets", name)
    assert isinstance(float(done.stdout), float), done.stderr


def test_what_must_be_over_in_time_is_timed() -> None:
    assert limits.click() > 0
    assert limits.overview() > 0
    assert limits.held_by_the_dead() > 0
    over, again = limits.held_for_silence()
    assert (over > -limits.DEADLINE, again > 0) == (True, True)


def test_the_headers_the_tracker_asks_for_are_about_thirty_five() -> None:
    asked = {
        name
        for names in esl.asked_by_the_tracker()
        for name in names
        if not name.startswith("variable_planfix")
    }
    assert 30 <= len(asked) <= 40


@pytest.mark.parametrize(
    ("ratio", "ours", "bar", "at_least", "missed"),
    [
        (7.9, 1, 8, True, True),
        (8.0, 1, 8, True, False),
        (1.3, 1, 1.2, False, True),
        (None, 26, 25, False, True),
    ],
)
def test_a_missed_bar_is_seen(
    ratio: float | None, ours: float, bar: float, at_least: bool, missed: bool
) -> None:
    row = Row("what", "ms", ours, "reference", 2.0, ratio, bar, at_least)
    assert row.missed == missed
    assert str(row).endswith(" !") == missed
    assert len(str(row)) < 92


def test_our_first_word_is_held_to_greenswitchs_and_to_two_milliseconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "CONNECTIONS", 1)
    against, alone = socket_application(Rounds(1))
    assert (against.bar, against.ratio is None) == (0.1, False)
    assert (alone.bar, alone.ratio, alone.unit) == (2, None, "ms")
    assert alone.ours == against.ours > 0


def test_medians_are_of_rounds_that_alternate() -> None:
    order: list[str] = []
    values = iter([1.0, 10.0, 3.0, 10.0, 2.0, 40.0])

    def measure(name: str) -> float:
        order.append(name)
        return next(values)

    rounds = Rounds(3)
    rounds.take({"ours": lambda: measure("ours"), "theirs": lambda: measure("theirs")})
    assert order == ["ours", "theirs"] * 3
    assert (rounds.median("ours"), rounds.median("theirs"), rounds.ratio("ours", "theirs")) == (
        2.0,
        10.0,
        0.1,
    )


def test_one_part_of_the_table_can_be_had_alone() -> None:
    done = run("bench", "--quick", "--only", "start_up")
    assert done.stderr == ""
    assert "start to ready" in done.stdout
    assert done.returncode == ("0 missed" not in done.stdout)


# the soak


def test_a_short_soak_plays_every_call_and_fails_if_anything_grew() -> None:
    """Whether anything grows shows only in `make soak`: ten seconds are too few for a judgement."""
    done = run("soak", "--minutes", "0.15", "--keep", "1")
    assert done.stderr == ""
    # of a call that is told, Planfix gets a COMPLETED for each of two employees
    assert "180 calls, 9 calls told from records" in done.stdout
    assert "1278 requests of calls, each once" in done.stdout
    assert done.returncode == ("  grew" in done.stdout)


def test_what_grows_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    flat = [Sample(90.0, 30.0, 15.0, 6.0)] * 10
    leaking = [Sample(90.0 + n, 30.0 + n, 15.0 + n, 6.0 + n) for n in range(10)]
    assert report(flat) == 0
    assert report(leaking) == 4
    assert capsys.readouterr().out.count("grew") == 4


def test_calls_are_timed_while_pages_are_open(tmp_path: Path) -> None:
    worst = pages.Worst(f"sqlite:///{tmp_path}/store.db", count=50, calls=5)
    assert worst.with_pages() > 0
    assert worst.without_pages() > 0


def test_calls_are_timed_while_others_are_told_from_records() -> None:
    with records.many_old(20) as folder:
        assert records.start_beside(folder) > 0
    with records.untold(3) as folder:
        assert all(delay > 0 for delay in records.delays(folder, 10))
