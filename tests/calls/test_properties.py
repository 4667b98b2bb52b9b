"""What holds whatever happens, on events that no real switch would think of."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsplanfix.calls.model import Kind, Notice, Rules, Status, Windows

from ..support.scene import Scene
from ..support.traces import assert_every_part_ends_once

SLOW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

CLIENTS = {"A": "79161234567", "X": "79039876543"}
LOGINS = {"E": "101", "F": "102", "H": "door", "J": "123456"}
PHONES = {"B": "101", "C": "102", "D": "101"}
OUTSIDE = {"M": "79260000007", "N": "79161234567", "O": "79039876543"}
GLUE = {"L": "K", "K": "L"}
LEGS = [*CLIENTS, *LOGINS, *PHONES, *OUTSIDE, *GLUE]
EXTS = {**LOGINS, **PHONES, **OUTSIDE}


class Stage(Scene):
    """A scene that keeps what is true of each leg, to hold the notices against it."""

    def __init__(self, windows: Windows, known: frozenset[str]) -> None:
        super().__init__(Rules(windows=windows))
        self.known = known
        self.up: set[str] = set()
        self.hung: set[str] = set()
        self.answered_at: dict[str, int] = {}
        self.hung_at: dict[str, int] = {}

    def create(self, leg: str, parent: str) -> None:
        if leg in self.up:
            return
        known = {"variable_planfix_known": "true"} if leg in self.known else {}
        if leg in CLIENTS:
            self.client(leg, CLIENTS[leg], Caller__Channel__Created__Time=str(self.now), **known)
        elif leg in LOGINS:
            created = str(self.now)
            self.employee(leg, LOGINS[leg], "79161234567", Caller__Channel__Created__Time=created)
        elif leg in OUTSIDE:
            self.outside(leg, parent, OUTSIDE[leg], Caller__Channel__Created__Time=str(self.now))
        else:
            pair = {"variable_other_loopback_leg_uuid": GLUE.get(leg, "")}
            glue = {"Channel__Name": "loopback/x", **pair} if leg in GLUE else {}
            user = PHONES.get(leg, "")
            created = str(self.now)
            self.phone(leg, user, parent, Caller__Channel__Created__Time=created, **glue, **known)
        self.up.add(leg)
        self.hung.discard(leg)

    def answer(self, leg: str) -> None:
        if leg in self.up - self.hung:
            self.answers(leg)
            self.answered_at.setdefault(leg, self.now)

    def connect(self, one: str, other: str) -> None:
        if one == other or not {one, other} <= self.up - self.hung:
            return
        self.event(
            "CHANNEL_BRIDGE",
            one,
            Other__Leg__Unique__ID=other,
            Caller__Channel__Answered__Time=str(self.answered_at.get(one, 0)),
            Other__Leg__Channel__Answered__Time=str(self.answered_at.get(other, 0)),
        )

    def hang_up(self, leg: str) -> None:
        if leg in self.up - self.hung:
            self.hangs_up(leg)
            self.hung.add(leg)
            self.hung_at[leg] = self.now

    def finish(self, leg: str) -> None:
        self.hang_up(leg)
        if leg in self.up:
            self.torn_down(leg)
            self.up.discard(leg)


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    known = draw(st.frozensets(st.sampled_from([*CLIENTS, *PHONES])))
    stage = Stage(draw(st.sampled_from(Windows)), known)
    legs = st.sampled_from(LEGS)
    for _ in range(draw(st.integers(1, 60))):
        what, one, other = draw(st.integers(0, 9)), draw(legs), draw(legs)
        if what <= 2:
            stage.create(one, other)
        elif what == 3:
            stage.rings(one)
        elif what == 4:
            stage.answer(one)
        elif what <= 6:
            stage.connect(one, other)
        elif what == 7:
            stage.unbridge(
                one, **draw(st.sampled_from([{}, {"variable_att_xfer_kill_uuid": other}]))
            )
        elif what == 8:
            stage.hang_up(one)
        else:
            stage.finish(one)
        stage.now += draw(st.integers(0, 5))
    for leg in draw(st.permutations(LEGS)):
        stage.finish(leg)
    return stage


def of_calls(stage: Stage) -> dict[str, list[Notice]]:
    calls: dict[str, list[Notice]] = defaultdict(list)
    for n in stage.notices:
        calls[n.callid].append(n)
    return calls


def legs_of(ext: str) -> list[str]:
    return [leg for leg, shown in EXTS.items() if shown == ext]


@SLOW
@given(stages())
def test_every_part_ends_once_and_nothing_stays(stage: Stage) -> None:
    assert not stage.tracker.calls
    assert not stage.tracker.book.legs
    assert_every_part_ends_once(stage.notices)
    for calls in of_calls(stage).values():
        assert [n.position for n in calls] == list(range(1, len(calls) + 1))


@SLOW
@given(stages())
def test_an_unanswered_leg_never_yields_a_success(stage: Stage) -> None:
    for n in stage.notices:
        if n.status is Status.SUCCESS and n.ext:
            assert any(leg in stage.answered_at for leg in legs_of(n.ext)), n


@SLOW
@given(stages())
def test_nobody_talks_longer_than_he_was_there(stage: Stage) -> None:
    for calls in of_calls(stage).values():
        for ext in {n.ext for n in calls if n.status is Status.SUCCESS and n.ext}:
            mine = legs_of(ext)
            answered = min(stage.answered_at[leg] for leg in mine if leg in stage.answered_at)
            gone = max(stage.hung_at[leg] for leg in mine if leg in stage.hung_at)
            assert sum(n.duration for n in calls if n.ext == ext) <= gone - answered


@SLOW
@given(stages())
def test_a_login_never_becomes_a_phone(stage: Stage) -> None:
    assert not {n.phone for n in stage.notices} & {*LOGINS.values(), *PHONES.values(), "anonymous"}


@SLOW
@given(stages())
def test_nobody_is_both_client_and_employee_of_a_call(stage: Stage) -> None:
    for calls in of_calls(stage).values():
        assert not {n.phone for n in calls} & {n.ext for n in calls}


@SLOW
@given(stages())
def test_an_answer_closes_at_once_what_rings_for_others(stage: Stage) -> None:
    for calls in of_calls(stage).values():
        ringing: set[str] = set()
        closing: set[str] = set()
        for n in calls:
            if closing:
                assert n.status is Status.CANCELED
                closing.remove(n.ext)
            elif n.kind is Kind.INCOMING:
                ringing.add(n.ext)
            elif n.kind is Kind.ACCEPTED:
                closing, ringing = ringing - {n.ext}, set()
            else:
                ringing.discard(n.ext)
        assert not closing
