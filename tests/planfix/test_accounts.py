"""One courier, several companies: none feels what happens to another."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import gevent
import pytest
from gevent.event import Event

from fsplanfix.calls.model import Kind, Notice, Status
from fsplanfix.outbox.claims import Claims
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Outcome
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.upkeep import Upkeep
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.courier import Courier
from fsplanfix.planfix.delivery import Delivery, DeliverySettings
from fsplanfix.recordings.files import Availability
from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.planfix import Planfix

from ..support.couriers import only_courier
from ..support.outbox import GROUP, let_leases_end, notice
from ..support.service import PATIENCE

URLS = RecordingUrls("https://pbx.example.com", ["key"])


class Clock:
    """A time that stands still, and is moved at will."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def planfixes() -> Iterator[dict[str, Planfix]]:
    """Each takes its own token only."""
    stand_ins = {name: Planfix(token=f"token-of-{name}") for name in ("a", "b", "c")}
    for stand_in in stand_ins.values():
        stand_in.start()
    yield stand_ins
    for stand_in in stand_ins.values():
        stand_in.stop()


OPENED: list[PlanfixApi] = []


@pytest.fixture(autouse=True)
def _close_what_was_opened() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def api_of(planfix: Planfix, name: str) -> PlanfixApi:
    OPENED.append(PlanfixApi(planfix.url, f"token-of-{name}", 16))
    return OPENED[-1]


def courier_of(
    store: Store,
    planfixes: Mapping[str, Planfix],
    clock: Clock,
    settings: Mapping[str, DeliverySettings] = MappingProxyType({}),
    most: int = 1000,
) -> Courier:
    claims = Claims(store, Upkeep(store, clock), clock)
    deliveries = {
        name: Delivery(
            api_of(planfix, name),
            URLS.url,
            settings.get(name, DeliverySettings()),
            lambda path, stopped: Availability(),
            account=name,
        )
        for name, planfix in planfixes.items()
    }
    return Courier(claims, deliveries, most)


def of(account: str, said: list[Notice], callid: str = "c1") -> list[Notice]:
    return [replace(one, account=account, callid=f"{callid}-{account}") for one in said]


def ended(account: str, n: int) -> Notice:
    return of(account, [notice(Kind.COMPLETED, "101", 1, status=Status.SUCCESS)], f"n{n}")[0]


def send_all(courier: Courier) -> None:
    while courier.step():
        courier.finish(PATIENCE)


@contextmanager
def at_work(courier: Courier) -> Iterator[None]:
    runner = gevent.spawn(courier.run)
    try:
        yield
    finally:
        courier.stop()
        runner.join(PATIENCE)
        courier.finish(PATIENCE)


