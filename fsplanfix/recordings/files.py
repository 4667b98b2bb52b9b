"""The files of recordings: found below RECORDINGS_DIR, whatever their names say."""

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

# media types by suffix; nothing else is served or deleted
TYPES = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}
SETTLED = 0.5
"""Seconds a file must be unchanged before it counts as complete."""

DAY = 86400.0


@dataclass(slots=True)
class Found:
    """An open recording, to be closed by the caller.

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

    place: the beginning of FreeSWITCH's paths and of ours, if they differ (a container).
    keep_days: how long recordings are kept, 0 for ever.
    convert: begins to convert a complete wav file, returns whether that has failed
    (Converter.submit); None if nothing is converted.
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
        """Open a recording by FreeSWITCH's path of it, or the mp3 file that replaced it.

        Raises RecordingUnknown for anything but a regular sound file inside the folder, reached
        without a symbolic link. Raises RecordingGone if the file is missing and recordings are
        deleted after some time.
        """
        try:
            return self._found(path)
        except (RecordingUnknown, RecordingGone):
            if not path.endswith(".wav"):
                raise
            with suppress(RecordingUnknown, RecordingGone):
                return self._found(str(PurePosixPath(path).with_suffix(".mp3")))
            # the error about the wav file, which is the one that was asked for
            raise

    def _found(self, path: str) -> Found:
        """Open the file at one of FreeSWITCH's paths; raises what `find` raises."""
        inside = self._inside(path)
        try:
            descriptor = self._open(inside)
        except FileNotFoundError:
            # a folder that is not there is a mistake in the settings, not a deleted recording
            if self._keep_days and self._folder.is_dir():
                raise RecordingGone from None
            raise RecordingUnknown from None
        # ELOOP for a symbolic link, ValueError for a NUL in a name
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
        """Return a path relative to the folder. Raises RecordingUnknown if it leads out of it."""
        # an absolute path replaces the folder here, a relative one is put below it
        where = PurePosixPath(self._folder, self.local(path))
        if (
            not where.is_relative_to(self._folder)
            or ".." in where.parts
            or where.suffix.lower() not in TYPES
        ):
            raise RecordingUnknown

        return where.relative_to(self._folder)

    def _open(self, inside: PurePosixPath) -> int:
        """Open a file below the folder and return its descriptor. Raises OSError."""
        # Folder by folder, each below the descriptor of the one before: a check of the whole path
        # would miss a symbolic link that is put there between the check and the opening.
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

        Begins the conversion if there is one to do.
        """
        try:
            found = self.find(path)
        except (RecordingUnknown, RecordingGone):
            # a file on another machine: FreeSWITCH's RECORD_STOP has said that it is complete
            return True
        found.file.close()

        # 0 <=: a file that another clock dates an hour ahead must not have to wait for an hour
        if 0 <= time.time() - found.changed < SETTLED:
            return False

        if self._convert is not None and found.type == TYPES[".wav"]:
            return self._convert(self._folder / self._inside(path))

        return True

    def current_path(self, path: str) -> str:
        """Return the path under which a recording is found now: the mp3 file's once it exists."""
        try:
            found = self.find(path)
        except (RecordingUnknown, RecordingGone):
            return path
        found.file.close()
        return found.path

    def delete_old(self, now: float) -> int:
        """Delete recordings older than `keep_days`, and no other files; return how many.

        now: seconds since 1970.
        """
        if not self._keep_days:
            return 0

        oldest = now - self._keep_days * DAY
        count = 0
        for folder, _, names in os.walk(self._folder):
            for name in names:
                file = Path(folder, name)
                if file.suffix.lower() in TYPES and _is_older(file, oldest):
                    # another worker may have deleted it meanwhile
                    file.unlink(missing_ok=True)
                    count += 1
        return count


def _is_older(file: Path, moment: float) -> bool:
    """Tell whether a regular file was last changed before a moment (seconds since 1970)."""
    try:
        about = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(about.st_mode) and about.st_mtime < moment
