"""When Planfix is left alone, and with what it is asked again."""

from dataclasses import replace

import pytest

from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.recordings.files import Availability
from fsplanfix.simulators.planfix import Planfix

from ..support.courier import COMPLETED, URLS, Clock, send_all
from ..support.couriers import only_courier
from ..support.outbox import GROUP


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
        store,
        client,
        URLS.url,
        DeliverySettings(),
        lambda *_: Availability(is_final=False),
        now=clock,
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
