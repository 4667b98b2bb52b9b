"""Converts wav files to mp3 with ffmpeg, two at a time and outside the event loop.

The original is kept until the new file has been checked.
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
"""Conversions under way."""

TIME_LIMIT = 900.0
"""Seconds for one file."""

TOLERANCE = 1.0
"""Seconds by which the lengths may differ: an mp3 is padded to whole frames."""


class NotConverted(Exception):
    """A wav file cannot be converted; the message says why."""


def is_installed() -> bool:
    """Tell whether ffmpeg is installed."""
    return shutil.which("ffmpeg") is not None


class Converter:
    """Converts recordings in greenlets of their own. on_done: called after each."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._under_way: set[Path] = set()
        self._failed: set[Path] = set()
        self._slots = BoundedSemaphore(FILES_AT_ONCE)

    def submit(self, wav: Path) -> bool:
        """Begin to convert a wav file unless that is under way; return whether it has failed.

        A file whose conversion has failed stays as it is.
        """
        if wav in self._failed:
            return True

        if wav not in self._under_way:
            self._under_way.add(wav)
            gevent.spawn(self._work, wav)
        return False

    def _work(self, wav: Path) -> None:
        """Convert a wav file and log how that went."""
        try:
            with self._slots:
                convert(wav)
            log.info("recording_converted", file=wav.name)
        except BlockingIOError:
            # another worker converts it, and `submit` is called again until it is done
            pass
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
    """Replace a wav file by an mp3 file and return its path.

    Raises NotConverted, OSError or subprocess.SubprocessError; the wav file then stays as it was.
    Raises BlockingIOError if another worker converts it.
    """
    mp3 = wav.with_suffix(".mp3")
    part = wav.with_suffix(".mp3.part")

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

            # the time of the call: `delete_old` goes by it
            shutil.copystat(wav, part)
            os.replace(part, mp3)
            wav.unlink()
        finally:
            part.unlink(missing_ok=True)
    return mp3


def _prove(wav: Path, made: Path) -> None:
    """Check that a new file decodes to its end and is as long as the old one.

    Raises NotConverted.
    """
    if abs(_seconds(wav) - _seconds(made)) > TOLERANCE:
        raise NotConverted("the result has another length")


def _seconds(file: Path) -> float:
    """Decode a file to its end and return its length in seconds. Raises NotConverted."""
    # -xerror: a damaged file is an error, not a warning
    progress = _ffmpeg("-xerror", "-progress", "pipe:1", "-i", f"file:{file}", "-f", "null", "-")
    found = re.findall(r"^out_time_us=(\d+)$", progress, re.MULTILINE)
    if not found:
        raise NotConverted("its length is unknown")

    # ffmpeg reports its progress again and again: the last line is the whole length
    return int(found[-1]) / 1_000_000


def _ffmpeg(*words: str) -> str:
    """Run ffmpeg at low priority and return its output. Raises NotConverted if it complains."""
    command = ["nice", "-n", "10", "ffmpeg", "-v", "error", "-nostdin", *words]
    done = subprocess.run(  # noqa: S603 - no shell; file: keeps a name from being an option
        command, check=False, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT
    )
    if done.returncode or done.stderr.strip():
        problem = " ".join(done.stderr.split())[-200:]
        raise NotConverted(problem or f"ffmpeg ended with {done.returncode}")

    return done.stdout
