"""In what order notices may be sent, and what waits for what."""

import dataclasses
from collections.abc import Iterable
from random import Random

import pytest
from sqlalchemy import select

from fsplanfix.calls.model import Kind, Notice, Status
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Places, Queued
from fsplanfix.outbox.schema import State, is_waiting, notices
from fsplanfix.outbox.store import Store

from ..support.outbox import (
    FIRST,
    GROUP,
    HOP,
    ME,
    OFFERS,
    canceled,
    claim,
    notice,
    settle,
    waves,
)
from ..support.traces import NAMES, events, rules_of, told


def test_a_group_call_goes_out_in_five_waves(store: Store) -> None:
    store.save(GROUP, {}, "s", now=1.0)
    assert waves(store) == [
        ["INCOMING 101"],
        ["INCOMING 102", "INCOMING 103"],
        ["ACCEPTED 102"],
        ["COMPLETED 101", "COMPLETED 103", "COMPLETED 102"],
        ["record"],
    ]


@pytest.mark.no_cover
@pytest.mark.parametrize("name", [name for name in NAMES if "transfer" in name or "queue" in name])
def test_what_is_told_of_one_employee_keeps_its_order(store: Store, name: str) -> None:
    every = told(events(name), rules_of(name))
    said = [n for n in every if n.callid == every[0].callid]
    store.save(said, {}, "s", now=1.0)
    sent = [step for wave in waves(store) for step in wave]
    for ext in {n.ext for n in said}:
        mine = [f"{n.kind.value} {n.ext}".strip() for n in said if n.ext == ext]
        assert [step for step in sent if step in mine] == mine


def test_one_employees_order_holds_whoever_numbered_the_notices(store: Store) -> None:
    """A worker that was cut off meets the phones in another order than the one that was not."""
    store.save([notice(Kind.INCOMING, "101", 1), notice(Kind.INCOMING, "102", 5)], {}, "s", now=1.0)
    store.save([notice(Kind.INCOMING, "102", 1), notice(Kind.ACCEPTED, "102", 2)], {}, "s", now=1.0)
    store.save(
        [notice(Kind.COMPLETED, "101", 9), notice(Kind.COMPLETED, "102", 3)], {}, "s", now=1.0
    )
    store.save([notice(Kind.RECORD, "", 4)], {}, "s", now=1.0)
    assert waves(store) == [
        ["INCOMING 101"],
        ["INCOMING 102"],
        ["ACCEPTED 102"],
        ["COMPLETED 101", "COMPLETED 102"],
        ["record"],
    ]


def test_calls_do_not_wait_for_each_other(store: Store) -> None:
    store.save(GROUP, {}, "s", now=1.0)
    (stuck,) = claim(store, 10, 2.0, ME)
    Queue(store).try_again(stuck, due=200.0, answer="500")
    store.save([notice(Kind.INCOMING, "101", 1, callid="c2")], {}, "s", now=2.0)
    assert [q.notice.callid for q in claim(store, 10, 3.0, ME)] == ["c2"]


def test_what_is_under_way_is_not_what_falls_due_next(store: Store) -> None:
    assert Queue(store).settle_and_claim([], Places(0), 2.0, ME).upcoming is None
    store.save([FIRST], {}, "s", now=1.0)
    claim(store, 1, 1.0, ME)
    assert Queue(store).settle_and_claim([], Places(0), 2.0, ME).upcoming is None


def due(store: Store) -> dict[str, float]:
    """When each waiting notice falls due, by kind and ext."""
    with store.transaction() as connection:
        rows = connection.execute(
            select(notices).where(is_waiting(notices)).order_by(notices.c.id)
        ).mappings()
        return {f"{row['kind']} {row['ext']}".strip(): row["due"] for row in rows}


def dues_in_order(store: Store) -> list[float]:
    """When the waiting notices fall due, in the order they were written."""
    query = select(notices.c.due).where(is_waiting(notices)).order_by(notices.c.id)
    with store.transaction() as connection:
        return list(connection.execute(query).scalars())


def test_what_waits_for_a_notice_that_failed_falls_due_no_sooner(store: Store) -> None:
    """Else every turn of a long outage would look at everything that waits."""
    store.save(GROUP[:4], {}, "s", now=1.0)
    Queue(store).try_again(claim(store, 9, 2.0, ME)[0], due=50.0, answer="500")
    assert set(due(store).values()) == {50.0}
    store.save([*GROUP[4:], notice(Kind.INCOMING, "101", 1, callid="c2")], {}, "s", now=3.0)
    assert sorted(due(store).values()) == [3.0, *[50.0] * (len(GROUP) - 1)]
    assert Queue(store).settle_and_claim([], Places(0), 3.0, ME).upcoming == 50.0


