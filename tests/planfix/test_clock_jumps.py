"""A clock that jumps holds nothing up."""

from dataclasses import replace
from functools import partial

import gevent
import pytest

from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import COMPLETED, URLS, Clock, complete, send_all
from ..support.couriers import only_courier
from ..support.outbox import GROUP, claim, let_leases_end

patient_courier = partial(
    only_courier,
    make_url=URLS.url,
    settings=DeliverySettings(popup_ttl=0),
    availability_of=complete,
)
"""For it no window comes too late."""


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
    courier = patient_courier(
        store,
        client,
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
    behind_the_times = patient_courier(
        store,
        client,
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
    courier = patient_courier(
        store,
        client,
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
