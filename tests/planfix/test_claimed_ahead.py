"""More notices are claimed than may be under way: sending goes on while the next are claimed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gevent
import pytest
from gevent.event import Event
from sqlalchemy import select

from fsplanfix.calls.model import Kind
from fsplanfix.outbox.leases import SURE, Leases
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import notices
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import AHEAD, Courier
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import COMPLETED, URLS, Clock, complete
from ..support.couriers import only_courier
from ..support.outbox import notice
from ..support.service import PATIENCE

ENDS = [replace(COMPLETED, callid=f"c{n}") for n in range(AHEAD)]
"""Of as many calls as are claimed at once."""


@pytest.fixture
def one_by_one(store: Store, client: PlanfixApi, clock: Clock) -> Courier:
    """A courier that may have one request under way."""
    settings = DeliverySettings(concurrency=1, popup_ttl=60)
    return only_courier(store, client, URLS.url, settings, complete, now=clock)


@pytest.fixture
def hanging(planfix: Planfix) -> Iterator[Event]:
    """Planfix answers nothing until this is set."""
    over = Event()
    planfix.before = lambda _: over.wait(PATIENCE)
    yield over
    over.set()


def leased(store: Store) -> int:
    with store.transaction() as connection:
        return len(connection.execute(select(notices.c.id).where(notices.c.leased_until > 0)).all())


def outlast(leases: Leases) -> None:
    """Let the time go by for which leases are surely ours."""
    now = leases._now
    leases._now = lambda: now() + SURE


def test_what_was_claimed_is_sent_without_another_claim(
    one_by_one: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    store.save(ENDS, {}, "s", clock())
    under_way: list[int] = []
    planfix.before = lambda _: under_way.append(one_by_one._under_way["default"])
    one_by_one.step()
    assert leased(store) == AHEAD
    one_by_one.join()
    assert [request.fields["callid"] for request in planfix.received] == [
        end.callid for end in ENDS
    ]
    assert under_way == [1] * AHEAD


def test_no_more_is_claimed_than_that(
    one_by_one: Courier, store: Store, hanging: Event, clock: Clock
) -> None:
    more = [replace(COMPLETED, callid=f"more{n}") for n in range(AHEAD)]
    store.save([*ENDS, *more], {}, "s", clock())
    one_by_one.step()
    one_by_one.step()
    assert leased(store) == AHEAD
    hanging.set()
    one_by_one.stop()
    one_by_one.finish(PATIENCE)


def test_a_stop_leaves_it_to_others_at_once(
    one_by_one: Courier, store: Store, planfix: Planfix, hanging: Event, clock: Clock
) -> None:
    store.save(ENDS, {}, "s", clock())
    one_by_one.step()
    gevent.sleep(0)
    one_by_one.stop()
    finishing = gevent.spawn(one_by_one.finish, PATIENCE)
    with gevent.Timeout(PATIENCE):
        while leased(store) > 1:
            gevent.sleep(0)

    hanging.set()
    finishing.get(timeout=PATIENCE)
    assert len(planfix.received) == 1
    assert Queue(store).counts() == {"done": 1, "waiting": AHEAD - 1}


@pytest.mark.parametrize("code", [401, 429, 503])
def test_a_planfix_that_asks_us_to_wait_gets_none_of_it(
    one_by_one: Courier, store: Store, planfix: Planfix, clock: Clock, code: int
) -> None:
    planfix.answers.append(code)
    planfix.retry_after = "60"
    store.save(ENDS, {}, "s", clock())
    one_by_one.step()
    one_by_one.join()
    assert len(planfix.received) == 1
    assert leased(store) == 0

    clock.ahead += 61
    while one_by_one.step():
        one_by_one.join()
    assert Queue(store).counts() == {"done": AHEAD}


def test_a_worker_that_was_frozen_sends_none_of_it(
    one_by_one: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    """Its leases may have ended meanwhile, and another worker sends these notices."""
    store.save(ENDS, {}, "s", clock())
    one_by_one.step()
    planfix.before = lambda _: outlast(one_by_one.claims.leases)
    one_by_one.join()
    assert len(planfix.received) == 1


def test_leases_that_are_renewed_are_ours(
    one_by_one: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    store.save(ENDS, {}, "s", clock())
    one_by_one.step()

    def renewed(_: object) -> None:
        outlast(one_by_one.claims.leases)
        one_by_one.claims.leases.renew()

    planfix.before = renewed
    one_by_one.join()
    assert len(planfix.received) == AHEAD


def test_a_window_that_waited_too_long_for_its_turn_is_not_shown(
    one_by_one: Courier, store: Store, planfix: Planfix, clock: Clock
) -> None:
    windows = [replace(notice(Kind.INCOMING, "101", 1), callid=f"c{n}") for n in range(AHEAD)]
    store.save(windows, {}, "s", clock())
    one_by_one.step()
    planfix.before = lambda _: setattr(clock, "ahead", 61)
    one_by_one.join()
    one_by_one.step()
    assert Queue(store).counts() == {"done": 1, "skipped": AHEAD - 1}
