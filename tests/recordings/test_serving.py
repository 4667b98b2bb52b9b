"""Recordings over real HTTP."""

import os
from pathlib import Path

import requests

from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.recordings import LONG_AGO, WHERE, link_of, parts
from ..support.service import running


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
