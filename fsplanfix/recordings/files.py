"""The files behind the links: found within RECORDINGS_DIR, their names never trusted."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import RecordingGone, RecordingUnknown

TYPES = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}
SETTLED = 0.5
"""Seconds a file must have rested before it counts as complete."""

DAY = 86400.0


@dataclass(slots=True)
class Found:
    """An open recording; who gets it closes it.

    path: as FreeSWITCH would name it. size: bytes. changed: seconds since 1970.
    """

    file: BinaryIO
    path: str
    name: str
    type: str
    size: int
    changed: float
    etag: str


class Files:
    """The recordings below one folder.

    place: where FreeSWITCH's paths begin and where we see them, if that differs (a container).
    keep_days: how long recordings are kept, 0 for ever. convert: takes a complete wav file that
    shall become an mp3 file, and tells whether it stays as it is because that failed; None if
    nothing is converted.
    """

    def __init__(
        self,
        folder: Path,
        place: tuple[str, str] | None = None,
        keep_days: float = 0,
        convert: Callable[[Path], bool] | None = None,
    ) -> None:
        self._folder = folder
        self._place = place
        self._keep_days = keep_days
        self._convert = convert

    def local(self, path: str) -> str:
        """Return FreeSWITCH's path of a recording as we see it."""
        where = PurePosixPath(path)
        if self._place is not None and where.is_relative_to(self._place[0]):
            return str(PurePosixPath(self._place[1]) / where.relative_to(self._place[0]))
        return path

    def find(self, path: str) -> Found:
        """Open a recording by FreeSWITCH's path of it, or the mp3 file that took its place.

        Raises RecordingUnknown for anything but a plain sound file really inside the folder,
        reached without a symbolic link; RecordingGone if it is not there any more and recordings
        are only kept for some time.
        """
        try:
            return self._found(path)
        except (RecordingUnknown, RecordingGone):
            if not path.endswith(".wav"):
                raise
            with suppress(RecordingUnknown, RecordingGone):
                return self._found(str(PurePosixPath(path).with_suffix(".mp3")))
            raise

    def _found(self, path: str) -> Found:
        inside = self._inside(path)
        try:
            descriptor = self._open(inside)
        except FileNotFoundError:
            if self._keep_days and self._folder.is_dir():
                raise RecordingGone from None
            raise RecordingUnknown from None
        except (OSError, ValueError):
            raise RecordingUnknown from None

        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise RecordingUnknown
        return Found(
            file=os.fdopen(descriptor, "rb"),
            path=path,
            name=inside.name,
            type=TYPES[inside.suffix.lower()],
            size=about.st_size,
            changed=about.st_mtime,
            etag=f"{about.st_mtime_ns:x}-{about.st_size:x}",
        )

    def _inside(self, path: str) -> PurePosixPath:
        """Return a path relative to the folder; joining a relative one to it changes nothing."""
        where = PurePosixPath(self._folder, self.local(path))
        if (
            not where.is_relative_to(self._folder)
            or ".." in where.parts
            or where.suffix.lower() not in TYPES
        ):
            raise RecordingUnknown
        return where.relative_to(self._folder)

    def _open(self, inside: PurePosixPath) -> int:
        """Open folder by folder: no symbolic link is followed, not even one put there just now."""
        step = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in inside.parts[:-1]:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=step)
                os.close(step)
                step = below
            # a named pipe would keep us waiting for its writer without O_NONBLOCK
            return os.open(inside.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=step)
        finally:
            os.close(step)

    def is_ready(self, path: str) -> bool:
        """Tell whether a recording may be linked: it no longer grows and is not being converted.

        What we cannot see (another machine's file) is taken for complete: FreeSWITCH has said that
        it is.
        """
        try:
            found = self.find(path)
        except (RecordingUnknown, RecordingGone):
            return True
        found.file.close()

        if 0 <= time.time() - found.changed < SETTLED:
            return False
        if self._convert is not None and found.type == TYPES[".wav"]:
            return self._convert(self._folder / self._inside(path))
        return True

    def current_path(self, path: str) -> str:
        """Return the path under which a recording is found now: the mp3 file's once it is there."""
        try:
            found = self.find(path)
        except (RecordingUnknown, RecordingGone):
            return path
        found.file.close()
        return found.path

    def delete_old(self, now: float) -> int:
        """Delete recordings older than they are kept, and nothing else; return how many."""
        gone = 0
        for folder, _, names in os.walk(self._folder) if self._keep_days else ():
            for name in names:
                file = Path(folder, name)
                if file.suffix.lower() in TYPES and _is_older(file, now - self._keep_days * DAY):
                    file.unlink(missing_ok=True)
                    gone += 1
        return gone


def _is_older(file: Path, moment: float) -> bool:
    try:
        about = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(about.st_mode) and about.st_mtime < moment
