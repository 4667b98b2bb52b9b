"""Links to recordings and the files behind them: over real HTTP, with real files and a real ffmpeg."""

import math
import os
import socket
import struct
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

import gevent
import imageio_ffmpeg
import pytest
import requests
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from fsplanfix.errors import RecordingGone, RecordingUnknown
from fsplanfix.recordings import convert
from fsplanfix.recordings.convert import Converter, NotConverted
from fsplanfix.recordings.files import TYPES, Files, Linkable
from fsplanfix.recordings.library import Library
from fsplanfix.recordings.urls import RecordingUrls, url_elsewhere
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import write_tone
from fsplanfix.web.recordings import answer_with

from .support.deliveries import link_to_the_recording
from .support.service import Service, running

BASE = "https://pbx.example.com"
URLS = RecordingUrls(BASE, ["key"])
WHERE = "/var/lib/freeswitch/recordings"
LONG_AGO = 1_700_000_000


def parts(link: str) -> tuple[str, str]:
    signed, _, name = link.partition("/recordings/")[2].partition("/")
    return signed, name


# links


def test_a_link_is_permanent_and_carries_its_path() -> None:
    link = URLS.url("c1", "/var/r/x.wav")
    assert link == RecordingUrls(f"{BASE}/", ["key"]).url("c1", "/var/r/x.wav")
    assert link.startswith(f"{BASE}/recordings/")
    signed, name = parts(link)
    assert name == "c1.wav"
    assert URLS.path(signed, name) == "/var/r/x.wav"


def test_old_keys_are_read_and_the_last_one_signs() -> None:
    old = parts(RecordingUrls(BASE, ["old"]).url("c", "/a.wav"))
    rotated = RecordingUrls(BASE, ["old", "new"])
    assert rotated.path(*old) == "/a.wav"
    assert rotated.url("c", "/a.wav") == RecordingUrls(BASE, ["new"]).url("c", "/a.wav")
    assert RecordingUrls(BASE, ["new"]).path(*old) is None


@pytest.mark.parametrize(
    "signed", ["", "x", "IngK.xxx", parts(URLS.url("c", "/a.wav"))[0][:-1] + "-"]
)
def test_a_signature_that_is_not_ours_opens_nothing(signed: str) -> None:
    assert URLS.path(signed, "c.wav") is None


@given(st.integers(0, 10**9))
def test_no_character_of_a_link_may_change(number: int) -> None:
    signed, name = parts(URLS.url(f"c{number}", f"/r/{number}.wav"))
    assert URLS.path(signed, name) == f"/r/{number}.wav"
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
    for other in alphabet:
        assert other == signed[-1] or URLS.path(signed[:-1] + other, name) is None
        assert URLS.path(signed + other, name) is None


def test_a_signature_is_for_its_own_name_only() -> None:
    signed, name = parts(URLS.url("c", "/a.wav"))
    assert URLS.path(signed, "d.wav") is None
    assert URLS.path(signed, name) == "/a.wav"


def test_an_odd_file_name_gives_no_odd_suffix() -> None:
    assert URLS.url("c", "/a.w<v>").endswith("/c")


@given(st.text(max_size=80), st.text(max_size=30))
def test_no_forged_link_opens_anything(signed: str, name: str) -> None:
    assert URLS.path(signed, name) is None


@pytest.mark.parametrize(
    ("path", "link"),
    [
        (f"{WHERE}/2026/11/x.wav", "https://files.example.com/rec/2026/11/x.wav"),
        (f"{WHERE}/a b&c?.wav", "https://files.example.com/rec/a%20b%26c%3F.wav"),
        ("/elsewhere/x.wav", "https://files.example.com/rec/x.wav"),
        (f"{WHERE}/../../x.wav", "https://files.example.com/rec/x.wav"),
    ],
)
def test_another_server_may_serve_the_files(path: str, link: str) -> None:
    assert url_elsewhere("https://files.example.com/rec/", path, WHERE) == link


# files


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
        assert files.linkable("a.wav").is_final == ready
    # FreeSWITCH had closed it before: whoever waits for its link need not wait longer
    os.utime(folder / "a.wav", (1_800_000_000.0, 1_800_000_000.0))
    assert files.linkable("a.wav", 1_800_000_000.0).is_final
    assert files.linkable("on_another_machine.wav") == Linkable()


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
    assert problem in library.linkable(path).problem
    assert library.linkable("c.ogg") == Linkable()


