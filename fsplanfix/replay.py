"""Plays recorded calls (shared/freeswitch-facts.md describes the files) through the call rules."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .calls.model import Notice, Rules
from .calls.tracker import Tracker
from .errors import RecordingFileError
from .freeswitch.events import SwitchEvent

LONGEST_LINE = 4 * 1024 * 1024
"""Characters. A real event has 10 kB."""


def read_trace(path: Path) -> Iterator[tuple[float, str]]:
    """Yield (seconds since the start, event body) for each event of a recorded call.

    Raises RecordingFileError with the line that is wrong.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if packed
            else path.open(encoding="utf-8") as lines
        ):
            yield from _read_lines(path, lines)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is not a whole gzip file"
        raise RecordingFileError(f"{path}: cannot be read ({reason}).") from None
    except UnicodeDecodeError:
        raise RecordingFileError(f"{path}: is not a recorded call (it is not text).") from None


def _read_lines(path: Path, lines: TextIO) -> Iterator[tuple[float, str]]:
    count = 0
    while line := lines.readline(LONGEST_LINE):
        count += 1
        try:
            entry = json.loads(line)
            if count == 1:
                entry["scenario"], entry["freeswitch"]
                continue
            at, body = float(entry["t"]), entry["event"]
            if not isinstance(body, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            what = (
                "the first line of a recorded call" if count == 1 else "an event of a recorded call"
            )
            raise RecordingFileError(f"{path}: line {count} is not {what}.") from None
        yield at, body
    if not count:
        raise RecordingFileError(
            f"{path}: is empty; a recorded call begins with a line that names its scenario."
        )


def replay(path: Path, rules: Rules) -> Iterator[Notice]:
    """Yield what Planfix would be told about a recorded call."""
    tracker = Tracker(rules)
    for _, body in read_trace(path):
        yield from tracker.feed(SwitchEvent(body.encode("utf-8", "surrogatepass")))
