"""The courier against the strict stand-in, over real HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import gevent
import pytest
from gevent.event import Event
from gevent.lock import Semaphore

from fsplanfix.calls.model import Kind, Notice, Status
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.recordings.files import Availability
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import COMPLETED, URLS, Clock, complete, send_all
from ..support.couriers import only_courier
from ..support.outbox import GROUP, HOP, OFFERS, notice
from ..support.service import PATIENCE
from ..support.traces import events, told


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
        lambda path, _: Availability(path in ready),
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


def test_an_error_of_ours_costs_one_notice_its_turn_and_nothing_else(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    is_broken = True

    def available(*_: object) -> Availability:
        if is_broken:
            raise ZeroDivisionError
        return Availability()

    courier = only_courier(store, client, URLS.url, DeliverySettings(), available, now=clock)
    store.save(told(events("group_answered")), {}, "s", clock())
    send_all(courier)
    assert Queue(store).counts() == {"done": 6, "waiting": 2}

    is_broken = False
    (unsent, _) = Queue(store).listed([State.WAITING], 10)
    courier.claims.give_back([unsent])
    send_all(courier)
    assert Queue(store).counts() == {"done": 8}


def test_a_kill_in_the_middle_of_a_request_costs_no_place(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    settings = DeliverySettings(concurrency=1)
    courier = only_courier(store, client, URLS.url, settings, complete, now=clock)
    asked, over = Event(), Event()

    def hang(_: object) -> None:
        asked.set()
        over.wait(PATIENCE)

    planfix.before = hang
    ends = [replace(COMPLETED, callid=f"c{number}") for number in range(2)]
    store.save(ends, {}, "s", clock())
    courier.step()
    assert asked.wait(PATIENCE)
    (sender,) = courier._senders
    planfix.before = lambda _: None
    sender.kill()
    over.set()
    with gevent.Timeout(PATIENCE):
        courier.join()
    send_all(courier)
    assert Queue(store).counts() == {"done": 1, "waiting": 1}


def test_a_recording_whose_bucket_is_away_is_asked_for_as_seldom_as_it_says(
    store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    asked: list[float] = []

    def ask(_: str, __: float) -> Availability:
        asked.append(clock.ahead)
        return Availability(is_final=False, wait=100)

    courier = only_courier(store, client, URLS.url, DeliverySettings(), ask, now=clock)
    store.save(told(events("group_answered")), {}, "s", clock())
    for clock.ahead in (0, 1, 50, 99, 101, 150):
        send_all(courier)
    # the first is for the COMPLETED, which does not wait
    assert asked == [0, 0, 101]
    assert len(planfix.accepted) == 7


@pytest.mark.parametrize(
    ("availability", "requests", "fields"),
    [
        (Availability(), 7, {"event", "record_link"}),
        (Availability(is_temporary=True), 8, {"cmd", "record_link", "is_temp"}),
        (Availability(problem="the file is empty"), 7, set()),
    ],
    ids=["lasting", "temporary", "never"],
)
def test_a_link_goes_out_once_and_only_if_it_opens(
    store: Store,
    client: PlanfixApi,
    planfix: Planfix,
    clock: Clock,
    availability: Availability,
    requests: int,
    fields: set[str],
) -> None:
    said = told(events("group_answered"))

    def judged(path: str, stopped: float) -> Availability:
        assert path.endswith(".wav")
        assert stopped == said[-1].at / 1_000_000
        return availability

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
