"""A person is told of troubles by one worker, once each, also across starts."""

import dataclasses
import json
from collections.abc import Mapping

import pytest

from fsplanfix.alerts.book import PAUSE, Alert
from fsplanfix.calls.model import Kind, Notice
from fsplanfix.errors import StoreError
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Outcome, Places
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.standing import DIFFERENCES
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.trouble import BUCKET_PROBLEM, FAILS_FOR, NOT_SENT_WITHIN
from fsplanfix.planfix.pairing import Partner
from fsplanfix.service.alarms import AGAIN_AFTER, BEGINS_AFTER, LEASE, STORE_BEGINS_AFTER, Alarms

from ..support.outbox import FIRST, ME, claim, notice

SERVER = "127.0.0.1:8021"
PARTNER = Partner("https://example.planfix.com/tel/api", "planfix-token")


class Machine:
    """What the workers of a test share: the time, and what a person was told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.passed = 0.0
        self.told: list[Alert] = []
        self.problem = ""
        self.tries = 0
        self._began = store.now()

    def now(self) -> float:
        return self._began + self.passed

    def send(self, alert: Alert) -> Mapping[str, str]:
        self.tries += 1
        if not self.problem:
            self.told.append(alert)
        return {"ALERT_COMMAND": self.problem}

    def steady(self) -> float:
        return self.passed

    def lines(self) -> list[str]:
        """What was told since the last question, without the times."""
        lines = [
            "; ".join(
                ("" if change.until is None else "over: ") + name
                for name, change in alert.changes.items()
            )
            for alert in self.told
        ]
        self.told.clear()
        return lines


class Watch:
    """A worker that looks for troubles. linked: whether FreeSWITCH is."""

    def __init__(self, machine: Machine) -> None:
        self.linked = True
        self.partner: Partner | None = PARTNER
        self.machine = machine
        self.alarms = Alarms(
            machine.store,
            lambda: {SERVER: self.linked},
            lambda: {"default": self.partner},
            machine.send,
            "pbx1",
            machine.now,
            machine.steady,
        )

    def look(self, after: float = 0.0) -> None:
        self.machine.passed += after
        self.alarms.step()

    def look_for(self, seconds: float) -> None:
        """Look every five seconds, as the service does."""
        for _ in range(int(seconds / 5)):
            self.look(after=5)


@pytest.fixture
def machine(store: Store) -> Machine:
    return Machine(store)


@pytest.fixture
def watch(machine: Machine) -> Watch:
    return Watch(machine)


def end(machine: Machine, made: Notice, state: State, answer: str = "") -> None:
    """Put a notice into the store and end it."""
    store, now = machine.store, machine.now()
    store.save([made], {}, SERVER, now)
    (queued,) = claim(store, 1, now, ME)
    Queue(store).settle_and_claim([Outcome(queued, state, answer)], Places(0), now, ME)


def recording(callid: str) -> Notice:
    made = notice(Kind.RECORD, "", 1, callid)
    return dataclasses.replace(made, recording="/var/79161234567.wav")


def test_a_link_that_is_lost_for_a_minute_is_told_once_and_so_is_its_return(
    machine: Machine, watch: Watch
) -> None:
    watch.look()
    watch.linked = False
    watch.look_for(BEGINS_AFTER - 5)
    assert machine.lines() == []
    watch.look_for(PAUSE * 2)
    assert machine.lines() == [f"link {SERVER}"]
    watch.linked = True
    watch.look_for(PAUSE * 2)
    assert machine.lines() == [f"over: link {SERVER}"]


def test_a_start_repeats_no_alarm_that_is_still_on(machine: Machine, watch: Watch) -> None:
    watch.linked = False
    watch.look_for(BEGINS_AFTER + 10)
    assert machine.lines() == [f"link {SERVER}"]
    for pause in (5.0, 10_000.0):
        machine.passed += pause
        anew = Watch(machine)
        anew.linked = False
        anew.look_for(2 * PAUSE)
        assert machine.lines() == []
    anew.linked = True
    anew.look()
    assert machine.lines() == [f"over: link {SERVER}"]


def test_a_start_after_a_long_pause_has_time_to_link(machine: Machine, watch: Watch) -> None:
    watch.look()
    machine.passed += 10_000
    anew = Watch(machine)
    anew.linked = False
    anew.look_for(BEGINS_AFTER - 5)
    anew.linked = True
    anew.look_for(PAUSE)
    assert machine.lines() == []


def test_one_of_several_workers_tells_and_another_takes_over(
    machine: Machine, watch: Watch
) -> None:
    other = Watch(machine)
    for one in (watch, other):
        one.look()
    machine.store.facts.set("unauthorized", "1")
    for _ in range(20):
        watch.look(after=5)
        other.look()
    assert machine.lines() == ["token"]
    # the first is gone: its turn ends by itself
    machine.store.facts.drop("unauthorized")
    other.look(after=PAUSE + LEASE)
    assert machine.lines() == ["over: token"]


def test_what_any_worker_is_linked_to_is_linked(machine: Machine, watch: Watch) -> None:
    other = Watch(machine)
    watch.linked = False
    for _ in range(100):
        watch.look(after=5)
        other.look()
    assert machine.lines() == []


def test_a_freeswitch_that_nobody_watches_any_more_raises_no_alarm(
    machine: Machine, watch: Watch
) -> None:
    watch.linked = False
    watch.look_for(2 * BEGINS_AFTER)
    assert machine.lines() == [f"link {SERVER}"]
    watch.alarms._links = dict  # it was taken out of the settings
    watch.look_for(2 * PAUSE)
    assert machine.lines() == [f"over: link {SERVER}"]


def test_planfix_that_accepts_nothing_is_told_until_it_accepts_something(
    machine: Machine, watch: Watch
) -> None:
    store = machine.store
    store.save([FIRST], {}, SERVER, machine.now())
    (queued,) = claim(store, 1, machine.now(), ME)
    Queue(store).try_again(queued, machine.now() + 1000, "503", None, ME)
    watch.look_for(FAILS_FOR - 5)
    assert machine.lines() == []
    watch.look_for(60)
    assert machine.lines() == ["planfix"]
    # the first still waits for its next try when another has been accepted
    end(machine, notice(Kind.INCOMING, "101", 1, "c2"), State.DONE)
    watch.look_for(2 * PAUSE)
    assert machine.lines() == ["over: planfix"]


def test_rejected_notices_are_an_alarm_until_a_person_has_decided(
    machine: Machine, watch: Watch
) -> None:
    end(machine, FIRST, State.REJECTED, "400 79161234567")
    watch.look()
    (alert,) = machine.told
    assert "1 notices were rejected" in alert.line
    assert "79161234567" not in str(alert)
    assert "planfix-token" not in str(alert)
    (rejected,) = Queue(machine.store).listed([State.REJECTED], 10)
    Queue(machine.store).drop([rejected.id])
    watch.look_for(PAUSE + 5)
    assert machine.lines() == ["rejected", "over: rejected"]


def test_recordings_that_can_never_be_linked_are_an_alarm_for_an_hour(
    machine: Machine, watch: Watch
) -> None:
    end(machine, recording("c1"), State.SKIPPED, "not sent: the file is empty")
    end(machine, recording("c2"), State.DONE)
    watch.look()
    assert machine.lines() == []
    outside = "not sent: the file lies outside RECORDINGS_DIR"
    end(machine, recording("c3"), State.SKIPPED, outside)
    watch.look()
    (alert,) = machine.told
    assert "1 recordings of the last hour were not sent" in alert.line
    watch.look(after=NOT_SENT_WITHIN + 60)
    assert machine.lines() == ["recordings", "over: recordings"]


def test_recordings_that_wait_for_a_bucket_are_an_alarm(machine: Machine, watch: Watch) -> None:
    problem = {"since": machine.now(), "problem": "the bucket answered 503"}
    machine.store.facts.set(BUCKET_PROBLEM, json.dumps(problem))
    watch.look_for(FAILS_FOR - 5)
    assert machine.lines() == []
    watch.look_for(10)
    machine.store.facts.set(BUCKET_PROBLEM, "")
    watch.look_for(PAUSE)
    assert machine.lines() == ["bucket", "over: bucket"]


def test_another_key_in_planfix_and_another_planfix_are_alarms(
    machine: Machine, watch: Watch
) -> None:
    watch.look()
    machine.store.facts.set(DIFFERENCES, '["former key"]')
    watch.look()
    assert machine.lines() == []
    machine.store.facts.set(DIFFERENCES, '["key", "address"]')
    watch.look()
    machine.store.facts.set(DIFFERENCES, "")
    watch.partner = Partner("https://other.planfix.com/tel/api?token=a-secret", "planfix-token")
    watch.look(after=PAUSE + 1)
    assert "another Planfix is paired: other.planfix.com (" in machine.told[1].line
    assert "a-secret" not in str(machine.told)
    assert machine.lines() == ["pairing", "paired; over: pairing"]
    watch.partner = None
    watch.look_for(2 * PAUSE)
    assert machine.lines() == ["unpaired"]
    watch.partner = PARTNER
    watch.look_for(2 * PAUSE)
    assert machine.lines() == ["paired; over: unpaired"]


def test_a_store_that_does_not_work_is_told_by_the_one_who_told_before(
    machine: Machine, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Watch(machine)
    watch.look(after=STORE_BEGINS_AFTER)
    other.look()
    with monkeypatch.context() as patched:
        for name in ("transaction", "write"):
            patched.setattr(machine.store, name, _does_not_answer)
        for _ in range(100):
            watch.look(after=5)
            other.look()
        assert machine.lines() == ["store"]
    for _ in range(100):
        watch.look(after=5)
        other.look()
    assert machine.lines() == ["over: store"]


def test_a_store_that_was_away_for_one_worker_alone_is_told_as_over_by_another(
    machine: Machine, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Watch(machine)
    watch.look(after=STORE_BEGINS_AFTER)
    with monkeypatch.context() as patched:
        for name in ("transaction", "write"):
            patched.setattr(machine.store, name, _does_not_answer)
        watch.look_for(60)
    assert machine.lines() == ["store"]
    other.look(after=LEASE)
    watch.look()
    other.look(after=PAUSE)
    assert machine.lines() == ["over: store"]


def _does_not_answer(*_: object, **__: object) -> None:
    raise StoreError("The database does not answer.")


def test_an_alert_that_nobody_took_is_sent_again(machine: Machine, watch: Watch) -> None:
    machine.problem = "it answered 500"
    machine.store.facts.set("unauthorized", "1")
    watch.look_for(AGAIN_AFTER - 5)
    assert machine.tries == 1
    machine.problem = ""
    watch.look_for(PAUSE)
    assert machine.lines() == ["token"]


def test_each_company_has_alarms_of_its_own(machine: Machine, watch: Watch) -> None:
    machine.store.facts.set("unauthorized romashka", "1")
    watch.look()
    (alert,) = machine.told
    assert "Planfix does not know our token [romashka]" in alert.line
    machine.store.facts.set("unauthorized", "1")
    machine.store.facts.drop("unauthorized romashka")
    watch.look_for(PAUSE + 5)
    assert machine.lines() == ["token romashka", "token; over: token romashka"]
