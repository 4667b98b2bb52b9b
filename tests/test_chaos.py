"""A minute of `make chaos`: the full run takes longer and also waits for the faults that heal after 45 s and more."""

import re
import subprocess
import sys


def test_a_minute_of_faults_loses_nothing_doubles_nothing_and_keeps_the_order() -> None:
    command = [sys.executable, "-m", "chaos", "--calls", "150", "--quick", "--seed", "1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(SQLite|PostgreSQL)$", done.stdout, re.MULTILINE) == [
        "SQLite",
        "PostgreSQL",
    ]
    assert (
        re.findall(r"^  (?:lost|doubled|out of order) +(\d+)", done.stdout, re.MULTILINE)
        == ["0"] * 6
    )
    assert all(
        int(calls) == 150 for calls in re.findall(r"^  calls +(\d+)", done.stdout, re.MULTILINE)
    )
