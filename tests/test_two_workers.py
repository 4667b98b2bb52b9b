"""Two workers that follow one FreeSWITCH and share a store, cut off and killed at any moment."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsplanfix.calls.model import Kind, Notice
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.records import notice_json
from fsplanfix.outbox.schema import facts, metadata
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.forms import build_form, sent
from fsplanfix.simulators.planfix import History

from .support.accounts import accounts, positions
from .support.traces import NAMES, bodies, events, rules_of, told
from .support.worker import Worker

SLOW = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])


ALIKE = (("127.0.0.1:8021", "127.0.0.1:8021"), "")
"""How each worker spells the address of FreeSWITCH, and its Core-UUID, "" if it does not tell."""

OTHERWISE = (("127.0.0.1:8021", "localhost:8021"), "00000000-0000-0000-0000-000000000001")


class Office:
    """Workers beside one FreeSWITCH that plays a trace."""

    def __init__(self, name: str, store: Store, known_as: tuple[tuple[str, str], str]) -> None:
        self.name = name
        self.servers, self.core = known_as
        self.store = store
        self.stream = events(name)
        self.where = [*positions(name), len(bodies(name))]
        self.workers: list[Worker | None] = [None, None]
        self.all_workers: list[Worker] = []
        self.linked = [False, False]

    def bring_up(self, which: int, at: int) -> None:
        """A worker starts, or its link comes back: it asks FreeSWITCH what goes on."""
        worker = self.workers[which] or Worker(self.store, rules_of(self.name), self.servers[which])
        if worker is not self.workers[which]:
            self.all_workers.append(worker)
        self.workers[which], self.linked[which] = worker, True
        worker.relink(accounts(self.name)[self.where[at]], self.core)

    def cut(self, which: int) -> None:
        self.linked[which] = False

    def kill(self, which: int) -> None:
        self.workers[which], self.linked[which] = None, False

    def play(self, at: int) -> None:
        for worker, linked in zip(self.workers, self.linked, strict=True):
            if worker is not None and linked:
                worker.hear(self.stream[at])

    def close(self) -> None:
        """In the end both are there and FreeSWITCH has no channels any more."""
        for which in (0, 1):
            self.bring_up(which, len(self.stream))

    @property
    def set_aside(self) -> int:
        """How many events and other pieces of work no worker's rules could process."""
        return sum(worker.pipeline.set_aside.count for worker in self.all_workers)

    @property
    def said(self) -> list[Notice]:
        return [
            notice_json.validate_json(written.body)
            for written in Archive(self.store).after(0, 10_000)
        ]


def assert_every_part_has_an_end(said: list[Notice]) -> None:
    begun = {(n.callid, n.ext, n.ordinal) for n in said if n.kind in (Kind.INCOMING, Kind.OUTGOING)}
    ended = {(n.callid, n.ext, n.ordinal) for n in said if n.kind is Kind.COMPLETED}
    assert begun == ended


def assert_nothing_is_told_twice(said: list[Notice], uncut: list[Notice]) -> None:
    """Nobody has more parts of a call, and no call more recordings, than without any fault.

    What two workers say with one key is in the store once (docs/delivery-rules.md, rule 2). A call
    of which nobody heard who took it is told of for nobody (docs/call-rules.md, rule 6).
    """
    with_parties = {notice.callid for notice in said if notice.ext}
    said = [n for n in said if n.ext or n.kind is Kind.RECORD or n.callid in with_parties]
    twice = Counter(map(what_is_told, said)) - Counter(map(what_is_told, uncut))
    assert not twice


def what_is_told(notice: Notice) -> tuple[str, str, str, str]:
    """A window's opening, change or end, or the recording's link; how it ended may be unknown."""
    link = notice.recording if notice.kind is Kind.RECORD else ""
    return notice.callid, notice.ext, notice.kind, link


def assert_the_order_makes_sense(said: list[Notice]) -> None:
    """said: in the order in which a call's notices are sent."""
    history = History()
    for notice in sent(said):
        history.take(build_form(notice, lambda callid, path: path))
    assert history.surprises == []


@pytest.mark.parametrize("known_as", [ALIKE, OTHERWISE], ids=["alike", "otherwise"])
@SLOW
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_no_cut_between_two_workers_leaves_a_part_open_doubles_one_or_changes_the_order(
    known_as: tuple[tuple[str, str], str], data: st.DataObject, name: str
) -> None:
    with TemporaryDirectory(prefix="fsplanfix-") as folder:
        store = Store(f"sqlite:///{folder}/store.db")
        office = Office(name, store, known_as)
        for which in (0, 1):
            office.bring_up(which, 0)
        moments = st.integers(0, len(office.stream))
        faults = data.draw(
            st.lists(st.tuples(moments, st.integers(0, 1), st.sampled_from("cku")), max_size=6)
        )
        for at in range(len(office.stream)):
            for moment, which, fault in faults:
                if moment == at and fault == "c":
                    office.cut(which)
                elif moment == at and fault == "k":
                    office.kill(which)
                elif moment == at:
                    office.bring_up(which, at)
            office.play(at)
        office.close()
        assert office.set_aside == 0
        assert_every_part_has_an_end(office.said)
        assert_nothing_is_told_twice(office.said, told(office.stream, rules_of(name)))
        assert_the_order_makes_sense(office.said)
        store.close()


def test_a_worker_takes_over_a_call_in_which_it_knew_phones_that_are_gone(tmp_path: Path) -> None:
    """One loses its link, the other hears on and dies: every two moments of a call."""
    name = "in_one_no_answer"
    length = len(events(name))
    store = Store(f"sqlite:///{tmp_path}/store.db")
    for cut, killed in combinations(range(1, length), 2):
        office = Office(name, store, ALIKE)
        for which in (0, 1):
            office.bring_up(which, 0)
        for at in range(killed):
            if at == cut:
                office.cut(1)
            office.play(at)
        office.kill(0)
        office.bring_up(1, killed)
        for at in range(killed, length):
            office.play(at)
        office.close()
        assert office.set_aside == 0, (cut, killed)
        assert_every_part_has_an_end(office.said)
        with store.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                if table is not facts:
                    connection.execute(table.delete())
    store.close()