def test_what_is_deleted_soon_is_a_temporary_link(folder: Path) -> None:
    for days, temporary in ((0, False), (1, True), (2, False)):
        linkable = Files(folder, keep_days=days).linkable("2026/b.mp3")
        assert linkable.is_temporary == temporary


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
    assert library.linkable(path) == Linkable()
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
    assert library.linkable(signed) == Linkable(is_temporary=True)
    # no web address: a relative name below the folder
    assert library.linkable("https:///a.wav").problem == ""


@pytest.mark.parametrize(("suffix", "media"), TYPES.items())
def test_every_format_that_freeswitch_writes_opens(folder: Path, suffix: str, media: str) -> None:
    (folder / f"call{suffix.upper()}").write_bytes(b"sound of a call")
    app = Flask(__name__)
    app.add_url_rule(
        "/r", view_func=lambda: answer_with(Files(folder).find(f"call{suffix.upper()}"), "c")
    )
    with app.test_client().get("/r", headers={"Range": "bytes=6-7"}) as answer:
        assert (answer.status_code, answer.mimetype, answer.data) == (206, media, b"of")


# over HTTP


def link_of(service: Service, planfix: Planfix, switch: Switch) -> str:
    switch.play("in_one_answered", speed=0)
    return link_to_the_recording(planfix)


def test_a_recording_is_served_as_a_player_wants_it(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.recordings_dir = str(tmp_path)
    with running(switch, planfix, tmp_path) as service:
        link = link_of(service, planfix, switch)
        whole = requests.get(link, timeout=60)
        head = requests.head(link, timeout=60)
        part = requests.get(link, timeout=60, headers={"Range": "bytes=0-3"})
        tail = requests.get(link, timeout=60, headers={"Range": "bytes=-4"})
        beyond = requests.get(link, timeout=60, headers={"Range": "bytes=99999999-"})
        same = requests.get(link, timeout=60, headers={"If-None-Match": whole.headers["ETag"]})
        posted = requests.post(link, timeout=60)
        service.wait_for("recording_served.*code=206.*bytes 0-3/")
    size = len(whole.content)
    assert (whole.status_code, whole.headers["Content-Type"], whole.content[:4]) == (
        200,
        "audio/wav",
        b"RIFF",
    )
    assert whole.headers["Content-Length"] == str(size)
    callid = planfix.accepted[-1]["callid"]
    assert whole.headers["Content-Disposition"] == f"inline; filename={callid}.wav"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(size))
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (
        206,
        b"RIFF",
        f"bytes 0-3/{size}",
    )
    assert (tail.status_code, tail.content) == (206, whole.content[-4:])
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert (same.status_code, same.content) == (304, b"")
    assert posted.status_code == 405
    assert tmp_path.name not in " ".join(line for line in service.log if "recording_served" in line)


def test_another_file_a_changed_signature_a_path_outside_are_refused(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    folder, key = tmp_path / "recordings", "k" * 20
    folder.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "a.wav").write_bytes(b"RIFF")
    with running(switch, planfix, tmp_path, RECORDINGS_DIR=str(folder), SECRET_KEY=key) as service:
        ours = RecordingUrls(service.address, [key])
        good = ours.url("c", str(folder / "a.wav"))
        signed, _ = parts(good)
        refused = [
            good.replace("/c.wav", "/d.wav"),
            good.replace(signed, signed[:-1] + ("A" if signed[-1] != "A" else "B")),
            good.replace(signed, signed[1:]),
            RecordingUrls(service.address, ["another"]).url("c", str(folder / "a.wav")),
            ours.url("c", str(tmp_path / "secret.wav")),
            ours.url("c", f"{folder}/../secret.wav"),
            ours.url("c", str(folder / "link.wav")),
            ours.url("c", "/etc/passwd"),
            ours.url("c", str(folder / "missing.wav")),
            f"{service.address}/recordings/..%2F..%2Fetc/passwd",
        ]
        answers = [requests.get(link, timeout=60) for link in refused]
        assert requests.get(good, timeout=60).content == b"RIFF"
        service.wait_for("recording_refused code=404 address=127.0.0.1")
    assert [answer.status_code for answer in answers] == [404] * len(refused)
    assert all(answer.json()["error"] and b"secret" not in answer.content for answer in answers)