def test_each_company_is_told_of_its_own_calls_alone(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    """The same ext, the same number, the same moment."""
    for name in planfixes:
        store.save(of(name, GROUP), {}, "s", clock())
    send_all(courier_of(store, planfixes, clock))
    assert Queue(store).counts() == {"done": 3 * len(GROUP)}
    for name, planfix in planfixes.items():
        assert {fields["callid"] for fields in planfix.accepted} == {f"c1-{name}"}
        assert len(planfix.accepted) == len(planfix.received) == len(GROUP)
        assert planfix.history.surprises == []


def test_a_planfix_that_hangs_keeps_no_other_company_waiting(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    over = Event()
    planfixes["a"].before = lambda _: over.wait(PATIENCE)
    for n in range(30):
        store.save([ended(name, n) for name in planfixes], {}, "s", clock())
    with at_work(courier_of(store, planfixes, clock)):
        for name in ("b", "c"):
            planfixes[name].wait_for(lambda crm: len(crm.accepted) == 30)
        assert planfixes["a"].received == []
        over.set()
        planfixes["a"].wait_for(lambda crm: len(crm.accepted) == 30)


def test_a_token_that_is_not_accepted_pauses_its_own_company(
    store: Store,
    planfixes: dict[str, Planfix],
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    planfixes["a"].token = "another"
    for name in ("a", "b"):
        store.save(of(name, GROUP), {}, "s", clock())
    courier = courier_of(store, planfixes, clock)
    send_all(courier)
    assert len(planfixes["b"].accepted) == len(GROUP)
    assert len(planfixes["a"].received) == 1
    said = capsys.readouterr().out
    assert said.count("planfix_token_unknown") == 1
    assert "account=a" in said
    assert store.facts.get("unauthorized a")
    assert store.facts.get("unauthorized") == store.facts.get("unauthorized b") == ""

    # a minute later: one probe of a's, and what is new of b's at once
    store.save(of("b", GROUP, "c2"), {}, "s", clock())
    send_all(courier)
    assert len(planfixes["b"].accepted) == 2 * len(GROUP)
    assert len(planfixes["a"].received) == 1
    clock.now += 60.5
    send_all(courier)
    assert len(planfixes["a"].received) == 2
    planfixes["a"].token = "token-of-a"
    clock.now += 60.5
    send_all(courier)
    said = capsys.readouterr().out
    assert said.count("planfix_token_accepted") == 1
    assert "account=a" in said.split("planfix_token_accepted")[1]
    assert store.facts.beginning("unauthorized") == store.facts.beginning("hold_") == {}


def test_a_planfix_that_asks_us_to_wait_is_waited_for_alone(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    planfixes["a"].retry_after = "30"
    planfixes["a"].answers.append(503)
    for name in ("a", "b"):
        store.save([ended(name, n) for n in range(5)], {}, "s", clock())
    courier = courier_of(store, planfixes, clock, {"a": DeliverySettings(concurrency=1)})
    send_all(courier)
    assert len(planfixes["b"].accepted) == 5
    assert len(planfixes["a"].received) == 1
    assert courier.claims.upcoming == pytest.approx(clock() + 30)
    clock.now += 31
    send_all(courier)
    assert len(planfixes["a"].accepted) == 5


def test_a_backlog_takes_nobody_elses_turn(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    store.save([ended("a", n) for n in range(500)], {}, "s", clock())
    clock.now += 1
    store.save([ended("b", 0), ended("c", 0)], {}, "s", clock())
    courier = courier_of(store, planfixes, clock, most=64)
    courier.step()
    # a sixteenth of the places
    assert {name: courier._under_way[name] for name in planfixes} == {"a": 4, "b": 1, "c": 1}
    courier.stop()
    courier.finish(PATIENCE)


def test_companies_that_begin_to_hang_leave_places_to_the_others(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    over = Event()
    for name in ("a", "b"):
        planfixes[name].before = lambda _: over.wait(PATIENCE)
        store.save([ended(name, n) for n in range(30)], {}, "s", clock())
    courier = courier_of(store, planfixes, clock, most=32)
    for _ in range(10):
        courier.step()
    # two of 32 places each, and no more while only 28 are left
    assert courier._under_way == {"a": 2, "b": 2}
    store.save([ended("c", n) for n in range(30)], {}, "s", clock())
    with at_work(courier):
        planfixes["c"].wait_for(lambda crm: len(crm.accepted) == 30)
        assert planfixes["a"].received == []
        over.set()


def test_a_company_in_trouble_has_one_request_under_way(
    store: Store,
    planfixes: dict[str, Planfix],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its others may be needed for companies whose Planfix works."""
    planfixes["a"].answers.extend([500] * 18)
    store.save([ended("a", n) for n in range(40)], {}, "s", clock())
    courier = courier_of(store, planfixes, clock)
    under_way: list[int] = []
    deliver = Delivery.deliver

    def noted(*arguments: Any) -> Outcome | None:
        under_way.append(courier._under_way["a"])
        return deliver(*arguments)

    monkeypatch.setattr(Delivery, "deliver", noted)
    courier.step()
    courier.join()
    # two that are not accepted either, and one that is
    assert under_way[16:20] == [1, 1, 1, 16]
    courier.stop()
    courier.finish(PATIENCE)


def test_each_planfix_spells_canceled_its_own_way(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    canceled = [notice(Kind.COMPLETED, "101", 1, status=Status.CANCELED)]
    for name in ("a", "b"):
        store.save(of(name, canceled), {}, "s", clock())
    planfixes["a"].canceled = "Cancelled"
    send_all(courier_of(store, planfixes, clock))
    assert {name: store.facts.get(f"canceled_spelling {name}") for name in ("a", "b")} == {
        "a": "Cancelled",
        "b": "Canceled",
    }


def test_what_a_company_that_is_gone_has_waiting_is_kept(
    store: Store, planfixes: dict[str, Planfix], clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gone", "a"):
        store.save(of(name, GROUP), {}, "s", clock())
    courier = courier_of(store, planfixes, clock)
    send_all(courier)
    assert Queue(store).counts() == {"done": len(GROUP), "waiting": len(GROUP)}
    let_leases_end(store)
    send_all(courier)
    assert capsys.readouterr().out.count("account_unknown") == 1
    # it is back
    courier.serve(courier_of(store, {"gone": planfixes["c"], **planfixes}, clock)._deliveries)
    planfixes["c"].token = "token-of-gone"
    send_all(courier)
    assert Queue(store).counts() == {"done": 2 * len(GROUP)}


def test_a_window_is_late_by_its_own_companys_measure(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    for name in planfixes:
        store.save(of(name, GROUP[:1]), {}, "s", clock())
    clock.now += 100
    ttls = {"a": 60.0, "b": 120.0, "c": 0.0}
    settings = {name: DeliverySettings(popup_ttl=ttl) for name, ttl in ttls.items()}
    send_all(courier_of(store, planfixes, clock, settings))
    assert {name: len(planfix.received) for name, planfix in planfixes.items()} == {
        "a": 0,
        "b": 1,
        "c": 1,
    }
    assert [one.notice.account for one in Queue(store).listed([State.SKIPPED], 5)] == ["a"]


def test_two_couriers_of_many_companies_send_nothing_twice(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    for n in range(10):
        for name in planfixes:
            store.save(of(name, GROUP, f"c{n}"), {}, "s", clock())
    couriers = [courier_of(store, planfixes, clock) for _ in range(2)]
    with at_work(couriers[0]), at_work(couriers[1]):
        for planfix in planfixes.values():
            planfix.wait_for(lambda crm: len(crm.received) >= 80)
    assert Queue(store).counts() == {"done": 240}
    assert [len(planfix.received) for planfix in planfixes.values()] == [80] * 3
    assert [planfix.history.surprises for planfix in planfixes.values()] == [[], [], []]


def test_whatever_befalls_others_one_company_is_told_in_time(
    store: Store, planfixes: dict[str, Planfix], clock: Clock
) -> None:
    """One hangs, one does not know our token, one has a backlog: the fourth is sent to at once."""
    over = Event()
    planfixes["a"].before = lambda _: over.wait(PATIENCE)
    planfixes["b"].token = "another"
    ours = Planfix(token="token-of-d")
    ours.start()
    for n in range(30):
        store.save([ended(name, n) for name in ("a", "b")], {}, "s", clock())
    store.save([ended("c", n) for n in range(300)], {}, "s", clock())
    came: list[int] = []
    ours.before = lambda _: came.append(len(planfixes["c"].received))
    clock.now += 1
    store.save(of("d", GROUP), {}, "s", clock())
    with at_work(courier_of(store, {**planfixes, "d": ours}, clock, most=60)):
        ours.wait_for(lambda crm: len(crm.accepted) == len(GROUP))
        assert planfixes["a"].received == []
        assert len(planfixes["b"].received) <= 16
        over.set()
    assert max(came) < 300
    assert ours.history.surprises == []
    ours.stop()


def test_what_waits_of_companies_is_named_where_there_is_one_company_now(
    store: Store, planfixes: dict[str, Planfix], clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has taken ACCOUNTS_FILE out of the settings."""
    store.save([*GROUP, *of("gone", GROUP)], {}, "s", clock())
    client = api_of(planfixes["a"], "a")
    settings = DeliverySettings()
    courier = only_courier(store, client, URLS.url, settings, lambda *_: Availability(), now=clock)
    with at_work(courier):
        planfixes["a"].wait_for(lambda crm: len(crm.accepted) == len(GROUP))
    assert Queue(store).counts() == {"done": len(GROUP), "waiting": len(GROUP)}
    assert "account=gone" in capsys.readouterr().out.split("account_unknown")[1]
