"""Keeps recordings in a bucket, and notes in the store that this does not work."""

from __future__ import annotations

import json
from collections.abc import Callable

import gevent

from ..errors import SettingsError
from ..outbox.facts import fact_of
from ..outbox.retry import until_store_answers
from ..outbox.store import Store
from ..outbox.trouble import BUCKET_PROBLEM
from ..recordings import bucket
from ..recordings.bucket import Bucket, Place
from ..recordings.uploader import Uploader
from ..settings import Settings
from ..settings.accounts import Accounts


def check_installed(accounts: Accounts[Settings]) -> None:
    """Raise SettingsError if an account's recordings are kept in a bucket and boto3 is missing."""
    is_wanted = any(settings.recordings_s3 for settings in accounts.values())
    if is_wanted and not bucket.is_installed():
        raise SettingsError(
            ["RECORDINGS_S3 needs boto3: install it (pip install 'fsplanfix[s3]')."]
        )


def make_uploader(
    account: str, settings: Settings, store: Store, on_done: Callable[[], None]
) -> Uploader | None:
    """Return what keeps an account's recordings in a bucket, None if they stay here alone.

    on_done: called after each upload.
    """
    if settings.recordings_s3 is None:
        return None

    def on_trouble(problem: str) -> None:
        # the upload's greenlet goes on while the store is away
        gevent.spawn(until_store_answers, lambda: _note(store, account, problem))

    return Uploader(Bucket(Place(**settings.bucket())), on_done, on_trouble)


def _note(store: Store, account: str, problem: str) -> None:
    """Note what is wrong with the bucket and since when. Raises StoreError."""

    def noted(before: str) -> str:
        if not problem:
            return ""
        since = json.loads(before)["since"] if before else store.now()
        return json.dumps({"since": since, "problem": problem})

    store.facts.change(fact_of(BUCKET_PROBLEM, account), noted)
