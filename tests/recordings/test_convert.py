"""Recordings become mp3, with a real ffmpeg."""

import math
import os
import struct
import subprocess
import wave
from pathlib import Path

import gevent
import imageio_ffmpeg
import pytest
import requests

from fsplanfix.recordings import convert
from fsplanfix.recordings.convert import Converter, NotConverted
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import write_tone

from ..support.recordings import LONG_AGO, link_of
from ..support.service import running


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
