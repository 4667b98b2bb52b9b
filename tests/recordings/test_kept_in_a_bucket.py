"""The running service keeps recordings in a real S3 server, and its links go on to open."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.bucket import S3, s3_server
from ..support.commands import run_cli
from ..support.deliveries import link_to_the_recording, told
from ..support.service import running, settings_for
from ..support.traces import wanted
from ..support.visitor import PASSWORD, Visitor

CALL = "in_one_answered"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as made:
        yield made


def test_a_link_leads_to_the_bucket_and_opens_without_the_file(
    switch: Switch, planfix: Planfix, tmp_path: Path, server: S3
) -> None:
    folder = tmp_path / "recordings"
    switch.recordings_dir = str(folder)
    settings = server.settings | {"ADMIN_PASSWORD": PASSWORD, "RECORDINGS_KEEP_DAYS": "1"}
    with running(switch, planfix, tmp_path, **settings) as service:
        callid = switch.play(CALL, speed=0)
        link = link_to_the_recording(planfix)
        service.wait_for("recording_uploaded")
        (file,) = folder.rglob("*.wav")
        content = file.read_bytes()
        file.unlink()

        # the link lasts, so Planfix need not keep a copy of its own
        assert all("is_temp" not in form for form in planfix.accepted)
        assert told(planfix, callid) == wanted(CALL)
        sent_on = requests.get(link, timeout=60, allow_redirects=False)
        assert sent_on.status_code == 302
        assert sent_on.headers["Location"].startswith(f"{server.url}/recordings/pbx/")
        assert sent_on.headers["Cache-Control"] == "no-store"
        assert requests.get(link, timeout=60).content == content
        part = requests.get(link, timeout=60, headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"RIFF")
        head = requests.head(link, timeout=60, allow_redirects=True)
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))
        assert (
            requests.get(link.replace("/recordings/", "/recordings/x"), timeout=60).status_code
            == 404
        )
        service.wait_for("recording_served.*code=302")

        # the dashboard's player may follow
        with Visitor(service) as browser:
            browser.log_in()
            shown = browser.get(f"{service.address}/calls/{callid}", timeout=60)
            assert f"media-src 'self' {server.url};" in shown.headers["Content-Security-Policy"]
            played = browser.get(f"{service.address}/recording/1/{callid}", timeout=60)
            assert played.content == content


def test_a_call_waits_for_no_bucket_and_its_link_comes_after_a_restart(
    switch: Switch, planfix: Planfix, tmp_path: Path, server: S3
) -> None:
    switch.recordings_dir = str(tmp_path / "recordings")
    away = server.settings | {"RECORDINGS_S3_ENDPOINT": "http://127.0.0.1:9"}
    with running(switch, planfix, tmp_path, **away) as service:
        callid = switch.play(CALL, speed=0)
        service.wait_for("bucket_unavailable")
        planfix.wait_for(lambda crm: told(crm, callid) == wanted(CALL)[:-1])
        store = {"STORE_URL": f"sqlite:///{tmp_path}/store.db"}
    with running(switch, planfix, tmp_path, **server.settings, **store):
        assert requests.get(link_to_the_recording(planfix), timeout=60).content[:4] == b"RIFF"
    assert told(planfix, callid) == wanted(CALL)


def test_check_tries_the_bucket(
    switch: Switch, planfix: Planfix, tmp_path: Path, server: S3
) -> None:
    before = server.stored()
    for broken, line in (
        ({}, "✓ bucket .*takes a recording, and a link to it opens"),
        ({"RECORDINGS_S3": "s3://missing"}, "✗ bucket .*the bucket answered"),
        ({"RECORDINGS_S3_ENDPOINT": "http://127.0.0.1:9"}, "✗ bucket .*cannot be used"),
    ):
        settings = settings_for(switch, planfix, tmp_path, **(server.settings | broken))
        settings |= {"HTTP_LISTEN": "127.0.0.1:9", "ESL_LISTEN": "127.0.0.1:9"}
        said = run_cli(tmp_path, "check", **settings).stdout
        assert re.search(line, said), said
    assert server.stored() == before
