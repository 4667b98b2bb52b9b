"""A minute of `make chaos`: the full run takes longer and also waits for the faults that heal after 15 s and more."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.clock import Shift
from chaos.ledger import Claim, Ledger
from chaos.stage import Stage
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.planfix import Received

from .support.outbox import FIRST, claim, settle
from .support.service import PATIENCE

pytestmark = pytest.mark.no_cover


@pytest.mark.long
def test_a_minute_of_faults_loses_nothing_doubles_nothing_and_keeps_the_order() -> None:
    command = [sys.executable, "-m", "chaos", "--calls", "150", "--quick", "--seed", "1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(SQLite|PostgreSQL)$", done.stdout, re.MULTILINE) == [
        "SQLite",
        "PostgreSQL",
    ]
    assert (
        re.findall(
            r"^  (?:calls untold|lost|doubled|out of order|ended unasked) +(\d+)",
            done.stdout,
            re.MULTILINE,
        )
        == ["0"] * 10
    )
    assert done.stdout.startswith("seed 1\n")
    for group in ("workers", "links", "Planfix", "store", "clocks"):
        assert len(set(re.findall(rf"^    {group} +(\w.*?)  ", done.stdout, re.MULTILINE))) > 1
    assert all(
        int(calls) == 150 for calls in re.findall(r"^  calls +(\d+)", done.stdout, re.MULTILINE)
    )


@pytest.mark.long
def test_what_befalls_a_third_of_the_companies_is_told_to_nobody_else() -> None:
    """How long the others wait is judged by `make chaos`: a busy machine delays them, too."""
    command = [sys.executable, "-m", "chaos.companies", "--calls", "60", "--database", "SQLite"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    figures = re.findall(r"^  (calls|lost|doubled|leaked) +(\d+)", done.stdout, re.MULTILINE)
    once = [("calls", "60"), ("lost", "0"), ("doubled", "0"), ("leaked", "0")]
    assert figures == [*once, *once], done.stdout + done.stderr
    assert len(re.findall(r"^    \w.*? +1$", done.stdout, re.MULTILINE)) == 7


def test_the_workers_clocks_are_off_and_jump(tmp_path: Path) -> None:
    shift = Shift(tmp_path / "clock")
    show = "import time; print(time.time(), time.time_ns(), flush=True); input()"
    program = (
        f"from chaos.clock import shift_time; shift_time({str(shift.file)!r})\n"
        f"for _ in range(2): exec({show!r})"
    )
    shift.set(1e9)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seconds in (1e9, -1e9):
            shift.set(seconds)
            process.stdin.write("\n" * (seconds < 0))
            process.stdin.flush()
            found, nanoseconds = map(float, process.stdout.readline().split())
            assert found == pytest.approx(time.time() + seconds, abs=1e6)
            assert nanoseconds / 1e9 == pytest.approx(found, abs=1e6)
        process.stdin.write("\n")


def test_a_double_is_excused_only_for_the_worker_that_could_not_note_the_answer() -> None:
    fields = {"callid": "c1", "cmd": "event"}
    first = Received(fields, 200, came=100.0, at=101.0)
    mine, others = Claim(1, "mine", 99.9), Claim(1, "others", 120.0)
    stage = Stage.__new__(Stage)
    stage.kept = {}
    stage._senders = {id(fields): 1}
    for silent, turns, is_excused in (
        # however late it was killed, if it had not gone on
        ([(1, 101.5, 101.6)], (), True),
        ([(1, 115.0, 115.1)], (), True),
        ([(1, 115.0, 115.1)], (105.0,), True),
        ([(1, 115.0, 115.1)], (105.0, 106.0), False),
        # what it did after somebody else had taken the notice over says nothing
        ([(1, 105.0, 120.0)], (121.0, 122.0), True),
        # another worker, the one before it, or not before somebody else had taken over
        ([(0, 101.5, 102.0)], (), False),
        ([(1, 99.0, 99.1)], (), False),
        ([(1, 121.0, 121.1)], (), False),
        ([], (), False),
    ):
        stage.silent, stage.ledger = silent, Ledger.__new__(Ledger)
        stage.ledger._turns = {"mine": [99.9, *turns]}
        assert stage._was_not_written_down(first, mine, others) is is_excused, (silent, turns)


def test_a_double_is_excused_if_the_worker_kept_the_answer_in_a_file(tmp_path: Path) -> None:
    fields = {"callid": "c1", "cmd": "event"}
    first = Received(fields, 200, came=100.0, at=101.0)
    stage = Stage.__new__(Stage)
    stage._senders, stage.silent, stage.ledger = {id(fields): 1}, [], Ledger(Store("sqlite://"))
    stage.database, stage._logs = "SQLite", tmp_path
    for kept, is_excused in (("2,1", True), ("2", False), ("12", False)):
        log = (
            f"level=error event=answers_kept count=1 notices={kept} callids=c1\nevent=x notices=1\n"
        )
        (tmp_path / "SQLite-1.log").write_text(log)
        stage.kept = {1: stage._answers_kept(1)}
        claims = Claim(1, "mine", 99.9), Claim(1, "others", 120.0)
        assert stage._was_not_written_down(first, *claims) is is_excused


def test_the_database_itself_notes_who_claims_what(store: Store) -> None:
    ledger = Ledger(store)
    ledger.open()
    store.save([FIRST], {}, "s", now=1.0)
    (queued,) = claim(store, 9, 2.0, "me")
    settle(store, queued, State.DONE, 2.0)
    ledger.read()
    fields = {"callid": FIRST.callid, "ext": FIRST.ext, "event": FIRST.kind.value}
    found = ledger.claim_behind(fields, time.time())
    assert found is not None
    assert (found.notice, found.owner) == (queued.id, "me")
    assert found.at == pytest.approx(time.time(), abs=PATIENCE)
    assert ledger.claim_behind(fields, found.at - 1.0) is None
    assert ledger.claim_behind(fields | {"ext": "999"}, time.time()) is None


def test_requests_with_the_same_fields_are_told_apart_by_what_was_claimed() -> None:
    """A colleague who is rung twice in a call is told of twice with the same fields."""
    ledger = Ledger(Store("sqlite://"))
    for notice, at in ((1, 10.0), (2, 20.0), (2, 40.0)):
        ledger.note(Claim(notice, "me", at), "c1", "101", "INCOMING")
    fields = {"callid": "c1", "ext": "101", "event": "INCOMING"}
    behind = [ledger.claim_behind(fields, came) for came in (10.5, 20.5, 40.5)]
    assert [found and found.notice for found in behind] == [1, 2, 2]
