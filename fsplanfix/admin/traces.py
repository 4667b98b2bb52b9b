"""Reads, writes and plays traces (docs/facts/freeswitch.md, "Trace files")."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..calls.model import Notice
from ..calls.tracker import Tracker
from ..calls.whose import AnyRules
from ..errors import TraceError
from ..freeswitch.events import SwitchEvent

LONGEST_LINE = 4 * 1024 * 1024
"""Characters. A real event has 10 kB."""


def read_trace(path: Path) -> Iterator[tuple[float, str]]:
    """Yield (seconds since the start, event body) for each event of a trace.

    Raises TraceError with the line that is wrong.
    """
    with _opened(path) as lines:
        _head(path, lines)
        count = 1
        while line := lines.readline(LONGEST_LINE):
            count += 1
            try:
                entry = json.loads(line)
                at, body = float(entry["t"]), entry["event"]
                if not isinstance(body, str):
                    raise TypeError
            # RecursionError: JSON nested too deeply, as only a made-up file is
            except (ValueError, KeyError, TypeError, RecursionError):
                raise TraceError(
                    f"{path}: line {count} is not an event of a recorded call."
                ) from None

            yield at, body


def write_trace(path: Path, head: dict[str, object], events: Sequence[tuple[int, str]]) -> None:
    """Write a packed trace that `read_trace` reads. Raises TraceError.

    events: when each happened (microseconds since 1970), and its body.
    """
    begun = events[0][0] if events else 0
    lines = [json.dumps({**head, "events": len(events)})]
    for at, body in events:
        lines.append(json.dumps({"t": round((at - begun) / 1_000_000, 3), "event": body}))

    try:
        # mtime=0: the same call gives the same bytes
        path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
    except OSError as error:
        raise TraceError(f"{path} cannot be written ({error.strerror}).") from None


def settings_of(path: Path) -> dict[str, str]:
    """Return the settings that a trace was made with, by name; {} if it names none.

    Raises TraceError if its first line cannot be read.
    """
    with _opened(path) as lines:
        return _head(path, lines)[1]


def switch_of(path: Path) -> str:
    """Return the FreeSWITCH that a trace names.

    Raises TraceError if its first line cannot be read.
    """
    with _opened(path) as lines:
        return _head(path, lines)[0]


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a trace, packed or not. Raises TraceError if it cannot be read."""
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(2) == b"\x1f\x8b"
        open_text: Callable[..., TextIO] = gzip.open if is_packed else open
        with open_text(path, "rt", encoding="utf-8") as lines:
            yield lines
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is not a whole gzip file"
        raise TraceError(f"{path}: cannot be read ({reason}).") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path}: is not a recorded call (it is not text).") from None


def _head(path: Path, lines: TextIO) -> tuple[str, dict[str, str]]:
    """Read the first line, which names the scenario; return its FreeSWITCH and its settings."""
    line = lines.readline(LONGEST_LINE)
    if not line:
        raise TraceError(
            f"{path}: is empty; a recorded call begins with a line that names its scenario."
        )

    try:
        head = json.loads(line)
        head["scenario"], head["freeswitch"]
        settings = {str(name): str(value) for name, value in head.get("settings", {}).items()}
        return str(head["freeswitch"]), settings
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TraceError(f"{path}: line 1 is not the first line of a recorded call.") from None


def replay(path: Path, rules: AnyRules) -> Iterator[Notice]:
    """Yield the notices that a trace leads to."""
    tracker = Tracker(rules)
    for _, body in read_trace(path):
        yield from tracker.feed(SwitchEvent(body.encode("utf-8", "surrogatepass")))
