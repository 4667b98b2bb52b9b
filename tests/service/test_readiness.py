"""Whether the service does its work."""

import time
from pathlib import Path

import gevent
import pytest
from gevent.event import AsyncResult, Event

from fsplanfix.calls.model import Rules
from fsplanfix.errors import StoreError
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.api import PlanfixApi
from fsplanfix.planfix.delivery import DeliverySettings
from fsplanfix.recordings.files import Availability
from fsplanfix.service.pipeline import Pipeline
from fsplanfix.service.readiness import LONGEST_STEP, Readiness
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.couriers import only_courier
from ..support.deliveries import told
from ..support.service import PATIENCE, running
from ..support.store_files import cut_off, fill, write_over, written_through
from ..support.traces import events, wanted


class Steady:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def test_a_pipeline_that_is_stuck_does_not_get_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, may_go_on, steady = Event(), Event(), Steady()
    pipeline = Pipeline("127.0.0.1:8021", Rules(), store, lambda: None)
    readiness = Readiness(store, [pipeline], None, steady)

    def stuck(*_: object, **__: object) -> None:
        reached.set()
        may_go_on.wait()

    monkeypatch.setattr(Store, "save", stuck)
    running = gevent.spawn(pipeline.run)
    steady.ahead = 2 * LONGEST_STEP
    assert readiness.gets_on()  # there is nothing to do
    for event in events("in_one_no_answer"):
        pipeline.inbox.on_event(event)
    assert reached.wait(60)
    stands = readiness.gets_on()
    may_go_on.set()
    pipeline.inbox.stop()
    running.join()
    assert not stands


def test_a_courier_that_does_not_look_for_work_does_not_get_on(store: Store) -> None:
    steady = Steady()
    client = PlanfixApi("http://127.0.0.1:1/", "token", concurrency=1)
    courier = only_courier(
        store, client, lambda _, path: path, DeliverySettings(), lambda *_: Availability()
    )
    readiness = Readiness(store, [], courier, steady)
    assert readiness.gets_on()
    steady.ahead = 2 * LONGEST_STEP
    assert not readiness.gets_on()
    client.close()


def test_a_pipeline_whose_own_statement_always_fails_does_not_get_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts can be written all the while: a table is locked, or torn."""
    steady = Steady()
    pipeline = Pipeline("127.0.0.1:8021", Rules(), store, lambda: None)
    readiness = Readiness(store, [pipeline], None, steady)
    tries: AsyncResult[None] = AsyncResult()
    monkeypatch.setattr("fsplanfix.outbox.retry.ASK_AGAIN_AFTER", 0.001)

    def fails(*_: object, **__: object) -> None:
        # the tries go on while the clock does
        steady.ahead += LONGEST_STEP / 2
        if steady.ahead > 3 * LONGEST_STEP:
            tries.set(None)
        raise StoreError("The database does not answer.")

    monkeypatch.setattr(Store, "save", fails)
    running = gevent.spawn(pipeline.run)
    for event in events("in_one_no_answer"):
        pipeline.inbox.on_event(event)
    tries.get(timeout=60)
    assert not readiness.pipeline_gets_on()
    assert not readiness.gets_on()
    # with the store away as a whole, no restart would help
    monkeypatch.setattr(Store, "is_working", False)
    assert readiness.gets_on()
    pipeline.give_up()
    running.join()


def test_a_courier_whose_own_statement_always_fails_does_not_get_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady, tried = Steady(), Event()
    client = PlanfixApi("http://127.0.0.1:1/", "token", concurrency=1)
    courier = only_courier(
        store, client, lambda _, path: path, DeliverySettings(), lambda *_: Availability()
    )

    def fails(*_: object) -> None:
        steady.ahead = 2 * LONGEST_STEP
        tried.set()
        raise StoreError("The database does not answer.")

    monkeypatch.setattr(courier, "step", fails)
    running = gevent.spawn(courier.run)
    assert tried.wait(60)
    gevent.idle()
    assert not Readiness(store, [], courier, steady).courier_gets_on()
    courier.stop()
    running.join()
    client.close()


def test_whether_it_is_ready_is_said_without_asking_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each unasked request to /health/ready made the disk write."""
    client = PlanfixApi("http://127.0.0.1:1/", "token", concurrency=1)
    courier = only_courier(
        store, client, lambda _, path: path, DeliverySettings(), lambda *_: Availability()
    )
    pipeline = Pipeline("127.0.0.1:8021", Rules(), store, lambda: None)
    readiness = Readiness(store, [pipeline], courier)
    monkeypatch.setattr(Store, "transaction", lambda _: pytest.fail("it was asked"))
    assert readiness.store_works()
    assert readiness.gets_on()
    client.close()


def test_a_deleted_store_is_made_anew_and_nothing_is_lost(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """The file is deleted while Planfix is down: what waits is sent all the same."""
    with running(switch, planfix, tmp_path) as service:
        planfix.answers.extend([500] * 3)
        callid = switch.play("group_answered", speed=0)
        planfix.wait_for(lambda crm: crm.asked > 0)
        (tmp_path / "store.db").unlink()
        service.wait_for("store_file_gone")
        service.wait_for("store_file_made_anew")
        planfix.wait_for(
            lambda crm: len(told(crm, callid)) == len(wanted("group_answered")), PATIENCE
        )
        assert service.get("/health/ready").json() == {
            "status": "ready",
            **dict.fromkeys(("freeswitch", "store", "pipeline", "courier"), True),
        }
    assert planfix.history.surprises == []


def test_a_store_without_content_is_not_ready(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """Without any call: the service looks by itself."""
    with running(switch, planfix, tmp_path) as service:
        assert service.get("/health/ready").status_code == 200
        with (tmp_path / "store.db").open("r+b") as file:
            file.truncate(0)
        service.wait_for("store_takes_nothing")
        answer = service.get("/health/ready")
        assert (answer.status_code, answer.json()["store"]) == (503, False)


def test_a_store_that_is_torn_where_nobody_writes_is_not_ready(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        assert service.get("/health/ready").status_code == 200
        at, size = written_through(tmp_path / "store.db", "heard")
        write_over(tmp_path / "store.db", at, bytes(size))
        service.wait_for("store_damaged")
        answer = service.get("/health/ready")
        assert (answer.status_code, answer.json()["store"]) == (503, False)


def test_a_large_store_that_lost_its_end_is_not_ready(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        fill(tmp_path / "store.db", 70)
        assert service.get("/health/ready").status_code == 200
        cut_off(tmp_path / "store.db", 35 << 20)
        service.wait_for("store_damaged")
        answer = service.get("/health/ready")
        assert (answer.status_code, answer.json()["store"]) == (503, False)


def test_damage_that_shows_at_once_does_not_wait_for_the_search_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: AsyncResult[None] = AsyncResult()
    store = Store(f"sqlite:///{tmp_path}/store.db")
    readiness = Readiness(store, [], None)
    monkeypatch.setattr(Store, "look_over", lambda _: Event().wait())
    searching, glancing = gevent.spawn(readiness.look_over), gevent.spawn(readiness.glance)
    glance = Store.glance

    def glance_and_say_so(asked: Store) -> None:
        glance(asked)
        looked.set(None)

    monkeypatch.setattr(Store, "glance", glance_and_say_so)
    fill(tmp_path / "store.db", 8)
    cut_off(tmp_path / "store.db", 4 << 20)
    looked.get(timeout=PATIENCE)
    gevent.killall([searching, glancing])
    assert not readiness.store_works()
    store.close()