def test_one_phones_failure_holds_up_only_what_waits_for_it(store: Store) -> None:
    store.save(GROUP, {}, "s", now=1.0)
    settle(store, claim(store, 9, 2.0, ME)[0], State.DONE, 2.0)
    second, third = claim(store, 9, 2.0, ME)
    Queue(store).try_again(second, due=70.0, answer="500")
    assert due(store) == {
        "INCOMING 102": 70.0,
        "INCOMING 103": 1.0,
        "ACCEPTED 102": 70.0,
        "COMPLETED 101": 70.0,
        "COMPLETED 103": 70.0,
        "COMPLETED 102": 70.0,
        "record": 70.0,
    }
    settle(store, third, State.DONE, 3.0)
    assert waves(store) == [
        ["INCOMING 102"],
        ["ACCEPTED 102"],
        [f"COMPLETED {ext}" for ext in (101, 103, 102)],
        ["record"],
    ]


def test_an_employee_without_a_barrier_holds_up_only_himself_and_the_recording(
    store: Store,
) -> None:
    store.save([GROUP[0], GROUP[1], GROUP[4], GROUP[6], GROUP[7]], {}, "s", now=1.0)
    settle(store, claim(store, 9, 2.0, ME)[0], State.DONE, 2.0)
    first = next(q for q in claim(store, 9, 2.0, ME) if q.notice.ext == "102")
    Queue(store).try_again(first, due=70.0, answer="500")
    assert {name for name, at in due(store).items() if at == 70.0} == {
        "INCOMING 102",
        "COMPLETED 102",
        "record",
    }


# a hop: offers are given up, the next phone rings


def names(found: Iterable[Queued]) -> set[str]:
    return {f"{q.notice.kind.value} {q.notice.ext}".strip() for q in found}


def deliver(store: Store, now: float) -> None:
    """Send what may be sent, once."""
    for queued in claim(store, 100, now, ME):
        settle(store, queued, State.DONE, now)


def test_the_next_window_opens_when_every_offer_before_it_is_cancelled(store: Store) -> None:
    store.save([*OFFERS, *HOP], {}, "s", now=1.0)
    assert waves(store) == [
        ["INCOMING 101"],
        ["INCOMING 102", "INCOMING 103", "COMPLETED 101"],
        ["COMPLETED 102", "COMPLETED 103"],
        ["INCOMING 104"],
    ]


def test_a_whole_group_rung_next_waits_for_the_hop_and_then_opens_at_once(store: Store) -> None:
    ringing = [notice(Kind.INCOMING, ext, n) for n, ext in enumerate(("104", "105", "106"), 4)]
    store.save([*OFFERS[:1], canceled("101", 3), *ringing], {}, "s", now=1.0)
    assert waves(store)[1:] == [["COMPLETED 101"], ["INCOMING 104", "INCOMING 105", "INCOMING 106"]]


def test_a_cancelled_offer_that_fails_holds_up_the_next_window_and_no_other_offer(
    store: Store,
) -> None:
    store.save(OFFERS, {}, "s", now=1.0)
    deliver(store, 1.0)
    deliver(store, 1.0)
    store.save(HOP, {}, "s", now=2.0)
    first, *others = claim(store, 9, 2.0, ME)
    assert names(others) == {"COMPLETED 102", "COMPLETED 103"}
    Queue(store).try_again(first, due=70.0, answer="500")
    assert due(store) == {
        "COMPLETED 101": 70.0,
        "COMPLETED 102": 2.0,
        "COMPLETED 103": 2.0,
        "INCOMING 104": 70.0,
    }
    for queued in others:
        settle(store, queued, State.DONE, 3.0)
    store.save([notice(Kind.ACCEPTED, "104", 8)], {}, "s", now=3.0)
    assert due(store)["ACCEPTED 104"] == 70.0
    assert claim(store, 9, 69.0, ME) == []
    assert waves(store) == [["COMPLETED 101"], ["INCOMING 104"], ["ACCEPTED 104"]]


@pytest.mark.parametrize("became", [State.REJECTED, State.SKIPPED, State.DONE])
def test_a_cancelled_offer_that_is_settled_holds_up_nothing(store: Store, became: State) -> None:
    store.save([*OFFERS[:1], canceled("101", 2), notice(Kind.INCOMING, "102", 3)], {}, "s", now=1.0)
    deliver(store, 1.0)
    (queued,) = claim(store, 9, 1.0, ME)
    settle(store, queued, became, 1.0)
    assert waves(store) == [["INCOMING 102"]]


def test_what_waits_for_a_hop_falls_due_with_the_window_the_hop_waits_for(store: Store) -> None:
    talk = [notice(Kind.ACCEPTED, "104", 8), notice(Kind.COMPLETED, "104", 9)]
    store.save([*OFFERS, *HOP, *talk, notice(Kind.RECORD, "", 10)], {}, "s", now=1.0)
    deliver(store, 1.0)
    second = next(q for q in claim(store, 9, 1.0, ME) if q.notice.ext == "102")
    Queue(store).try_again(second, due=70.0, answer="500")
    assert {name for name, at in due(store).items() if at < 70.0} == {
        "COMPLETED 101",
        "INCOMING 103",
        "COMPLETED 103",
    }


