"""Traces with new UUIDs, times, exts and numbers, so that each plays like a call of today."""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import wave
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

TRACES = Path(__file__).parent / "traces"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MICROSECONDS = re.compile(r"(?<![0-9])1[0-9]{15}(?![0-9])")

# no letter or digit stands before it, unless that ends a percent-encoded character
_ALONE = r"(?:(?<![0-9A-Za-z])|(?<=%[0-9A-F]{2}))"


@dataclass(frozen=True)
class Step:
    """One event of a playback: seconds after its start, and the event's header lines."""

    after: float
    body: str

    def get(self, header: str) -> str:
        """Return a header's decoded value, "" if it is not there."""
        found = re.search(rf"^{re.escape(header)}: (.*)$", self.body, re.MULTILINE)
        return unquote(found[1]) if found else ""


def names() -> list[str]:
    """Return the names of the traces that come with the package."""
    return sorted(path.name.removesuffix(".jsonl.gz") for path in TRACES.glob("*.jsonl.gz"))


def load(trace: str | Path) -> list[Step]:
    """Return the events of a trace, by its name or its path."""
    path = trace if isinstance(trace, Path) else TRACES / f"{trace}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        next(lines)
        return [Step(entry["t"], entry["event"]) for entry in map(json.loads, lines)]


def freshen(
    steps: list[Step],
    now: float,
    core: str,
    keep: dict[str, str] | None = None,
    swap: dict[str, str] | None = None,
) -> list[Step]:
    """Return the same call with new UUIDs, begun at `now` (seconds), on the switch `core`.

    keep: which UUIDs to use. swap: numbers to replace wherever they stand alone, such as {"101":
    "105"}.
    """
    first = int(steps[0].get("Event-Date-Timestamp"))
    shift = int(now * 1_000_000) - first
    uuids = {steps[0].get("Core-UUID"): core, **(keep or {})}
    numbers = None
    if swap:
        # all in one pass: a number put in is not replaced itself
        alternatives = [rf"{_ALONE}{re.escape(number)}(?![0-9A-Za-z])" for number in swap]
        numbers = re.compile("|".join(alternatives))

    def rewrite(step: Step) -> Step:
        body = _UUID.sub(lambda m: uuids.setdefault(m[0], str(uuid4())), step.body)
        body = _MICROSECONDS.sub(lambda m: str(int(m[0]) + shift), body)
        if numbers is not None and swap is not None:
            body = numbers.sub(lambda m: swap[m[0]], body)
        return Step(step.after, _with_dates(body, int(step.get("Event-Date-Timestamp")) + shift))

    return [rewrite(step) for step in steps]


def _with_dates(body: str, stamp: int) -> str:
    """Make the readable dates of an event agree with its timestamp."""
    when = datetime.fromtimestamp(stamp / 1_000_000, UTC)
    local = quote(when.strftime("%Y-%m-%d %H:%M:%S"), safe="-")
    gmt = quote(when.strftime("%a, %d %b %Y %H:%M:%S GMT"), safe=",")
    body = re.sub(
        r"^Event-Date-Local: .*$", f"Event-Date-Local: {local}", body, count=1, flags=re.MULTILINE
    )

    return re.sub(
        r"^Event-Date-GMT: .*$", f"Event-Date-GMT: {gmt}", body, count=1, flags=re.MULTILINE
    )


def write_tone(path: Path) -> None:
    """Write a second of a quiet 440 Hz tone to `path`, in place of a recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (int(4000 * math.sin(n * 2 * math.pi * 440 / 8000)) for n in range(8000))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
