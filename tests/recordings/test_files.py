"""Which files are served, and when their URLs are told."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from fsplanfix.errors import RecordingGone, RecordingUnknown
from fsplanfix.recordings.files import TYPES, Availability, Files
from fsplanfix.recordings.library import Library
from fsplanfix.web.recordings import answer_with

from ..support.recordings import LONG_AGO, URLS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "recordings"
    (made / "2026").mkdir(parents=True)
    for name in ("a.wav", "2026/b.mp3", "c.ogg", "notes.txt"):
        (made / name).write_bytes(b"RIFF0123456789")
        os.utime(made / name, (LONG_AGO, LONG_AGO))
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (made / "link.wav").symlink_to(tmp_path / "secret.wav")
    (made / "inside.wav").symlink_to(made / "a.wav")
    (made / "out").symlink_to(tmp_path)
    (made / "folder.wav").mkdir()
    os.mkfifo(made / "pipe.wav")
    (made / "device.wav").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(made / "socket.wav"))
    return made


@pytest.mark.parametrize(
    ("name", "kind"), [("a.wav", "audio/wav"), ("2026/b.mp3", "audio/mpeg"), ("c.ogg", "audio/ogg")]
)
def test_sound_files_inside_the_folder_are_found(folder: Path, name: str, kind: str) -> None:
    for path in (str(folder / name), name):
        found = Files(folder).find(path)
        assert (found.type, found.size, found.file.read(4)) == (kind, 14, b"RIFF")
        found.file.close()


@pytest.fixture
def left_open(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The descriptors that were opened and not closed again."""
    descriptors: set[int] = set()
    really_open, really_close = os.open, os.close

    def note_open(*arguments: Any, **options: Any) -> int:
        descriptor = really_open(*arguments, **options)
        descriptors.add(descriptor)
        return descriptor

    def note_close(descriptor: int) -> None:
        descriptors.discard(descriptor)
        really_close(descriptor)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "close", note_close)
    return descriptors


@pytest.mark.parametrize(
    "name",
    [
        "../secret.wav",
        "2026/../../secret.wav",
        "2026/../a.wav",
        "link.wav",
        "inside.wav",
        "out/secret.wav",
        "folder.wav",
        "pipe.wav",
        "socket.wav",
        "device.wav",
        "notes.txt",
        "missing.wav",
        "a.wav/x.wav",
        "a.wav\0.wav",
        "",
        ".",
        "x" * 5000 + ".wav",
        "/etc/passwd",
        "/dev/zero",
        "\ud800.wav",
    ],
)
def test_anything_else_is_refused(folder: Path, name: str, left_open: set[int]) -> None:
    for path in (name, f"{folder}/{name}"):
        with pytest.raises(RecordingUnknown):
            Files(folder).find(path)
    assert left_open == set()


def test_a_folder_that_is_itself_a_link_is_what_the_administrator_wants(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "rec").symlink_to(folder)
    Files(tmp_path / "rec").find("a.wav").file.close()


def test_freeswitch_may_live_in_a_container(folder: Path) -> None:
    files = Files(folder, ("/usr/recordings", str(folder)))
    files.find("/usr/recordings/2026/b.mp3").file.close()
    files.find(str(folder / "a.wav")).file.close()
    for path in ("/usr/recordings/../secret.wav", "/usr/recordings-2/a.wav"):
        with pytest.raises(RecordingUnknown):
            files.find(path)


def test_old_recordings_are_deleted_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    (folder / "young.wav").write_bytes(b"x")
    files = Files(folder, keep_days=30)
    assert files.delete_old(time.time()) == 3
    assert sorted(
        path.name for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    ) == [
        "notes.txt",
        "young.wav",
    ]
    assert (tmp_path / "secret.wav").exists()
    with pytest.raises(RecordingGone):
        files.find("a.wav")
    assert Files(folder).delete_old(time.time() + 1e9) == 0


