"""The courier against the strict stand-in, over real HTTP."""

import contextlib
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent.event import Event
from gevent.lock import Semaphore
from gevent.server import StreamServer

from fsplanfix.calls.model import ACCOUNT, Kind, Notice, Status
from fsplanfix.errors import StoreError, TransportError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Turn
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi, seconds_to_wait
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.recordings.files import Linkable
from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.planfix import Planfix

from ..support.couriers import only_courier
from ..support.outbox import GROUP, HOP, OFFERS, claim, let_leases_end, notice
from ..support.traces import events, told

COMPLETED = GROUP[-2]
URLS = RecordingUrls("https://pbx.example.com", ["key"])


def complete(path: str, _: float) -> Linkable:
    """Tell that a recording is final."""
    return Linkable()


class Clock:
    """A time that stands still, and is moved at will."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._begun = time.time()

    def __call__(self) -> float:
        return self._begun + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(planfix: Planfix) -> Iterator[PlanfixApi]:
    made = PlanfixApi(planfix.url, "planfix-token", concurrency=16)
    yield made
    made.close()


@pytest.fixture
def courier(store: Store, client: PlanfixApi, clock: Clock) -> Courier:
    return only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)


def send_all(courier: Courier) -> None:
    while courier.step():
        courier.finish(10)


def test_planfix_gets_a_whole_group_call_in_order(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    store.save(told(events("group_answered")), {}, "s", clock())
    send_all(courier)
    # the link went out with the COMPLETED
    assert len(planfix.accepted) == 7
    assert planfix.accepted[0]["event"] == "INCOMING"
    assert any("record_link" in fields for fields in planfix.accepted)
    assert planfix.history.surprises == []
    assert Queue(store).counts() == {"done": 8}


def test_a_recording_that_is_not_ready_waits_and_nothing_else_does(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    ready: list[str] = []
    courier = only_courier(
        store,
        client,
        URLS.url,
        DeliverySettings(),
        lambda path, _: Linkable(path in ready),
        now=clock,
    )
    store.save(told(events("group_answered")), {}, "s", clock())
    send_all(courier)
    assert (len(planfix.accepted), Queue(store).counts()) == (7, {"done": 7, "waiting": 1})
    (waiting,) = Queue(store).listed([State.WAITING], 10)
    assert (waiting.attempts, waiting.notice.kind) == (0, "record")
    ready.append(waiting.notice.recording)
    clock.ahead = 1
    send_all(courier)
    assert planfix.accepted[-1]["cmd"] == "record"


@pytest.mark.parametrize(
    ("linkable", "requests", "fields"),
    [
        (Linkable(), 7, {"event", "record_link"}),
        (Linkable(is_temporary=True), 8, {"cmd", "record_link", "is_temp"}),
        (Linkable(problem="the file is empty"), 7, set()),
    ],
    ids=["lasting", "temporary", "never"],
)
def test_a_link_goes_out_once_and_only_if_it_opens(
    store: Store,
    client: PlanfixApi,
    planfix: Planfix,
    clock: Clock,
    linkable: Linkable,
    requests: int,
    fields: set[str],
) -> None:
    said = told(events("group_answered"))

    def judged(path: str, stopped: float) -> Linkable:
        assert path.endswith(".wav")
        assert stopped == said[-1].at / 1_000_000
        return linkable

    courier = only_courier(store, client, URLS.url, DeliverySettings(), judged, now=clock)
    store.save(said, {}, "s", clock())
    send_all(courier)
    assert len(planfix.accepted) == requests
    with_link = [set(sent) for sent in planfix.accepted if "record_link" in sent]
    assert len(with_link) == ("record_link" in fields)
    assert all(fields <= names for names in with_link)
    assert [item.settled > 0 for item in Queue(store).listed(list(State), 10)] == [True] * 8
    assert planfix.history.surprises == []


def test_an_answer_lost_sends_the_link_again_in_the_same_request(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    said = told(events("group_answered"))
    store.save(said, {}, "s", clock())
    planfix.answers.extend([*[200] * 6, "drop after"])
    send_all(courier)
    clock.ahead += 5
    send_all(courier)
    assert Queue(store).counts() == {"done": 8}
    assert {fields["cmd"] for fields in planfix.accepted} == {"event"}


class Answers:
    """Keeps a Planfix from answering until it is told how many more requests it may answer."""

    def __init__(self, planfix: Planfix) -> None:
        self._planfix = planfix
        self._may_answer = Semaphore(0)
        planfix.before = lambda _: self._may_answer.acquire()

    def give(self, count: int) -> None:
        """Answer so many requests, and wait until they are."""
        answered = len(self._planfix.received) + count
        for _ in range(count):
            self._may_answer.release()
        self._planfix.wait_for(lambda crm: len(crm.received) == answered)


@contextmanager
def at_work(courier: Courier) -> Iterator[None]:
    """Let a courier work on its own."""
    runner = gevent.spawn(courier.run)
    try:
        yield
    finally:
        courier.stop()
        runner.join()
        courier.finish(5)


@pytest.fixture
def nothing_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent because time has passed: a courier that is not called sleeps for an hour."""
    monkeypatch.setattr("fsplanfix.planfix.courier.IDLE", 3600.0)


