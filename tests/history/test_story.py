"""Recorded calls told from the records that FreeSWITCH wrote of them."""

from __future__ import annotations

from collections import Counter

import pytest

from fsplanfix.calls.model import Kind, Notice
from fsplanfix.calls.tracker import Tracker
from fsplanfix.history.merge import missed_with_records
from fsplanfix.history.record import Record
from fsplanfix.history.story import events_of

from ..support.accounts import account, positions, restarted
from ..support.cases import for_each
from ..support.records import files, records, simulated
from ..support.traces import NAMES as ALL
from ..support.traces import bodies, events, rules_of, shorthand, told

NAMES = sorted(files())

A_TICK = "of both ends of a bridge a record may have the later tick, and a tick is 20 ms"
RUNS_ON = "a record has the moment in which a leg's application ended, not the hang-up before it"
WRITTEN_TWICE = "`sofia recover` brings the leg back: its second record overwrites the first"
SECONDS_OFF = {
    "in_anonymous": A_TICK,
    "fusionpbx/files_planfix_hangs": A_TICK,
    "fusionpbx/forward_all_mobile": A_TICK,
    "reports/r06c_cure_menu": A_TICK,
    "reports/r12a_recording_follows_blind": A_TICK,
    "reports/r20a_standing_leg": A_TICK,
    "reports/r31a_sofia_recover": WRITTEN_TWICE,
    "vanilla/fifo_agent_stays": A_TICK,
    "vanilla/max_duration": A_TICK,
    "vanilla/meta_att_xfer_client_leaves": RUNS_ON,
    "vanilla/meta_dx_client_leaves": RUNS_ON,
    "vanilla/out_next_client_on_same_leg": A_TICK,
    "vanilla/uuid_dual_transfer": A_TICK,
}
"""Talks whose seconds no record knows exactly: 0.98 s and 1.00 s are 0 and 1 whole seconds."""

BY_COMMAND = "a file that another program began by `uuid_record` stands in no record"
UNKNOWN_FILES = {
    "reports/r31a_sofia_recover": WRITTEN_TWICE,
    "vanilla/uuid_record_first_talk_only": BY_COMMAND,
}
"""Calls whose recordings no record knows."""

Ends = dict[tuple[str, str, str, int], tuple[object, ...]]


def ends(notices: list[Notice], name: str, but: tuple[str, ...] = ()) -> Ends:
    """What the history will show: every COMPLETED and every recording, by its key."""
    found: Ends = {}
    for n in notices:
        if n.kind is Kind.COMPLETED or (n.kind is Kind.RECORD and "recordings" not in but):
            seconds = 0 if name in SECONDS_OFF else n.duration
            is_recorded = not but and n.is_recorded
            file = "" if but else n.recording
            told_of = (n.type, n.phone, n.diversion, n.status, seconds, is_recorded, file)
            found[n.callid, n.ext, n.kind.value, n.ordinal] = (*told_of, *sorted(n.data.items()))
    return found


@pytest.mark.parametrize("kind", ["json", "xml"])
@for_each(NAMES)
def test_a_call_that_nobody_heard_is_told_as_if_it_had_been(name: str, kind: str) -> None:
    live = told(events(name), rules_of(name))
    from_records = told(events_of(records(name, kind)), rules_of(name))
    assert ends(from_records, name) == ends(live, name)

    # phones that began to ring in the same tick may change places
    ours, theirs = shorthand(from_records), shorthand(live)
    assert {c: sorted(t) for c, t in ours.items()} == {c: sorted(t) for c, t in theirs.items()}


@for_each(ALL)
def test_every_recorded_call_can_be_told_from_its_records(name: str) -> None:
    """The records are those of the simulator, which the real ones of `lab` were compared with."""
    but = ("recordings", UNKNOWN_FILES[name]) if name in UNKNOWN_FILES else ()
    live, written = told(events(name), rules_of(name)), simulated(name)
    from_records = told(events_of(written), rules_of(name))
    assert ends(from_records, name, but) == ends(live, name, but)


