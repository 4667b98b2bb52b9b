"""The clock that all workers go by."""

import time

import pytest

from fsplanfix.errors import StoreError
from fsplanfix.outbox.clock import SETTLES_IN, Clock
from fsplanfix.outbox.store import Store


class Times:
    """The database's clock and a steady one, moved at will. slow: seconds an answer takes."""

    def __init__(self) -> None:
        self.database, self.steady, self.slow = 1_000_000.0, 5.0, 0.0

    def ask(self) -> float:
        self.steady += self.slow
        return self.database

    def pass_by(self, seconds: float, jump: float = 0.0) -> None:
        self.steady += seconds
        self.database += seconds + jump


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def clock(times: Times) -> Clock:
    return Clock(times.ask, lambda: times.steady)


def test_time_passes_steadily_between_two_looks(times: Times, clock: Clock) -> None:
    assert clock() == 1_000_000.0
    times.pass_by(10.0)
    assert clock() == 1_000_010.0
    assert not clock.has_jumped()


@pytest.mark.parametrize("jump", [-1e9, -3600.0, -70.0, -3.0, 3.0, 300.0, 1e9])
def test_a_jump_of_any_size_is_noticed_once(times: Times, clock: Clock, jump: float) -> None:
    clock()
    times.pass_by(1.0, jump)
    assert clock() == 1_000_001.0
    assert clock.has_jumped()
    assert clock() == 1_000_001.0 + jump
    assert not clock.has_jumped()


def test_a_jump_is_lived_with_where_nobody_asks_for_jumps(times: Times, clock: Clock) -> None:
    clock()
    times.pass_by(10.0, 600.0)
    assert clock() == 1_000_610.0
    assert clock.has_jumped()


def test_the_time_goes_on_while_the_database_is_away(times: Times) -> None:
    def ask() -> float:
        if times.slow:
            raise StoreError("The database does not answer.")
        return times.ask()

    clock = Clock(ask, lambda: times.steady)
    clock()
    times.slow = 1.0
    times.pass_by(100.0)
    assert clock() == 1_000_100.0


def test_a_slow_answer_is_no_jump(times: Times, clock: Clock) -> None:
    clock()
    times.slow = 3.0  # its time is that of the question
    assert not clock.has_jumped()
    assert clock() == 1_000_003.0


@pytest.mark.parametrize("jump", [-300.0, 15.0, 300.0])
def test_a_jump_is_noticed_however_slow_the_answers_are(
    times: Times, clock: Clock, jump: float
) -> None:
    """On a busy machine no answer may be quick enough to tell the exact time."""
    clock()
    times.slow = 3.0
    times.pass_by(1.0, jump)
    assert clock.has_jumped()
    assert clock() == pytest.approx(1_000_004.0 + jump, abs=3.0)
    assert not clock.steady_for(12.0)


def test_the_end_of_a_jump_is_told_once(times: Times, clock: Clock) -> None:
    clock()
    told = [clock.has_settled()]
    for begin in (clock.begin, lambda: times.pass_by(1.0, 300.0)):
        begin()
        clock.has_jumped()
        told.append(clock.has_settled())
        times.pass_by(SETTLES_IN + 1.0)
        told += [clock.has_settled(), clock.has_settled()]
    assert told == [False, False, True, False, False, True, False]


def test_both_databases_tell_the_time(store: Store) -> None:
    assert store.now() == pytest.approx(time.time(), abs=600)
    assert not store.now.has_jumped()


def test_a_worker_whose_own_clock_is_off_goes_by_the_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due by one worker's clock must be due for all: leases go by the database's."""
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: right + 600)
    assert store.now.has_jumped() is False
    assert store.now() == pytest.approx(right, abs=300)
