"""Which recordings run during a call, and which are final (docs/call-rules.md, rules 12 and 13)."""

from __future__ import annotations

from collections.abc import Iterator

from .model import Call, Recording, Rules
from .voicemail import may_get_a_message

Kept = list[tuple[list[Recording], str]]
"""Every list that a leg's recordings are kept in (its own, its calls'), each with the ext the leg
goes by there."""

DISCARDED = frozenset(("input-too-short", "empty-file"))
"""`Record-Completion-Cause` of files that FreeSWITCH deletes (switch_ivr_async.c,
RECORD_DISCARDED)."""


def begin(kept: Kept, path: str, leg: str, at: int) -> None:
    """A file is being written (RECORD_START), perhaps once more or on another leg than before."""
    for recordings, ext in kept:
        known = _of(recordings, path)
        if known is None:
            recordings.append(Recording(path, leg, at, ext))
            continue
        if known.leg != leg:
            known.ext = ""
        known.leg, known.stopped, known.discarded = leg, None, False


def end(kept: Kept, path: str, leg: str, at: int, cause: str) -> None:
    """A file is not written on this leg any more (RECORD_STOP).

    If its start was not heard, it ran from the beginning. With `recording_follow_transfer` one file
    may be stopped on two legs: the last counts (report r12a).
    """
    for recordings, ext in kept:
        known = _of(recordings, path)
        if known is None and path:
            known = Recording(path, leg, 0, ext)
            recordings.append(known)
        if known is None:
            continue
        if known.leg != leg:
            known.ext = ""
        if known.stopped is None or known.stopped < at:
            known.stopped = at
        known.discarded = cause in DISCARDED


def end_all(kept: Kept, leg: str, at: int, goes_on: bool) -> None:
    """A leg is gone.

    goes_on: it has `recording_follow_transfer`, so what runs on it is written on another leg now,
    without a RECORD_START, and belongs to nobody's leg (report r12b).
    """
    for recordings, _ in kept:
        for recording in recordings:
            if recording.leg != leg or recording.stopped is not None:
                continue
            if goes_on:
                recording.leg = recording.ext = ""
            else:
                recording.stopped = at


def is_recorded(call: Call, ext: str, start: int, end: int) -> bool:
    """Tell whether a talk was recorded (rule 12)."""
    return any(
        recording.ext in ("", ext) and recording.overlaps(start, end)
        for recording in call.recordings
    )


def become_final(call: Call, rules: Rules, at: int) -> bool:
    """Tell whether no file of a call that is over grows, and no other one comes (rule 13)."""
    # nothing can be written when no leg of the call is up any more
    for recording in [] if call.legs else call.recordings:
        recording.stopped = at if recording.stopped is None else recording.stopped

    is_stopped = all(recording.stopped is not None for recording in call.recordings)
    return is_stopped and not may_get_a_message(call, rules)


def to_be_linked(call: Call) -> list[str]:
    """Return the files whose links Planfix gets (rule 13)."""
    if not call.talks and call.messages:
        return call.messages
    return [file.path for file in _of_talks(call)]


def _of_talks(call: Call) -> Iterator[Recording]:
    """Yield the files that hold something of a talk: a voicemail message does not."""
    for recording in call.recordings:
        if any(recording.overlaps(start, end) for start, end in call.talks):
            yield recording


def _of(recordings: list[Recording], path: str) -> Recording | None:
    return next((recording for recording in recordings if recording.path == path), None)
