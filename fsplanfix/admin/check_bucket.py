"""What `fsplanfix check` says about the bucket that keeps recordings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePosixPath

import gevent

from ..errors import BucketError, TransportError
from ..recordings import bucket
from ..recordings.bucket import Bucket, Place
from ..recordings.library import TEST_RECORDING, silence
from ..settings import Settings
from .findings import Finding, Grade
from .probes import fetch

LONGEST_WAIT = 10.0
"""Seconds that the bucket may take to open a link."""


def check_bucket(settings: Settings) -> Iterator[Finding]:
    """Store a recording in the bucket, open its link as a browser would, and delete it."""
    if settings.recordings_s3 is None:
        return
    if not bucket.is_installed():
        hint = "pip install 'fsplanfix[s3]'"
        yield _finding("not-installed", Grade.BROKEN, "RECORDINGS_S3 needs boto3", hint)
        return

    try:
        # in a native thread, as the service does
        url = gevent.get_hub().threadpool.apply(_store_test, (settings,))
        code, content = fetch(url, LONGEST_WAIT)
        gevent.get_hub().threadpool.apply(_delete_test, (settings,))
    except BucketError as error:
        hint = "are RECORDINGS_S3, its endpoint, region and key right, and may the key write?"
        yield _finding("unusable", Grade.BROKEN, str(error), hint)
        return
    except TransportError as error:
        what = f"a link to it does not open: {error}"
        yield _finding("no-link", Grade.BROKEN, what, "browsers must reach RECORDINGS_S3_ENDPOINT")
        return

    if code == 200 and content == silence():
        yield _finding("sound", Grade.OK, "takes a recording, and a link to it opens")
    else:
        what = f"a link to it answers {code}: recordings cannot be played"
        yield _finding("no-link", Grade.BROKEN, what, "is RECORDINGS_S3_REGION right?")


def _place(settings: Settings) -> tuple[Bucket, str]:
    made = Bucket(Place(**settings.bucket()))
    return made, made.key_of(PurePosixPath(TEST_RECORDING))


def _store_test(settings: Settings) -> str:
    made, key = _place(settings)
    made.store(io.BytesIO(silence()), key, TEST_RECORDING)
    return made.urls(key, TEST_RECORDING, "audio/wav")["GET"]


def _delete_test(settings: Settings) -> None:
    made, key = _place(settings)
    made.delete(key)


def _finding(reason: str, grade: Grade, what: str, hint: str = "") -> Finding:
    return Finding(f"bucket.{reason}", grade, "bucket", what, hint)
