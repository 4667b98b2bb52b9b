"""Which recordings run on a leg, and which are final (call-rules.md, rules 12 and 13)."""

from __future__ import annotations

from .model import Recording

Kept = list[tuple[list[Recording], str]]
"""Every list that a leg's recordings are kept in (its own, its calls'), each with the ext the leg
goes by there."""

DISCARDED = frozenset(("input-too-short", "empty-file"))
"""`Record-Completion-Cause` of files that FreeSWITCH deletes (switch_ivr_async.c,
RECORD_DISCARDED)."""


def begin(kept: Kept, path: str, leg: str, at: int) -> None:
    """A file is being written (RECORD_START), perhaps once more."""
    for recordings, ext in kept:
        known = next((recording for recording in recordings if recording.path == path), None)
        if known is None:
            recordings.append(Recording(path, leg, at, ext))
        else:
            known.leg, known.stopped, known.discarded = leg, 0, False


def end(kept: Kept, path: str, leg: str, at: int, cause: str) -> None:
    """A file is final (RECORD_STOP); if its start was not heard, it ran from the beginning."""
    for recordings, ext in kept:
        if path and not any(recording.path == path for recording in recordings):
            recordings.append(Recording(path, leg, 0, ext))
        for recording in recordings:
            if recording.path == path and not recording.stopped:
                recording.stopped, recording.discarded = max(at, 1), cause in DISCARDED


def end_all(kept: Kept, leg: str, at: int) -> None:
    """A leg is gone, and nothing is written on it any more."""
    for recordings, _ in kept:
        for recording in recordings:
            if recording.leg == leg and not recording.stopped:
                recording.stopped = max(at, 1)
