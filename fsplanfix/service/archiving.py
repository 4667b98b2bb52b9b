"""Keeps recordings in a bucket, and notes in the store that this does not work."""

from __future__ import annotations

import json
from collections.abc import Callable

import gevent

from ..errors import SettingsError
from ..outbox.retry import until_store_answers
from ..outbox.store import Store
from ..outbox.trouble import BUCKET_PROBLEM
from ..recordings import bucket
from ..recordings.archive import Archive
from ..recordings.bucket import Bucket, Place
from ..settings import Settings


def make_archive(settings: Settings, store: Store, on_done: Callable[[], None]) -> Archive | None:
    """Return what keeps recordings in RECORDINGS_S3, None if they stay here alone.

    on_done: called after each upload. Raises SettingsError.
    """
    if settings.recordings_s3 is None:
        return None
    if not bucket.is_installed():
        raise SettingsError(
            ["RECORDINGS_S3 needs boto3: install it (pip install 'fsplanfix[s3]')."]
        )

    def on_trouble(problem: str) -> None:
        # the upload's greenlet goes on while the store is away
        gevent.spawn(until_store_answers, lambda: _note(store, problem))

    return Archive(Bucket(Place(**settings.bucket())), on_done, on_trouble)


def _note(store: Store, problem: str) -> None:
    """Note what is wrong with the bucket and since when. Raises StoreError."""

    def noted(before: str) -> str:
        if not problem:
            return ""
        since = json.loads(before)["since"] if before else store.now()
        return json.dumps({"since": since, "problem": problem})

    store.facts.change(BUCKET_PROBLEM, noted)
