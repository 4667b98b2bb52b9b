"""A minute of `make chaos`: the full run takes longer and also waits for the faults that heal after 15 s and more."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.clock import Shift
from chaos.stage import Stage
from fsplanfix.simulators.planfix import Received

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
    for silent, is_excused in (
        ([(1, 101.5, 102.0)], True),
        ([(0, 101.5, 102.0)], False),
        ([(1, 99.0, 99.9)], False),
        ([(1, 103.0, 104.0)], False),
    ):
        stage = Stage.__new__(Stage)
        stage._senders, stage.silent, stage.full = {id(fields): 1}, silent, []
        assert stage._was_not_written_down(first) is is_excused
    stage.silent, stage.full = [(1, 103.0, 104.0)], [(100.0, 103.0)]
    assert stage._was_not_written_down(first)
