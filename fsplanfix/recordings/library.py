"""The library of call recordings: makes URLs, opens, converts and deletes."""

from __future__ import annotations

import io
import time
import wave
from pathlib import Path
from urllib.parse import urlsplit

import gevent
import structlog

from ..errors import RecordingRefused, RecordingUnknown
from .files import Availability, Elsewhere, Files, Found
from .uploader import Uploader
from .urls import RecordingUrls, is_short_lived, url_elsewhere, web_address

log = structlog.get_logger(__name__)

TEST_RECORDING = "fsplanfix-test.wav"
"""The path of a recording that is always there: `fsplanfix check` fetches it as Planfix would."""


class Library:
    """The recordings in `folder` (RECORDINGS_DIR).

    other_server: the address of the server that serves them (RECORDINGS_URL), None if we do.
    uploader: keeps them in a bucket, None if they stay here alone.
    mailboxes: the messages that clients left (VOICEMAIL_DIR), None if they are not linked.
    """

    def __init__(
        self,
        folder: Path,
        files: Files,
        urls: RecordingUrls,
        other_server: str | None,
        mailboxes: Files | None = None,
        uploader: Uploader | None = None,
    ) -> None:
        self._folder = folder
        self._files = files
        self._mailboxes = mailboxes
        self._uploader = uploader
        self._urls = urls
        self._other_server = other_server

    @property
    def origin(self) -> str:
        """Return scheme and host of the bucket's URLs, "" if there is none."""
        return self._uploader.origin if self._uploader is not None else ""

    def url(self, callid: str, path: str) -> str:
        """Return the URL of a recording of a call.

        path: as FreeSWITCH names the file. A web address is its own URL (docs/call-rules.md,
        rule 13).
        """
        address = web_address(path)
        if address and not self._other_server:
            return address

        current = urlsplit(address).path if address else self._holder(path).current_path(path)
        if self._other_server:
            return url_elsewhere(self._other_server, self._files.local(current), str(self._folder))

        return self._urls.url(callid, current)

    def open(self, signed: str, name: str) -> Found | Elsewhere:
        """Open the recording behind the two parts of a URL.

        Raises RecordingUnknown or RecordingGone.
        """
        path = self._urls.path(signed, name)
        if path is None:
            raise RecordingUnknown
        if path == TEST_RECORDING:
            return _test_recording()
        return self.find(path)

    def find(self, path: str) -> Found | Elsewhere:
        """Open the recording at a path, as FreeSWITCH names it, or say where the bucket has it.

        Raises RecordingUnknown or RecordingGone.
        """
        files = self._holder(path)
        if self._uploader is not None and files is self._files:
            elsewhere = self._uploader.find(files, path)
            if elsewhere is not None:
                return elsewhere
        return files.find(path)

    def _holder(self, path: str) -> Files:
        """Return the files that a path may be among."""
        if self._mailboxes is not None and self._mailboxes.holds(path):
            return self._mailboxes
        return self._files

    def availability_of(self, path: str, stopped: float = 0.0) -> Availability:
        """Tell whether Planfix may have a recording; begins its conversion if there is one to do.

        stopped: when FreeSWITCH had closed the file (seconds since 1970), 0 if that is not known.
        """
        address = web_address(path)
        if address:
            return Availability(is_temporary=not self._other_server and is_short_lived(address))

        try:
            return self._holder(path).availability_of(path, stopped)
        except RecordingRefused as refused:
            # another server may serve what we do not
            return Availability(problem="" if self._other_server else str(refused))

    def delete_old(self) -> None:
        """Delete the recordings that have been kept long enough."""
        # a walk through a large folder would stop every greenlet
        deleted = gevent.get_hub().threadpool.apply(self._files.delete_old, (time.time(),))
        log.info("recordings_deleted", files=deleted)


def silence() -> bytes:
    """Return a tenth of a second of silence as a wav file."""
    content = io.BytesIO()
    with wave.open(content, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(2 * 800))
    return content.getvalue()


def _test_recording() -> Found:
    content = silence()
    return Found(
        file=io.BytesIO(content),
        path=TEST_RECORDING,
        name=TEST_RECORDING,
        type="audio/wav",
        size=len(content),
        changed=0.0,
        etag="test",
    )
