"""The files of recordings: found below RECORDINGS_DIR, whatever their names say."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import RecordingGone, RecordingRefused, RecordingUnknown

TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".au": "audio/basic",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
    ".gsm": "audio/gsm",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
}
"""Media types by suffix, of the formats that FreeSWITCH writes. Nothing else is served or deleted.

mod_sndfile, mod_shout, mod_opusfile and mod_av write them.
"""

SETTLED = 0.5
"""Seconds a file must be unchanged before it counts as complete."""

WAV_HEADER = 44
"""Bytes of a wav file in which there is no sound."""

TEMPORARY = 2.0
"""Days: a recording that is deleted before is only for Planfix to fetch, not to be listened to."""

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


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A recording that a bucket serves.

    urls: where it opens for a short time, by the method of the request: GET or HEAD.
    """

    name: str
    urls: Mapping[str, str]


LOOK_AGAIN = 0.5
"""Seconds until a recording that is still being written or converted is tried again."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether Planfix may be given a recording's URL.

    is_final: the file does not change any more. problem: why there will never be a URL, "" if
    there will. is_temporary: the URL will work for a short time only. wait: seconds until it is
    worth asking again, if it is not final.
    """

    is_final: bool = True
    problem: str = ""
    is_temporary: bool = False
    wait: float = LOOK_AGAIN


class Files:
    """The recordings below one folder.

    place: the beginning of FreeSWITCH's paths and of ours, if they differ (a container).
    keep_days: how long recordings are kept, 0 for ever.
    convert: begins to convert a complete wav file, returns whether that has failed
    (Converter.submit); None if nothing is converted.
    keep: begins to upload a complete file, tells whether Planfix may have its URL
    (Uploader.submit); None if nothing is. may_delete: tells whether an old file may be deleted
    (uploader.may_delete).
    """

    def __init__(
        self,
        folder: Path,
        place: tuple[str, str] | None = None,
        keep_days: float = 0,
        convert: Callable[[Path], bool] | None = None,
        keep: Callable[[Files, str], Availability] | None = None,
        may_delete: Callable[[Files, Path], bool] | None = None,
    ) -> None:
        self._folder = folder
        self._place = place
        self._keep_days = keep_days
        self._convert = convert
        self._keep = keep
        self._may_delete = may_delete

    def local(self, path: str) -> str:
        """Return FreeSWITCH's path of a recording as we see it."""
        if self._place is None:
            return path
        where = PurePosixPath(path)
        if where.is_relative_to(self._place[0]):
            return str(PurePosixPath(self._place[1]) / where.relative_to(self._place[0]))
        return path

    def holds(self, path: str) -> bool:
        """Tell whether FreeSWITCH's path leads into the folder."""
        where = PurePosixPath(self.local(path))
        return where.is_relative_to(self._folder) and ".." not in where.parts

    def find(self, path: str) -> Found:
        """Open a recording by FreeSWITCH's path of it, or the mp3 file that replaced it.

        Raises RecordingUnknown for anything but a regular sound file inside the folder, reached
        without a symbolic link; RecordingRefused if that can never change. Raises RecordingGone
        if the file is missing and recordings are deleted after some time.
        """
        try:
            return self._found(path)
        except (RecordingUnknown, RecordingGone):
            if not self._has_mp3(path):
                raise
            with suppress(RecordingUnknown, RecordingGone):
                return self._found(str(PurePosixPath(path).with_suffix(".mp3")))
            # the error about the wav file, which is the one that was asked for
            raise

    def _found(self, path: str) -> Found:
        """Open the file at one of FreeSWITCH's paths; raises what `find` raises."""
        inside = self.inside(path)
        try:
            descriptor = self._open(inside)
        except FileNotFoundError:
            # a folder that is not there is a mistake in the settings, not a deleted recording
            if self._keep_days and self._folder.is_dir():
                raise RecordingGone from None
            raise RecordingUnknown from None
        # ValueError for a NUL in a name
        except (OSError, ValueError) as error:
            # what Linux answers for a symbolic link, at the end of a path and within it
            if isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise RecordingRefused("the path leads through a symbolic link") from None
            raise RecordingUnknown from None

        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise RecordingRefused("it is no regular file")
        return Found(
            file=os.fdopen(descriptor, "rb"),
            path=path,
            name=inside.name,
            type=TYPES[inside.suffix.lower()],
            size=about.st_size,
            changed=about.st_mtime,
            etag=f"{about.st_mtime_ns:x}-{about.st_size:x}",
        )

    def inside(self, path: str) -> PurePosixPath:
        """Return a path relative to the folder. Raises RecordingRefused if it leads out of it."""
        # an absolute path replaces the folder here, a relative one is put below it
        where = PurePosixPath(self._folder, self.local(path))
        if not where.is_relative_to(self._folder) or ".." in where.parts:
            raise RecordingRefused("the file lies outside RECORDINGS_DIR")
        if where.suffix.lower() not in TYPES:
            raise RecordingRefused(f"files like *{where.suffix} are not served")

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

    def availability_of(self, path: str, stopped: float = 0.0) -> Availability:
        """Tell whether Planfix may have a recording: it no longer grows and is not being converted.

        Begins the conversion if there is one to do.

        stopped: when FreeSWITCH had closed the file (seconds since 1970), 0 if that is not known.
        Raises RecordingRefused for a file that is never served.
        """
        # what is in a bucket outlives the file
        is_temporary = self._keep is None and 0 < self._keep_days < TEMPORARY
        try:
            found = self.find(path)
        except RecordingRefused:
            raise
        except (RecordingUnknown, RecordingGone):
            # a file on another machine: FreeSWITCH's RECORD_STOP has said that it is complete
            return Availability(is_temporary=is_temporary)
        found.file.close()

        # 0 <=: a file that another clock dates an hour ahead must not have to wait for an hour
        if found.changed > stopped and 0 <= time.time() - found.changed < SETTLED:
            return Availability(is_final=False)

        is_wav = found.type == TYPES[".wav"]
        if found.size <= (WAV_HEADER if is_wav else 0):
            return Availability(problem="the file is empty")

        convert = self._convert if is_wav else None
        if convert is not None and not convert(self._folder / self.inside(found.path)):
            return Availability(is_final=False)
        if self._keep is not None:
            return self._keep(self, found.path)
        return Availability(is_temporary=is_temporary)

    def current_path(self, path: str) -> str:
        """Return the path under which a recording is found now: the mp3 file's once it exists."""
        if not self._has_mp3(path):
            return path

        try:
            found = self.find(path)
        except (RecordingUnknown, RecordingGone):
            return path
        found.file.close()
        return found.path

    def _has_mp3(self, path: str) -> bool:
        """Tell whether something is there in place of a wav file, whatever it is."""
        mp3 = os.path.join(self._folder, f"{self.local(path)[:-4]}.mp3")
        return path.endswith(".wav") and os.path.exists(mp3)

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
                is_old = file.suffix.lower() in TYPES and _is_older(file, oldest)
                if is_old and (self._may_delete is None or self._may_delete(self, file)):
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