@pytest.mark.no_cover
@for_each(NAMES)
def test_the_simulators_records_say_what_the_real_ones_say(name: str) -> None:
    ours = told(events_of(simulated(name)), rules_of(name))
    assert ends(ours, name) == ends(told(events_of(records(name)), rules_of(name)), name)


@pytest.mark.no_cover
@for_each(NAMES)
def test_the_order_in_which_records_are_read_does_not_matter(name: str) -> None:
    one = told(events_of(records(name)), rules_of(name))
    other = told(events_of([*records(name), *records(name)][::-1]), rules_of(name))
    assert ends(one, name) == ends(other, name)


STILL_RECORDED = "which file runs on a live leg stands in no account of FreeSWITCH's"
BUT = {
    "attended_transfer": ("is_recorded", STILL_RECORDED),
    "blind_transfer_answered": ("is_recorded", STILL_RECORDED),
    "blind_transfer_no_answer": ("is_recorded", STILL_RECORDED),
    "parked_and_retrieved": ("is_recorded", STILL_RECORDED),
}
"""Of a call whose beginning nobody heard and which goes on: a talk that had ended by then may have
been recorded."""


def resumed(
    name: str, cut: int, resume: int, is_restarted: bool, known: tuple[Record, ...]
) -> list[Notice] | None:
    """Everything told of a call of which the events from `cut` to `resume` were not heard.

    None if a leg is hanging up at that moment: it has neither an account nor a record then, for the
    20 ms that it takes (docs/call-rules.md, rule 19).
    """
    stream, where = events(name), positions(name)
    tracker = Tracker(rules_of(name))
    said = [n for event in stream[:cut] for n in tracker.feed(event)]
    if is_restarted:
        tracker = restarted(tracker)

    position = where[resume] if resume < len(where) else len(bodies(name))
    dumps = account(name, position)
    if any("Call-Direction" not in dump for dump in dumps):
        return None

    over = {e.leg for e in stream[:resume] if e.name == "CHANNEL_HANGUP_COMPLETE"}
    written = [record for record in known if record.uuid in over]
    for event in missed_with_records(tracker, dumps, (), written):
        said += tracker.feed(event)
    said += [n for event in stream[resume:] for n in tracker.feed(event)]
    assert not tracker.calls
    return said


def assert_nothing_twice(said: list[Notice]) -> None:
    keys = Counter((n.callid, n.ext, n.kind, n.ordinal) for n in said)
    assert [key for key, times in keys.items() if times > 1] == []


@pytest.mark.no_cover
@pytest.mark.parametrize("is_restarted", [False, True], ids=["reconnected", "restarted"])
@pytest.mark.parametrize("name", NAMES)
def test_a_call_whose_end_nobody_heard_gets_its_true_end(name: str, is_restarted: bool) -> None:
    whole = ends(told(events(name), rules_of(name)), name)
    for cut in range(len(events(name)) + 1):
        said = resumed(name, cut, len(events(name)), is_restarted, records(name))
        assert said is not None
        assert_nothing_twice(said)
        assert ends(said, name) == whole, cut


@pytest.mark.no_cover
@pytest.mark.parametrize("is_restarted", [False, True], ids=["reconnected", "restarted"])
@pytest.mark.parametrize("name", NAMES)
def test_a_call_of_which_any_part_was_not_heard_ends_as_it_did(
    name: str, is_restarted: bool
) -> None:
    stream, but = events(name), BUT.get(name, ())
    whole = ends(told(stream, rules_of(name)), name, but)
    for cut in range(len(stream) + 1):
        middle = (cut + len(stream)) // 2
        for resume in range(len(stream)) if not cut else {cut, middle}:
            said = resumed(name, cut, resume, is_restarted, records(name))
            if said is None:
                continue
            assert_nothing_twice(said)
            assert ends(said, name, but) == whole, (cut, resume)