@pytest.mark.usefixtures("nothing_by_the_clock")
def test_twenty_windows_open_within_three_round_trips(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    """The first window is a barrier; the others open sixteen at a time, however long answers take."""
    answers = Answers(planfix)
    store.save([notice(Kind.INCOMING, str(100 + n), n) for n in range(1, 21)], {}, "s", clock())
    with at_work(courier):
        planfix.wait_for(lambda crm: crm.asked == 1)
        answers.give(1)
        planfix.wait_for(lambda crm: crm.asked == 17)
        answers.give(16)
        planfix.wait_for(lambda crm: crm.asked == 20)
        answers.give(3)
    assert Queue(store).counts() == {"done": 20}


@pytest.mark.usefixtures("nothing_by_the_clock")
def test_the_next_window_opens_after_planfix_has_closed_those_of_the_hop(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    """The windows of a group are closed side by side; the next one waits for the last answer."""
    may_answer = Event()
    planfix.before = lambda fields: fields.get("status") != "Canceled" or may_answer.wait()
    with at_work(courier):
        store.save(OFFERS, {}, "s", clock())
        courier.call()
        planfix.wait_for(lambda crm: len(crm.accepted) == 3)
        store.save(HOP, {}, "s", clock())
        courier.call()
        planfix.wait_for(lambda crm: crm.asked == 6)
        assert Queue(store).backlog().waiting == 4
        may_answer.set()
        planfix.wait_for(lambda crm: len(crm.accepted) == 7)
    assert [fields["ext"] for fields in planfix.accepted[3:]][-1] == "104"
    *closed, opened = planfix.received[3:]
    assert opened.came >= max(item.at for item in closed)


@pytest.mark.usefixtures("nothing_by_the_clock")
def test_one_request_at_a_time_follows_the_other_at_once(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    """No room while one is under way: the end of it is what calls for the next, whoever else is silent."""
    store.save([replace(GROUP[0], callid=f"c{n}") for n in range(6)], {}, "s", clock())
    courier = only_courier(
        store, client, URLS.url, DeliverySettings(concurrency=1), complete, now=clock
    )
    with at_work(courier):
        planfix.wait_for(lambda crm: len(crm.accepted) == 6)


def test_a_refused_request_is_set_aside_and_the_rest_goes(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    planfix.answers.append(400)
    store.save(GROUP[:2], {}, "s", clock())
    send_all(courier)
    assert Queue(store).counts() == {"rejected": 1, "done": 1}
    assert len(planfix.received) == 2


@pytest.mark.parametrize("failure", [403, 404, 429, 500, 502, 503, "html", "drop"])
def test_anything_else_is_tried_again(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock, failure: int | str
) -> None:
    planfix.answers.append(failure)
    store.save(GROUP[:1], {}, "s", clock())
    send_all(courier)
    assert Queue(store).counts() == {"waiting": 1}
    clock.ahead += 1.3
    send_all(courier)
    assert Queue(store).counts() == {"done": 1}
    assert len(planfix.accepted) == 1


@pytest.mark.parametrize("how", ["hang", 500, "drop", "drop after", 400, 401])
def test_whatever_planfix_does_once_the_call_is_told_in_order(
    store: Store,
    client: PlanfixApi,
    planfix: Planfix,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    how: int | str,
) -> None:
    manner = DeliverySettings(concurrency=1, popup_ttl=0)
    courier = only_courier(store, client, URLS.url, manner, complete, now=clock)
    store.save(GROUP, {}, "s", clock())
    over = Event()
    with monkeypatch.context() as now:
        if how == "hang":
            now.setattr("fsplanfix.planfix.api.CONNECT_TIMEOUT", 0.1)
            now.setattr("fsplanfix.planfix.api.READ_TIMEOUT", 0.1)
            now.setattr(planfix, "before", lambda _: over.wait())
            planfix.answers.append("drop")  # to whom is gone already
        else:
            planfix.answers.append(how)
        courier.step()
        courier.finish(60)
    over.set()
    for seconds in (0, 2, 61):
        clock.ahead += seconds if seconds < 60 or how == 401 else 0
        send_all(courier)
    refused = how == 400
    assert Queue(store).counts() == ({"rejected": 1, "done": 7} if refused else {"done": 8})
    sent = [item for item in planfix.received if item.code == 200]
    assert len(sent) == {"drop after": 9, 400: 7}.get(how, 8)
    assert [item.repeated for item in sent].count(True) == (how == "drop after")
    assert len(planfix.history.surprises) == refused  # the window that was refused is not open


def test_tries_end_after_three_days(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    store.save([COMPLETED], {}, "s", clock())
    planfix.answers.extend([500, 500])
    send_all(courier)
    clock.ahead += 73 * 3600
    send_all(courier)
    assert Queue(store).counts() == {"rejected": 1}


@pytest.mark.usefixtures("nothing_by_the_clock")
def test_a_notice_is_sent_when_it_is_called_for(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    with at_work(courier):
        gevent.sleep(0)
        store.save(GROUP[:1], {}, "s", clock())
        courier.call()
        planfix.wait_for(lambda crm: len(crm.accepted) == 1)


def test_a_late_window_is_skipped_but_the_end_of_the_call_is_told(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    store.save(GROUP, {}, "s", clock())
    clock.ahead += 61
    send_all(courier)
    assert Queue(store).counts() == {"skipped": 4, "done": 4}
    assert {fields.get("event", "record") for fields in planfix.accepted} == {"COMPLETED", "record"}


def test_late_windows_can_be_kept(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    store.save(GROUP[:1], {}, "s", clock())
    clock.ahead += 3600
    send_all(
        only_courier(store, client, URLS.url, DeliverySettings(popup_ttl=0), complete, now=clock)
    )
    assert Queue(store).counts() == {"done": 1}


@pytest.mark.no_cover
def test_an_unknown_token_pauses_everything_and_loses_nothing(
    courier: Courier,
    store: Store,
    planfix: Planfix,
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An hour with a wrong token: one probe a minute, then everything arrives in order, no window too late."""
    right, planfix.token = planfix.token, "changed in Planfix"
    for n in range(5):
        store.save([replace(item, callid=f"c{n}") for item in GROUP], {}, "s", clock())
    for _ in range(60):
        send_all(courier)
        clock.ahead += 60
    assert 60 <= len(planfix.received) <= 60 + 16
    assert Queue(store).backlog().unauthorized
    planfix.token, before = right, len(planfix.received)
    send_all(courier)
    assert not Queue(store).backlog().unauthorized
    assert capsys.readouterr().out.count("planfix_token_accepted") == 1
    assert [item.code for item in planfix.received[before:]] == [200] * 20
    assert Queue(store).counts() == {"skipped": 20, "done": 20}


@pytest.mark.no_cover
def test_a_day_without_planfix_ends_in_complete_delivery(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    """24 hours of simulated time, a call every hour: every end and every recording arrives, no window that is stale."""
    for hour in range(24):
        store.save([replace(item, callid=f"c{hour}") for item in GROUP], {}, "s", clock())
        for _ in range(2):
            planfix.answers.extend([503, "drop", 500, 502] * 200)
            send_all(courier)
            planfix.answers.clear()
            clock.ahead += 1800
    clock.ahead += 61
    for _ in range(3):
        send_all(courier)
        clock.ahead += 360
    assert Queue(store).counts() == {"skipped": 24 * 4, "done": 24 * 4}
    assert {fields.get("event", "record") for fields in planfix.accepted} == {"COMPLETED", "record"}
    for callid in {fields["callid"] for fields in planfix.accepted}:
        assert [fields["cmd"] for fields in planfix.accepted if fields["callid"] == callid][
            -1
        ] == "record"


def test_planfix_is_left_alone_for_as_long_as_it_asks(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    planfix.retry_after = "120"
    planfix.answers.append(503)
    store.save([COMPLETED], {}, "s", clock())
    send_all(courier)
    store.save([replace(COMPLETED, callid="another")], {}, "s", clock())
    clock.ahead += 115
    send_all(courier)
    assert len(planfix.received) == 1
    clock.ahead += 10
    send_all(courier)
    assert Queue(store).counts() == {"done": 2}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("99999999999999999999", 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2115 07:28:00 GMT", 3600),
        ("\u0661", 0),
    ],
)
def test_what_a_retry_after_asks_for(header: str, seconds: float) -> None:
    assert seconds_to_wait(header) == seconds


def canceled(callid: str) -> Notice:
    return replace(COMPLETED, callid=callid, status=Status.CANCELED)


def test_the_spelling_of_canceled_is_found_out_once_and_kept(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    planfix.canceled = "Cancelled"
    for n in range(3):
        store.save([canceled(f"c{n}")], {}, "s", clock())
        send_all(only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock))
    assert [item.fields["status"] for item in planfix.received] == ["Canceled", *["Cancelled"] * 3]
    assert Queue(store).counts() == {"done": 3}


@pytest.mark.parametrize("spelling", ["Canceled", "Cancelled"])
def test_the_spelling_of_canceled_can_be_fixed(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock, spelling: str
) -> None:
    planfix.canceled = spelling
    store.save([canceled("c")], {}, "s", clock())
    send_all(
        only_courier(
            store, client, URLS.url, DeliverySettings(canceled=spelling), complete, now=clock
        )
    )
    assert [item.code for item in planfix.received] == [200]


def test_a_canceled_that_no_spelling_helps_is_set_aside(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    planfix.answers.extend([400, 400])
    store.save([canceled("c")], {}, "s", clock())
    send_all(courier)
    assert Queue(store).counts() == {"rejected": 1}


def test_another_courier_takes_over_when_one_is_gone(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    store.save([COMPLETED], {}, "s", clock())
    assert len(claim(store, 10, clock(), "one that was killed")) == 1
    alive = only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
    send_all(alive)
    assert planfix.received == []
    let_leases_end(store)
    send_all(alive)
    assert Queue(store).counts() == {"done": 1}


def test_an_end_waits_for_an_answer_no_longer_than_it_may(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    """As when names are not resolved: the store keeps what was not answered."""
    over = Event()
    planfix.before = lambda _: over.wait()
    store.save(GROUP, {}, "s", clock())
    with gevent.Timeout(60):
        courier.step()
        planfix.wait_for(lambda crm: crm.asked == 1)
        courier.stop()
        assert courier.finish(0.01) == 0
    assert Queue(store).counts() == {"waiting": len(GROUP)}
    over.set()


def test_a_turn_that_outlives_the_stop_begins_no_request(
    store: Store,
    client: PlanfixApi,
    planfix: Planfix,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store was slow, and nobody waits for answers any more."""
    courier, next_one = (
        only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
        for _ in range(2)
    )
    store.save(GROUP, {}, "s", clock())
    real = Queue.settle_and_claim

    def slow(*given: Any) -> Turn:
        turn = real(*given)
        courier.stop()
        return turn

    with monkeypatch.context() as patched:
        patched.setattr(Queue, "settle_and_claim", slow)
        courier.step()
    assert courier.finish(60) == 0
    assert planfix.asked == 0
    # what it had claimed is free at once
    send_all(next_one)
    assert Queue(store).counts() == {"done": len(GROUP)}
    assert len(planfix.received) == len(GROUP)


def test_an_answer_in_the_hand_of_a_turn_that_hangs_is_kept_at_the_end(
    store: Store,
    client: PlanfixApi,
    planfix: Planfix,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    courier, next_one = (
        only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
        for _ in range(2)
    )
    store.save(GROUP[:1], {}, "s", clock())
    courier.step()
    courier._pool.join()
    hangs = Event()

    def hang(*_: object) -> Turn:
        hangs.set()
        gevent.sleep(3600)
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(Queue, "settle_and_claim", hang)
        running = gevent.spawn(courier.run)
        assert hangs.wait(60)
        courier.stop()
        assert courier.finish(0.01) == 1
    next_one.stop()
    next_one.run()
    send_all(next_one)
    assert Queue(store).counts() == {"done": 1}
    assert len(planfix.received) == 1
    running.kill()


def test_an_answer_that_comes_after_the_time_to_finish_is_kept(
    store: Store,
    client: PlanfixApi,
    planfix: Planfix,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The process has other things to end meanwhile."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    courier, next_one = (
        only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
        for _ in range(2)
    )
    over = Event()
    planfix.before = lambda _: over.wait()
    store.save(GROUP[:1], {}, "s", clock())
    courier.step()
    courier.stop()
    assert courier.finish(0.01) == 0
    over.set()
    courier._pool.join()
    assert courier.claims.keep_the_rest() == 1
    next_one.stop()
    next_one.run()
    send_all(next_one)
    assert Queue(store).counts() == {"done": 1}
    assert len(planfix.received) == 1


def test_a_courier_that_was_frozen_doubles_no_more_than_what_it_was_sending(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    """It sees the answer when another has long done everything."""
    frozen = only_courier(
        store, client, URLS.url, DeliverySettings(concurrency=1), complete, now=clock
    )
    alive = only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
    answered, thawed = Event(), Event()

    class Frozen:
        has_aim = True

        def post(self, fields: dict[str, str]) -> None:
            client.post(fields)
            answered.set()
            thawed.wait()

    frozen._deliveries[ACCOUNT]._client = Frozen()  # type: ignore[assignment]
    store.save(GROUP, {}, "s", clock())
    frozen.step()
    assert answered.wait(60)
    let_leases_end(store)
    send_all(alive)
    assert Queue(store).counts() == {"done": len(GROUP)}
    thawed.set()
    frozen.finish(60)
    send_all(frozen)
    assert Queue(store).counts() == {"done": len(GROUP)}
    first, *others = planfix.accepted
    assert [fields for fields in others if fields == first] == [first]
    assert len(others) == len(GROUP)
    assert (first["event"], first["ext"]) == ("INCOMING", "101")


def test_two_couriers_send_nothing_twice(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    """Each answer takes long enough for the other to look for work many times."""
    planfix.delay = 0.05
    for n in range(20):
        store.save([replace(item, callid=f"c{n}") for item in GROUP], {}, "s", clock())
    couriers = [
        only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)
        for _ in range(2)
    ]
    runners = [gevent.spawn(c.run) for c in couriers]
    renewals = [gevent.spawn(c.claims.leases.keep_renewing) for c in couriers]
    planfix.wait_for(lambda crm: len(crm.received) >= 160, timeout=120)
    for courier in couriers:
        courier.stop()
    gevent.joinall(runners, timeout=30)
    gevent.killall(renewals)
    for courier in couriers:
        courier.finish(30)
    assert Queue(store).counts() == {"done": 160}
    assert len(planfix.received) == 160
    assert planfix.history.surprises == []


def test_what_planfix_took_while_the_store_was_away_is_not_sent_again(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(GROUP[:1], {}, "s", clock())
    courier.step()
    courier._pool.join()
    with monkeypatch.context() as away:
        away.setattr(Queue, "settle_and_claim", unanswered)
        with pytest.raises(StoreError):
            courier.step()
    send_all(courier)
    assert Queue(store).counts() == {"done": 1}
    assert len(planfix.received) == 1


def unanswered(*_: object) -> None:
    raise StoreError("The database does not answer.")


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_an_hour_holds_nothing_up(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock, hours: int
) -> None:
    planfix.answers.append(500)
    store.save([COMPLETED], {}, "s", clock())
    send_all(courier)
    claim(store, 10, clock() + 2, "one that was killed before the jump")
    let_leases_end(store)
    clock.ahead += hours * 3600 + 2
    send_all(courier)
    assert Queue(store).counts() == {"done": 1}


@pytest.mark.no_cover
@pytest.mark.parametrize("seconds", [-1e9, -3600.0, -300.0, -70.0, -3.0, 3.0, 300.0])
@pytest.mark.parametrize("code", [500, 503, 401])
def test_what_waits_for_another_try_survives_a_jump_of_any_size(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock, seconds: float, code: int
) -> None:
    """Its time was said by the clock of before: it is tried at once."""
    jumps: list[bool] = []
    courier = only_courier(
        store,
        client,
        URLS.url,
        DeliverySettings(popup_ttl=0),
        complete,
        now=clock,
        has_jumped=lambda: bool(jumps) and jumps.pop(),
    )
    planfix.retry_after = "60"
    planfix.answers.append(code)
    store.save(GROUP, {}, "s", clock())
    send_all(courier)
    assert len(planfix.received) == 1
    clock.ahead += seconds
    jumps.append(True)
    send_all(courier)
    assert Queue(store).counts() == {"done": len(GROUP)}
    assert planfix.history.surprises == []


@pytest.mark.parametrize("seconds", [15.0, 300.0, 3600.0])
@pytest.mark.parametrize("code", [429, 503, 401])
def test_a_hold_by_a_time_that_is_over_stops_no_other_worker(
    courier: Courier,
    store: Store,
    client: PlanfixApi,
    planfix: Planfix,
    clock: Clock,
    seconds: float,
    code: int,
) -> None:
    """A worker that has not noticed the jump back writes when it began, too."""
    behind_the_times = only_courier(
        store,
        client,
        URLS.url,
        DeliverySettings(popup_ttl=0),
        complete,
        now=lambda: clock() + seconds,
    )
    planfix.retry_after = "2"
    planfix.answers.append(code)
    store.save(GROUP[:1], {}, "s", clock())
    behind_the_times.step()
    behind_the_times.finish(60)
    store.save([replace(COMPLETED, callid="c2")], {}, "s", clock())
    send_all(courier)
    assert "c2" in {fields["callid"] for fields in planfix.accepted}


def test_what_is_planned_by_the_old_time_after_a_jump_was_noticed_is_tried_later(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    """It was under way when the jump was noticed, or comes from a worker that is late."""
    settled: list[bool] = []
    courier = only_courier(
        store,
        client,
        URLS.url,
        DeliverySettings(popup_ttl=0),
        complete,
        now=clock,
        has_settled=lambda: bool(settled) and settled.pop(),
    )
    store.save([COMPLETED], {}, "s", clock() + 300.0)
    send_all(courier)
    assert planfix.asked == 0
    settled.append(True)
    clock.ahead += 12.0
    send_all(courier)
    assert Queue(store).counts() == {"done": 1}


def test_the_store_itself_notices_a_jump(
    store: Store, client: PlanfixApi, planfix: Planfix, monkeypatch: pytest.MonkeyPatch
) -> None:
    courier = only_courier(
        store,
        client,
        URLS.url,
        DeliverySettings(),
        complete,
        now=store.now,
        has_jumped=store.now.has_jumped,
    )
    planfix.answers.append(500)
    store.save([COMPLETED], {}, "s", store.now())
    send_all(courier)
    real = store.now._ask
    monkeypatch.setattr(store.now, "_ask", lambda: real() - 70.0)
    with gevent.Timeout(60):  # a look that takes long says too little of the time, and is repeated
        while Queue(store).counts() != {"done": 1}:
            courier.claims.upkeep.looked_at = 0.0  # a second later
            send_all(courier)


def test_a_window_too_late_is_no_probe(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    """It grows stale between the look for stale ones and its turn: the next is asked with."""
    planfix.answers.extend([401, 401])
    store.save([GROUP[0], replace(COMPLETED, callid="c2")], {}, "s", clock())
    send_all(courier)
    clock.ahead = 59.9
    courier.step()  # the window is not stale yet
    clock.ahead = 60.5
    send_all(courier)
    assert Queue(store).counts() == {"done": 1, "skipped": 1}


def test_a_recording_that_is_not_ready_is_no_probe(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    courier = only_courier(
        store, client, URLS.url, DeliverySettings(), lambda *_: Linkable(is_final=False), now=clock
    )
    planfix.answers.append(401)
    store.save([replace(COMPLETED, callid="c2")], {}, "s", clock())
    send_all(courier)
    clock.ahead += 30
    store.save([GROUP[-1]], {}, "s", clock() - 40)
    Queue(store).try_again(Queue(store).listed([State.WAITING], 1)[0], clock() + 31, "401")
    clock.ahead += 31.5
    send_all(courier)
    assert Queue(store).counts() == {"done": 1, "waiting": 1}


def test_a_request_that_drips_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(b" ")
                gevent.sleep(0.02)

    monkeypatch.setattr("fsplanfix.planfix.api.CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr("fsplanfix.planfix.api.READ_TIMEOUT", 0.2)
    server = StreamServer(("127.0.0.1", 0), drip)
    server.start()
    assert "did not answer in time" in str(failure_of(f"http://127.0.0.1:{server.server_port}/"))
    server.stop(timeout=0.1)


def test_a_certificate_nobody_signed_is_no_planfix() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = StreamServer(("127.0.0.1", 0), lambda sock, _: sock.close(), ssl_context=context)
    server.start()
    assert "certificate is not trusted" in str(
        failure_of(f"https://127.0.0.1:{server.server_port}/")
    )
    server.stop(timeout=0.1)


def failure_of(url: str, token: str = "planfix-token") -> TransportError:
    client = PlanfixApi(url, token, concurrency=1)
    try:
        with pytest.raises(TransportError) as caught:
            client.post({"cmd": "event"})
    finally:
        client.close()
    assert token not in str(caught.value)
    return caught.value


def test_a_wrong_token_is_not_given_up(planfix: Planfix) -> None:
    assert not failure_of(planfix.url, "wrong").permanent


def test_a_refusal_is_permanent(planfix: Planfix) -> None:
    assert failure_of(planfix.url).permanent


def test_nothing_listening_is_worth_another_try(planfix: Planfix) -> None:
    planfix.stop()
    error = failure_of(planfix.url)
    assert "cannot be reached" in str(error)
    assert not error.permanent


def test_a_web_page_is_no_answer(planfix: Planfix) -> None:
    planfix.answers.append("html")
    assert "is PLANFIX_URL right?" in str(failure_of(planfix.url))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<!doctype html><html",
            "web page came back",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "answered 302",
        ),
        (b"garbage\r\n\r\n", "cannot be reached"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            "cannot be reached",
        ),
        (b"HTTP/1.1 500 \xff\xfe\r\nContent-Length: 2\r\n\r\n\xff\xfe", "answered 500"),
    ],
)
def test_a_strange_answer_is_worth_another_try(answer: bytes, words: str) -> None:
    def speak(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        sock.sendall(answer)
        sock.close()

    server = StreamServer(("127.0.0.1", 0), speak)
    server.start()
    error = failure_of(f"http://127.0.0.1:{server.server_port}/tel/api")
    server.stop(timeout=0.1)
    assert words in str(error)
    assert not error.permanent


@pytest.mark.parametrize("code", [b"500 Oops", b"400 Bad"])
def test_a_nul_in_an_answer_holds_up_nothing(store: Store, clock: Clock, code: bytes) -> None:
    """PostgreSQL holds no NUL: that answer was written down again and again, its slot never free."""

    def speak(sock: gevent.socket.socket, _: object) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 " + code + b"\r\nContent-Length: 3\r\n\r\na\0b")
        sock.close()

    server = StreamServer(("127.0.0.1", 0), speak)
    server.start()
    client = PlanfixApi(f"http://127.0.0.1:{server.server_port}/", "planfix-token", concurrency=1)
    courier = only_courier(
        store, client, URLS.url, DeliverySettings(concurrency=1), complete, now=clock
    )
    store.save(GROUP[:1], {}, "s", clock())
    with gevent.Timeout(60):
        courier.step()
        courier._pool.join()
        courier.step()
    (queued,) = Queue(store).listed([State.WAITING, State.REJECTED], 10)
    assert "a\ufffdb" in queued.answer
    assert courier.claims.leases.held == set()
    client.close()
    server.stop(timeout=0.1)