def test_a_file_still_growing_is_not_ready(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(folder)
    (folder / "a.wav").write_bytes(bytes(100))
    monkeypatch.setattr("fsplanfix.recordings.files.time.time", lambda: 1_800_000_000.0)
    for changed, ready in ((1_800_000_000.0, False), (1_799_999_999.0, True)):
        os.utime(folder / "a.wav", (changed, changed))
        assert files.availability_of("a.wav").is_final == ready
    # FreeSWITCH had closed it before: whoever waits for its link need not wait longer
    os.utime(folder / "a.wav", (1_800_000_000.0, 1_800_000_000.0))
    assert files.availability_of("a.wav", 1_800_000_000.0).is_final
    assert files.availability_of("on_another_machine.wav") == Availability()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/var/spool/greeting.wav", "outside RECORDINGS_DIR"),
        ("../secret.wav", "outside RECORDINGS_DIR"),
        ("notes.txt", "not served"),
        ("link.wav", "symbolic link"),
        ("out/secret.wav", "symbolic link"),
        ("folder.wav", "no regular file"),
        ("empty.wav", "empty"),
        ("empty.mp3", "empty"),
    ],
)
def test_a_file_that_never_opens_is_not_linked(folder: Path, path: str, problem: str) -> None:
    # a wav file's header alone
    (folder / "empty.wav").write_bytes(b"RIFF".ljust(44, b"\0"))
    (folder / "empty.mp3").touch()
    for name in ("empty.wav", "empty.mp3"):
        os.utime(folder / name, (LONG_AGO, LONG_AGO))
    library = Library(folder, Files(folder), URLS, None)
    assert problem in library.availability_of(path).problem
    assert library.availability_of("c.ogg") == Availability()


def test_what_is_deleted_soon_is_a_temporary_link(folder: Path) -> None:
    for days, temporary in ((0, False), (1, True), (2, False)):
        availability = Files(folder, keep_days=days).availability_of("2026/b.mp3")
        assert availability.is_temporary == temporary


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("https://bucket.example.com/2026/a.wav", "https://bucket.example.com/2026/a.wav"),
        ("http_cache://http://store.example.com/a.mp3", "http://store.example.com/a.mp3"),
        ("{prefetch=true}http_cache://https://h.example/a.wav", "https://h.example/a.wav"),
        ("https://h.example/Иванов Иван.wav", None),
        ("https://h.example/a.wav\r\nX: y", None),
    ],
)
def test_a_web_address_is_its_own_link(folder: Path, path: str, link: str | None) -> None:
    library = Library(folder, Files(folder), URLS, None)
    assert library.availability_of(path) == Availability()
    url = library.url("c1", path)
    assert url == link or link is None
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    elsewhere = Library(folder, Files(folder), URLS, "https://files.example.com/r")
    assert elsewhere.url("c1", path).startswith("https://files.example.com/r/")


def test_an_address_signed_for_a_short_time_is_a_temporary_link(folder: Path) -> None:
    library = Library(folder, Files(folder), URLS, None)
    signed = "https://b.example.com/a.wav?X-Amz-Expires=900&X-Amz-Signature=ab"
    assert library.availability_of(signed) == Availability(is_temporary=True)
    # no web address: a relative name below the folder
    assert library.availability_of("https:///a.wav").problem == ""


@pytest.mark.parametrize(("suffix", "media"), TYPES.items())
def test_every_format_that_freeswitch_writes_opens(folder: Path, suffix: str, media: str) -> None:
    (folder / f"call{suffix.upper()}").write_bytes(b"sound of a call")
    app = Flask(__name__)
    app.add_url_rule(
        "/r", view_func=lambda: answer_with(Files(folder).find(f"call{suffix.upper()}"), "c")
    )
    with app.test_client().get("/r", headers={"Range": "bytes=6-7"}) as answer:
        assert (answer.status_code, answer.mimetype, answer.data) == (206, media, b"of")
