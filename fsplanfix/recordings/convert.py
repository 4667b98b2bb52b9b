"""Turns wav files into mp3 with ffmpeg: beside the event loop, two at a time.

The original is kept until the new file is proved.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import gevent
import structlog
from gevent.lock import BoundedSemaphore

log = structlog.get_logger(__name__)

FILES_AT_ONCE = 2
TIME_LIMIT = 900.0
"""Seconds for one file."""

TOLERANCE = 1.0
"""Seconds by which the lengths may differ: an mp3 is padded to whole frames."""


class NotConverted(Exception):
    """Why a file stays as it is."""


def installed() -> bool:
    """Tell whether ffmpeg is there."""
    return shutil.which("ffmpeg") is not None


class Converter:
    """Converts recordings. on_done: is called after each."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._under_way: set[Path] = set()
        self._failed: set[Path] = set()
        self._slots = BoundedSemaphore(FILES_AT_ONCE)

    def submit(self, wav: Path) -> bool:
        """Begin to convert a wav file unless that is under way.

        Return whether it stays as it is, because its conversion has failed.
        """
        if wav in self._failed:
            return True
        if wav not in self._under_way:
            self._under_way.add(wav)
            gevent.spawn(self._work, wav)
        return False

    def _work(self, wav: Path) -> None:
        try:
            with self._slots:
                convert(wav)
            log.info("recording_converted", file=wav.name)
        except BlockingIOError:
            pass  # another worker converts it; we shall be asked again
        except (NotConverted, OSError, subprocess.SubprocessError) as error:
            self._failed.add(wav)
            log.error(
                "recording_not_converted",
                file=wav.name,
                problem=str(error)[:200],
                hint="it is served as it is",
            )
        finally:
            self._under_way.discard(wav)
            self._on_done()


def convert(wav: Path) -> Path:
    """Put an mp3 file in the place of a wav file and return it.

    Raises NotConverted, OSError or subprocess.SubprocessError, and then leaves the wav file as it
    was; BlockingIOError if another worker is at it.
    """
    mp3, part = wav.with_suffix(".mp3"), wav.with_suffix(".mp3.part")
    with wav.open("rb") as original:
        fcntl.flock(original, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            _ffmpeg(
                "-y",
                "-i",
                f"file:{wav}",
                "-codec:a",
                "libmp3lame",
                "-q:a",
                "6",
                "-f",
                "mp3",
                f"file:{part}",
            )
            _prove(wav, part)
            shutil.copystat(wav, part)
            os.replace(part, mp3)
            wav.unlink()
        finally:
            part.unlink(missing_ok=True)
    return mp3


def _prove(wav: Path, made: Path) -> None:
    """Raise NotConverted unless the new file decodes to its end and is as long as the old one."""
    if abs(_seconds(wav) - _seconds(made)) > TOLERANCE:
        raise NotConverted("the result has another length")


def _seconds(file: Path) -> float:
    """Decode a file to its end and return its length."""
    told = _ffmpeg("-xerror", "-progress", "pipe:1", "-i", f"file:{file}", "-f", "null", "-")
    found = re.findall(r"^out_time_us=(\d+)$", told, re.MULTILINE)
    if not found:
        raise NotConverted("its length is unknown")
    return int(found[-1]) / 1_000_000


def _ffmpeg(*words: str) -> str:
    """Run ffmpeg at low priority; return what it printed."""
    command = ["nice", "-n", "10", "ffmpeg", "-v", "error", "-nostdin", *words]
    done = subprocess.run(  # noqa: S603 - no shell; file: keeps a name from being an option
        command, check=False, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT
    )
    if done.returncode or done.stderr.strip():
        raise NotConverted(
            " ".join(done.stderr.split())[-200:] or f"ffmpeg ended with {done.returncode}"
        )
    return done.stdout
