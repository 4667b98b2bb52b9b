"""The call detail records of the recorded calls: FreeSWITCH's own of those in `lab`, and those that
the simulator writes of any."""

from __future__ import annotations

from functools import cache
from zipfile import ZipFile

from fsplanfix.history.record import Record, read_record
from fsplanfix.simulators.playback import Step
from fsplanfix.simulators.records import Records

from .traces import TRACES, bodies


@cache
def files() -> dict[str, dict[str, bytes]]:
    """The files by the call's name and their own: NAME -> KIND/FILE -> content."""
    found: dict[str, dict[str, bytes]] = {}
    with ZipFile(TRACES / "lab" / "cdr.zip") as packed:
        for path in packed.namelist():
            name, _, file = path.partition("/")
            found.setdefault(name, {})[file] = packed.read(path)
    return found


@cache
def records(name: str, kind: str = "json") -> tuple[Record, ...]:
    return tuple(
        read_record(raw) for file, raw in files()[name].items() if file.startswith(f"{kind}/")
    )


@cache
def simulated(name: str) -> tuple[Record, ...]:
    writer = Records()
    written = (writer.follow(Step(0.0, body.decode())) for body in bodies(name))
    return tuple(read_record(file[1].encode()) for file in written if file is not None)
