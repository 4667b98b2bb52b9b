"""Keeps recordings in a bucket (RECORDINGS_S3): uploads them before Planfix has their URLs.

It works like the conversion: a notice waits for its file, and is tried again until it is there.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

import gevent
import structlog
from gevent.threadpool import ThreadPool

from ..errors import BucketError, RecordingGone, RecordingUnknown
from .bucket import Bucket
from .files import TYPES, Availability, Elsewhere, Found

log = structlog.get_logger(__name__)

T = TypeVar("T")

FILES_AT_ONCE = 2
"""Uploads under way."""

QUESTIONS_AT_ONCE = 2
"""Questions whether the bucket has a file: they do not wait for uploads."""

AGAIN_AFTER = 30.0
"""Seconds without an upload after one that failed."""

TRIES_PER_SECOND = 10.0
"""How often waiting notices ask, all in all, while the bucket is away."""

MOST_REMEMBERED = 10_000
"""Files that are known to be in the bucket. It is asked about any other."""


class Opener(Protocol):
    """Finds and opens recordings of this machine; see Files."""

    def find(self, path: str) -> Found:
        """Open a recording by FreeSWITCH's path of it."""

    def inside(self, path: str) -> PurePosixPath:
        """Return a path relative to the folder."""


class Uploader:
    """Uploads recordings and makes URLs of them.

    on_done: called after each upload. on_trouble: called with the problem of an upload that failed,
    and with "" once one succeeds again. origin: scheme and host of every URL. steady: a clock that
    never jumps, in seconds.
    """

    def __init__(
        self,
        bucket: Bucket,
        on_done: Callable[[], None],
        on_trouble: Callable[[str], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.origin = bucket.origin
        self._bucket = bucket
        self._on_done = on_done
        self._on_trouble = on_trouble
        self._steady = steady
        self._uploads = ThreadPool(FILES_AT_ONCE)
        self._questions = ThreadPool(QUESTIONS_AT_ONCE)

        self._stored: OrderedDict[str, None] = OrderedDict()
        self._unreadable: set[str] = set()
        self._under_way: set[str] = set()
        self._waiting: set[str] = set()
        self._paused_until = 0.0
        self._has_trouble: bool | None = None

    def submit(self, files: Opener, path: str) -> Availability:
        """Begin to upload a final file; tell whether Planfix may have its URL.

        A file that cannot be read is not uploaded, and has the URL it has without a bucket.
        """
        key = self._bucket.key_of(files.inside(path))
        if key in self._stored or key in self._unreadable:
            return Availability()

        self._waiting.add(key)
        pause = self._paused_until - self._steady()
        if pause > 0:
            return Availability(
                is_final=False, wait=max(pause, len(self._waiting) / TRIES_PER_SECOND)
            )
        if key not in self._under_way:
            self._under_way.add(key)
            gevent.spawn(self._work, files, path, key)
        return Availability(is_final=False)

    def _work(self, files: Opener, path: str, key: str) -> None:
        """Upload a file and log how that went."""
        try:
            self._uploads.apply(self.store, (files, path))
            self._note(key)
            self._tell("")
            log.info("recording_uploaded", file=PurePosixPath(path).name)
        except BucketError as error:
            self._paused_until = self._steady() + AGAIN_AFTER
            self._tell(str(error))
        except (OSError, RecordingUnknown, RecordingGone) as error:
            self._unreadable.add(key)
            self._waiting.discard(key)
            log.error(
                "recording_not_uploaded",
                file=PurePosixPath(path).name,
                problem=str(error)[:200],
                hint="it is served from here",
            )
        finally:
            self._under_way.discard(key)
            self._on_done()

    def _tell(self, problem: str) -> None:
        if self._has_trouble != bool(problem):
            self._has_trouble = bool(problem)
            if problem:
                log.error("bucket_unavailable", problem=problem, hint="recordings wait for it")
            self._on_trouble(problem)

    def _note(self, key: str) -> None:
        self._waiting.discard(key)
        self._stored[key] = None
        if len(self._stored) > MOST_REMEMBERED:
            self._stored.popitem(last=False)

    def store(self, files: Opener, path: str) -> None:
        """Upload a file and prove it; to be called in a native thread.

        Raises BucketError, or what `Files.find` raises.
        """
        found = files.find(path)
        with found.file:
            key = self._bucket.key_of(files.inside(found.path))
            self._bucket.store(found.file, key, found.name)

    def find(self, files: Opener, path: str) -> Elsewhere | None:
        """Return where the bucket has a recording, None if it does not or cannot be asked."""
        inside = files.inside(path)
        places = [inside]
        if inside.suffix == ".wav":
            places.append(inside.with_suffix(".mp3"))

        try:
            return self._questions.apply(self._find, (places,))
        except BucketError as error:
            log.error(
                "bucket_unavailable", problem=str(error), hint="served from here if it can be"
            )
            return None

    def _find(self, places: list[PurePosixPath]) -> Elsewhere | None:
        for place in places:
            key = self._bucket.key_of(place)
            if key in self._stored or self._bucket.has(key):
                urls = self._bucket.urls(key, place.name, TYPES[place.suffix.lower()])
                return Elsewhere(place.name, urls)
        return None


def may_delete(uploader: Uploader, files: Opener, file: Path) -> bool:
    """Tell whether an old file is in the bucket, after it was uploaded if it was not."""
    try:
        uploader.store(files, str(file))
    except (BucketError, OSError, RecordingUnknown, RecordingGone):
        return False
    return True