def test_the_losers_of_a_group_hold_up_nothing(store: Store) -> None:
    """Also when the client is handed on before they are told, and within one commit."""
    store.save([*GROUP[:7], notice(Kind.INCOMING, "104", 8)], {}, "s", now=1.0)
    for _ in range(3):
        deliver(store, 1.0)
    loser, *others = claim(store, 9, 1.0, ME)
    assert loser.notice.status is Status.CANCELED
    assert names(others) == {"COMPLETED 103", "COMPLETED 102", "INCOMING 104"}
    Queue(store).try_again(loser, due=70.0, answer="500")
    assert {name for name, at in due(store).items() if at == 70.0} == {"COMPLETED 101"}


def test_a_talk_that_was_handed_on_holds_up_no_window(store: Store) -> None:
    handed_on = [
        notice(Kind.INCOMING, "101", 1),
        notice(Kind.ACCEPTED, "101", 2),
        notice(Kind.COMPLETED, "101", 3, status=Status.SUCCESS),
        notice(Kind.INCOMING, "102", 4),
    ]
    store.save(handed_on, {}, "s", now=1.0)
    assert waves(store)[2:] == [["COMPLETED 101", "INCOMING 102"]]


class Made:
    """A made-up call: what is said of it, and what each notice must wait for (docs/delivery-rules.md, rule 3).

    It says by itself what is a hop, a barrier, a loser: it shares no line with what it tests.
    """

    def __init__(self, random: Random, callid: str) -> None:
        self.said: list[Notice] = []
        self.after: list[set[int]] = []
        self._callid = callid
        self._barriers: set[int] = set()
        self._hops: set[int] = set()
        self._open: list[tuple[str, int]] = []
        self._rung = 0
        self._random = random
        self._ring()
        for _ in range(random.randint(2, 6)):
            random.choice([self._ring, self._hop, self._hop, self._pick_up])()
        self._say(Kind.RECORD, "", 1, set(range(len(self.said))))

    def _say(
        self, kind: Kind, ext: str, ordinal: int, after: set[int], status: Status | None = None
    ) -> int:
        n = len(self.said)
        one = notice(kind, ext, n + 1, self._callid, status)
        self.said.append(dataclasses.replace(one, ordinal=ordinal))
        mine = {before for before in range(n) if self.said[before].ext == ext}
        self.after.append(after | mine | self._barriers)
        return n

    def _ring(self) -> None:
        for _ in range(self._random.randint(1, 3)):
            self._rung += 1
            ext = self._random.choice([str(100 + n) for n in range(6)])
            if ext not in [ringing for ringing, _ in self._open]:
                n = self._say(Kind.INCOMING, ext, self._rung, self._hops)
                self._barriers |= {0} if n == 0 else set()
                self._open.append((ext, self._rung))

    def _cancel(self) -> set[int]:
        ended = {
            self._say(Kind.COMPLETED, ext, ordinal, set(), Status.CANCELED)
            for ext, ordinal in self._open
        }
        self._open = []
        return ended

    def _hop(self) -> None:
        self._hops = self._hops | self._cancel()
        self._ring()

    def _pick_up(self) -> None:
        if not self._open:
            return
        ext, ordinal = self._open.pop(self._random.randrange(len(self._open)))
        self._barriers = self._barriers | {self._say(Kind.ACCEPTED, ext, ordinal, self._hops)}
        self._cancel()
        self._say(Kind.COMPLETED, ext, ordinal, set(), Status.SUCCESS)


def test_made_up_calls_go_out_in_their_order_whatever_fails(store: Store) -> None:
    for seed in range(40):
        random = Random(seed)
        call = Made(random, f"made-{seed}")
        waiting, dues = set(range(len(call.said))), [1.0] * len(call.said)
        store.save(call.said, {}, "s", now=1.0)
        now = 1.0
        while waiting:
            claimed = {q.notice.position - 1: q for q in claim(store, 100, now, ME)}
            free = {n for n in waiting if not call.after[n] & waiting}
            assert set(claimed) == {n for n in free if dues[n] <= now}, (seed, now)
            for n, queued in claimed.items():
                if random.random() < 0.7:
                    settle(
                        store,
                        queued,
                        random.choice([State.DONE, State.DONE, State.REJECTED, State.SKIPPED]),
                        now,
                    )
                    waiting.remove(n)
                    continue
                until = now + random.randint(1, 100)
                Queue(store).try_again(queued, until, "500")
                held = {n}
                for later in sorted(waiting):
                    held |= {later} if call.after[later] & held else set()
                for later in held:
                    dues[later] = max(dues[later], until)
            assert dues_in_order(store) == [dues[n] for n in sorted(waiting)], seed
            now = min((dues[n] for n in waiting if not call.after[n] & waiting), default=now)