RANGES = [
    *("bytes=-0", "bytes=5-2", "bytes=a-b", "bytes=--1", "bytes=0-0,2-3", "bytes=", "bytes"),
    *("lines=0-1", "bytes=0x0-0x4", "bytes=+1-2", "bytes=0--1", "bytes=1e3-", "bytes=-", "\xff"),
    *("bytes=" + "9" * 4000 + "-", "bytes=-" + "9" * 4000, "bytes=" + ",".join(["0-"] * 1000)),
    *("bytes=99999999999999999999-", "bytes=0-18446744073709551616", "bytes=\t0-1"),
]


def test_bent_ranges_get_what_is_in_the_file_or_nothing(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """And a recording that is moved away, or replaced by a link, is none."""
    whole = bytes(range(256)) * 4
    folder = tmp_path / "recordings"
    folder.mkdir()
    file = folder / "a.wav"
    file.write_bytes(whole)
    (tmp_path / "secret.wav").write_bytes(b"secret")
    more = {"RECORDINGS_DIR": str(folder), "SECRET_KEY": "a-key-of-ours"}
    with running(switch, planfix, tmp_path, **more) as service:
        link = RecordingUrls(service.address, ["a-key-of-ours"]).url("c", str(file))
        for bent in RANGES:
            answer = requests.get(link, headers={"Range": bent.encode("latin-1")}, timeout=60)
            assert answer.status_code in (200, 206, 400, 416), bent
            if answer.ok:
                assert answer.content in whole, bent
        file.rename(tmp_path / "moved.wav")
        codes = [requests.get(link, timeout=60).status_code]
        file.symlink_to(tmp_path / "secret.wav")
        codes.append(requests.get(link, timeout=60).status_code)
        file.unlink()
        (tmp_path / "moved.wav").rename(file)
        codes.append(requests.get(link, timeout=60).status_code)
    assert codes == [404, 404, 200]


def test_links_outlive_a_new_key(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    switch.recordings_dir = str(tmp_path)
    with running(switch, planfix, tmp_path) as service:
        made = link_of(service, planfix, switch).partition("/recordings/")[2]
    with running(switch, planfix, tmp_path, SECRET_KEY="second-key-of-ours") as service:
        assert service.get(f"/recordings/{made}").status_code == 200
        given = RecordingUrls("", ["second-key-of-ours"]).url(
            "c", next(str(path) for path in tmp_path.glob("*.wav"))
        )
        assert service.get(given).status_code == 200
    with running(switch, planfix, tmp_path, SECRET_KEY="third-key-of-ours") as service:
        assert service.get(given).status_code == 404
    more = {"SECRET_KEY": "third-key-of-ours", "SECRET_KEY_OLD": "zeroth-key, second-key-of-ours"}
    with running(switch, planfix, tmp_path, **more) as service:
        assert [service.get(path).status_code for path in (given, f"/recordings/{made}")] == [
            200,
            200,
        ]


def test_a_recording_whose_time_is_over_is_gone(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "old.wav").write_bytes(b"RIFF")
    os.utime(folder / "old.wav", (LONG_AGO, LONG_AGO))
    more = {"RECORDINGS_DIR": str(folder), "RECORDINGS_KEEP_DAYS": "30", "SECRET_KEY": "k" * 20}
    with running(switch, planfix, tmp_path, **more) as service:
        service.wait_for("recordings_deleted files=1")
        gone = requests.get(
            RecordingUrls(service.address, ["k" * 20]).url("c", str(folder / "old.wav")), timeout=60
        )
    assert (gone.status_code, gone.json()) == (
        410,
        {"error": "This recording was deleted after RECORDINGS_KEEP_DAYS."},
    )


def test_planfix_may_be_sent_to_another_server(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    more = {"RECORDINGS_URL": "https://files.example.com/rec", "RECORDINGS_DIR": WHERE}
    with running(switch, planfix, tmp_path, **more) as service:
        link = link_of(service, planfix, switch)
    assert link.startswith("https://files.example.com/rec/")
    assert link.endswith(".wav")


# mp3


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a real ffmpeg in it, in front of the PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return str(tools)


def write_speech(path: Path, seconds: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        samples = (
            int(9000 * math.sin(n / 9) * math.sin(n / 901)) for n in range(int(seconds * 8000))
        )
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))


def test_a_wav_becomes_an_mp3_of_the_same_length(ffmpeg: str, tmp_path: Path) -> None:
    wav = tmp_path / "-i ${x} 1.wav"
    write_speech(wav, 7.3)
    os.utime(wav, (LONG_AGO, LONG_AGO))
    size = wav.stat().st_size
    mp3 = convert.convert(wav)
    assert (mp3.name, wav.exists()) == ("-i ${x} 1.mp3", False)
    assert mp3.stat().st_size < size / 3
    assert mp3.stat().st_mtime == LONG_AGO
    assert 7.2 < convert._seconds(mp3) < 7.5
    assert sorted(path.name for path in tmp_path.iterdir()) == [mp3.name, "tools"]


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all" * 100])
def test_a_file_that_cannot_be_converted_stays(ffmpeg: str, tmp_path: Path, content: bytes) -> None:
    wav = tmp_path / "broken.wav"
    wav.write_bytes(content)
    with pytest.raises(NotConverted):
        convert.convert(wav)
    assert wav.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.wav", "tools"]


def test_a_result_that_is_too_short_is_thrown_away(
    ffmpeg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav, real = tmp_path / "a.wav", subprocess.run
    write_speech(wav, 5)

    def cut(command: list[str], **options: object) -> object:
        return real(
            [*command[:-1], "-t", "2", command[-1]] if "libmp3lame" in command else command,
            **options,
        )  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", cut)
    with pytest.raises(NotConverted, match="another length"):
        convert.convert(wav)
    assert wav.exists()
    assert not wav.with_suffix(".mp3").exists()


def test_two_workers_do_not_convert_the_same_file(ffmpeg: str, tmp_path: Path) -> None:
    import fcntl

    wav = tmp_path / "a.wav"
    write_tone(wav)
    with wav.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            convert.convert(wav)
    assert convert.convert(wav).exists()


def test_files_are_converted_two_at_a_time_beside_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    # stands for an ffmpeg that takes its time: it notes how many are at work with it, and fails
    (tools / "ffmpeg").write_text(
        f"#!/bin/sh\ntouch {tools}/$$.busy\nls {tools} | grep -c busy >> {tools}/count\n"
        f"while test ! -e {tools}/enough; do sleep 0.05; done\nrm {tools}/$$.busy\nexit 1\n"
    )
    (tools / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    done: list[bool] = []
    converter = Converter(lambda: done.append(True))
    for n in range(6):
        write_tone(tmp_path / f"{n}.wav")
        assert not converter.submit(tmp_path / f"{n}.wav")
    counted = tools / "count"
    with gevent.Timeout(60):
        while not counted.exists() or "2" not in counted.read_text():
            gevent.sleep(0.01)
        (tools / "enough").touch()
        while len(done) < 6:
            gevent.sleep(0.01)
    assert max(map(int, counted.read_text().split())) == 2
    assert len(list(tmp_path.glob("*.wav"))) == 6


def test_without_ffmpeg_a_recording_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gevent.event import Event

    monkeypatch.setenv("PATH", str(tmp_path))
    wav, done = tmp_path / "a.wav", Event()
    write_tone(wav)
    converter = Converter(done.set)
    assert not convert.is_installed()
    assert not converter.submit(wav)
    assert done.wait(60)
    assert converter.submit(wav)
    assert wav.exists()


def test_planfix_gets_the_mp3(
    switch: Switch, planfix: Planfix, tmp_path: Path, ffmpeg: str
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    switch.recordings_dir = str(folder)
    with running(
        switch, planfix, tmp_path, RECORDINGS_DIR=str(folder), RECORDINGS_CONVERT="mp3"
    ) as service:
        link = link_of(service, planfix, switch)
        answer = requests.get(link, timeout=60)
        service.wait_for("recording_converted")
    assert link.endswith(f"/{planfix.accepted[-1]['callid']}.mp3")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "audio/mpeg")
    assert [path.suffix for path in folder.iterdir()] == [".mp3"]
