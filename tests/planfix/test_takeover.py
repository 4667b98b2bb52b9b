"""What one courier leaves behind at its end, and another takes over."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from fsplanfix.calls.model import ACCOUNT
from fsplanfix.errors import StoreError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Turn
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import COMPLETED, URLS, Clock, complete, send_all
from ..support.couriers import only_courier
from ..support.outbox import GROUP, claim, let_leases_end


@pytest.fixture
def next_one(store: Store, client: PlanfixApi, clock: Clock) -> Courier:
    """Another courier beside `courier`, or after it."""
    return only_courier(store, client, URLS.url, DeliverySettings(), complete, now=clock)


def test_another_courier_takes_over_when_one_is_gone(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    store.save([COMPLETED], {}, "s", clock())
    assert len(claim(store, 10, clock(), "one that was killed")) == 1
    send_all(courier)
    assert planfix.received == []
    let_leases_end(store)
    send_all(courier)
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
    courier: Courier,
    next_one: Courier,
    store: Store,
    planfix: Planfix,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store was slow, and nobody waits for answers any more."""
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
    courier: Courier,
    next_one: Courier,
    store: Store,
    planfix: Planfix,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    store.save(GROUP[:1], {}, "s", clock())
    courier.step()
    courier.join()
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
    courier: Courier,
    next_one: Courier,
    store: Store,
    planfix: Planfix,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The process has other things to end meanwhile."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    over = Event()
    planfix.before = lambda _: over.wait()
    store.save(GROUP[:1], {}, "s", clock())
    courier.step()
    courier.stop()
    assert courier.finish(0.01) == 0
    over.set()
    courier.join()
    assert courier.claims.keep_the_rest() == 1
    next_one.stop()
    next_one.run()
    send_all(next_one)
    assert Queue(store).counts() == {"done": 1}
    assert len(planfix.received) == 1


def test_a_courier_that_was_frozen_doubles_no_more_than_what_it_was_sending(
    next_one: Courier, store: Store, client: PlanfixApi, planfix: Planfix, clock: Clock
) -> None:
    """It sees the answer when another has long done everything."""
    frozen = only_courier(
        store, client, URLS.url, DeliverySettings(concurrency=1), complete, now=clock
    )
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
    send_all(next_one)
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
    courier: Courier, next_one: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    """Each answer takes long enough for the other to look for work many times."""
    planfix.delay = 0.05
    for n in range(20):
        store.save([replace(item, callid=f"c{n}") for item in GROUP], {}, "s", clock())
    couriers = [courier, next_one]
    runners = [gevent.spawn(c.run) for c in couriers]
    renewals = [gevent.spawn(c.claims.leases.keep_renewing) for c in couriers]
    planfix.wait_for(lambda crm: len(crm.received) >= 160, timeout=120)
    for one in couriers:
        one.stop()
    gevent.joinall(runners, timeout=30)
    gevent.killall(renewals)
    for one in couriers:
        one.finish(30)
    assert Queue(store).counts() == {"done": 160}
    assert len(planfix.received) == 160
    assert planfix.history.surprises == []


def test_what_planfix_took_while_the_store_was_away_is_not_sent_again(
    courier: Courier, store: Store, planfix: Planfix, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(GROUP[:1], {}, "s", clock())
    courier.step()
    courier.join()
    with monkeypatch.context() as away:
        away.setattr(Queue, "settle_and_claim", unanswered)
        with pytest.raises(StoreError):
            courier.step()
    send_all(courier)
    assert Queue(store).counts() == {"done": 1}
    assert len(planfix.received) == 1


def unanswered(*_: object) -> None:
    raise StoreError("The database does not answer.")
