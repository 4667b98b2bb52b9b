"""Recordings in a bucket, against a real S3 server."""

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import gevent
import pytest
import requests

from fsplanfix.errors import BucketError
from fsplanfix.recordings.bucket import Bucket, Place
from fsplanfix.recordings.files import Availability, Elsewhere, Files
from fsplanfix.recordings.uploader import AGAIN_AFTER, TRIES_PER_SECOND, Uploader, may_delete

from ..support.bucket import S3, SECRET, s3_server
from ..support.service import PATIENCE

DAY = 86400.0


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as made:
        yield made


@pytest.fixture
def s3(server: S3) -> S3:
    for key in server.stored():
        Bucket(server.place).delete(key)
    return server


class Kept:
    """Files in a folder that are kept in a bucket. troubles: what the uploader said of it."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.troubles: list[str] = []
        self.passed = 0.0
        self.done = gevent.event.Event()
        self.uploader = Uploader(
            Bucket(place), self.done.set, self.troubles.append, lambda: self.passed
        )
        self.files = Files(
            folder,
            keep=self.uploader.submit,
            keep_days=1,
            may_delete=lambda files, file: may_delete(self.uploader, files, file),
        )

    def upload(self, path: str) -> Availability:
        """Ask until an upload has ended, whatever came of it."""
        self.done.clear()
        asked = self.files.availability_of(path, 9e9)
        if not asked.is_final:
            assert self.done.wait(PATIENCE)
        return self.files.availability_of(path, 9e9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.wav").write_bytes(b"RIFF" + bytes(100))
    return tmp_path


def where(tmp_path: Path) -> str:
    return str(tmp_path / "a/b.wav")


def test_a_file_is_linked_once_it_is_in_the_bucket(s3: S3, folder: Path) -> None:
    kept = Kept(s3.place, folder)
    assert not kept.files.availability_of(where(folder), 9e9).is_final
    kept.done.wait(PATIENCE)
    assert kept.files.availability_of(where(folder), 9e9) == Availability()
    assert s3.stored() == ["pbx/a/b.wav"]
    assert s3.read("pbx/a/b.wav") == (folder / "a/b.wav").read_bytes()
    assert kept.troubles == [""]


def test_its_link_opens_after_the_file_was_deleted(s3: S3, folder: Path) -> None:
    kept = Kept(s3.place, folder)
    kept.upload(where(folder))
    content = (folder / "a/b.wav").read_bytes()
    (folder / "a/b.wav").unlink()
    # another process, which remembers nothing
    found = Kept(s3.place, folder).uploader.find(kept.files, where(folder))
    assert isinstance(found, Elsewhere)
    answer = requests.get(found.urls["GET"], timeout=60, headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.content) == (206, b"RIFF")
    whole = requests.get(found.urls["GET"], timeout=60)
    assert (whole.content, whole.headers["Content-Type"]) == (content, "audio/wav")
    assert requests.head(found.urls["HEAD"], timeout=60).headers["Content-Length"] == "104"
    assert SECRET not in found.urls["GET"]


def test_a_recording_that_was_converted_is_found_under_its_former_name(
    s3: S3, folder: Path
) -> None:
    s3.write("pbx/a/b.mp3", b"ID3")
    found = Kept(s3.place, folder).uploader.find(Files(folder), where(folder))
    assert found is not None
    assert found.name == "b.mp3"
    assert requests.get(found.urls["GET"], timeout=60).content == b"ID3"


def test_what_the_bucket_has_is_not_sent_again_and_what_differs_is(s3: S3, folder: Path) -> None:
    bucket = Bucket(s3.place)
    key = bucket.key_of(PurePosixPath("a.wav"))
    bucket.store(io.BytesIO(b"one"), key, "a.wav")
    before = bucket._head(key)
    bucket.store(io.BytesIO(b"one"), key, "a.wav")
    assert before is not None
    assert bucket._head(key)["LastModified"] == before["LastModified"]  # type: ignore[index]
    bucket.store(io.BytesIO(b"two"), key, "a.wav")
    assert s3.read(key) == b"two"


def test_what_arrived_otherwise_is_not_taken_for_stored(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(s3.place)
    ask = bucket._ask

    def garble(what: str, **values: object) -> object:
        if what == "put_object":
            values["Body"] = io.BytesIO(b"tvo")
            del values["ContentMD5"]
        return ask(what, **values)

    monkeypatch.setattr(bucket, "_ask", garble)
    with pytest.raises(BucketError, match="does not hold what was sent"):
        bucket.store(io.BytesIO(b"two"), "pbx/x.wav", "x.wav")


def test_a_bucket_that_is_not_there_is_one_sentence_without_the_key(s3: S3) -> None:
    content = io.BytesIO(b"x")
    for place in (Place("missing", "", s3.url, "", "id", "hush"), _away("id", "hush")):
        with pytest.raises(BucketError) as caught:
            Bucket(place).store(content, "x.wav", "x.wav")
        assert str(caught.value).startswith("the bucket ")
        assert "hush" not in str(caught.value) + repr(place)


def _away(key: str = "id", secret: str = "secret") -> Place:
    return Place("recordings", "pbx/", "http://127.0.0.1:9", "", key, secret)


def test_an_outage_holds_files_back_and_is_told_once(s3: S3, folder: Path) -> None:
    for n in range(20):
        (folder / f"a/{n}.wav").write_bytes(bytes(100))
    kept = Kept(_away(), folder)
    first = kept.upload(where(folder))
    assert not first.is_final
    assert first.wait == AGAIN_AFTER
    assert len(kept.troubles) == 1
    for n in range(20):
        asked = kept.files.availability_of(str(folder / f"a/{n}.wav"), 9e9)
        assert asked.wait == AGAIN_AFTER
    # many that wait ask seldom
    kept.uploader._waiting |= {str(n) for n in range(10_000)}
    many = kept.files.availability_of(where(folder), 9e9)
    assert many.wait > 9_000 / TRIES_PER_SECOND

    kept.passed += AGAIN_AFTER
    kept.uploader._bucket = Bucket(s3.place)
    assert kept.upload(where(folder)) == Availability()
    assert [bool(said) for said in kept.troubles] == [True, False]


def test_while_the_bucket_is_away_a_file_is_served_from_here(folder: Path) -> None:
    kept = Kept(_away(), folder)
    assert kept.uploader.find(kept.files, where(folder)) is None


def test_an_old_file_is_deleted_only_once_it_is_in_the_bucket(s3: S3, folder: Path) -> None:
    now = (folder / "a/b.wav").stat().st_mtime + 2 * DAY
    assert Kept(_away(), folder).files.delete_old(now) == 0
    assert (folder / "a/b.wav").exists()
    kept = Kept(s3.place, folder)
    pool = gevent.get_hub().threadpool
    assert pool.apply(kept.files.delete_old, (now,)) == 1
    assert s3.stored() == ["pbx/a/b.wav"]
    assert not (folder / "a/b.wav").exists()
