"""Records that FreeSWITCH sends (`POST /cdr`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from fsplanfix.service.received import Received
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.deliveries import told
from ..support.records import files
from ..support.service import PATIENCE, Service, running
from ..support.traces import by_ext, path_of, wanted

SECRET = "cdr-secret-1"
RIGHT = ("fsplanfix", SECRET)
JSON = next(raw for file, raw in files()["out_busy"].items() if file.startswith("json/a_"))
XML = next(raw for file, raw in files()["out_busy"].items() if file.startswith("xml/a_"))


def send(
    service: Service,
    body: bytes,
    auth: tuple[str, str] | None = RIGHT,
    headers: dict[str, str] | None = None,
) -> requests.Response:
    return requests.post(
        service.address + "/cdr", data=body, auth=auth, headers=headers, timeout=PATIENCE
    )


@pytest.fixture
def service(switch: Switch, planfix: Planfix, tmp_path: Path) -> Iterator[Service]:
    with running(switch, planfix, tmp_path, CDR_SECRET=SECRET) as service:
        yield service


def test_a_record_is_kept_as_it_came(service: Service, tmp_path: Path) -> None:
    assert send(service, JSON).status_code == 200
    [kept] = (tmp_path / "store.db.records").iterdir()
    assert kept.read_bytes() == JSON
    assert send(service, b"cdr=" + quote(JSON).encode()).status_code == 200
    assert kept.read_bytes() == JSON
    assert send(service, b"cdr=" + quote(XML).encode()).status_code == 200
    assert kept.read_bytes() == XML
    assert len(list((tmp_path / "store.db.records").iterdir())) == 1


def test_what_is_no_record_is_refused(service: Service, tmp_path: Path) -> None:
    assert send(service, b"{}").status_code == 400
    assert send(service, b"").status_code == 400
    assert send(service, b"x" * 1_100_000).status_code == 413
    assert not list((tmp_path / "store.db.records").iterdir())


def test_only_who_knows_the_secret_may_send(service: Service, tmp_path: Path) -> None:
    asked = send(service, JSON, auth=None)
    assert asked.status_code == 401
    assert asked.headers["WWW-Authenticate"].startswith("Basic")
    assert send(service, JSON, auth=("fsplanfix", "wrong")).status_code == 401
    bearer = send(service, JSON, auth=None, headers={"Authorization": f"Bearer {SECRET}"})
    assert bearer.status_code == 200
    codes = {send(service, JSON, auth=("x", str(n))).status_code for n in range(30)}
    assert codes == {401, 429}
    assert send(service, JSON).status_code == 200
    service.wait_for("wrong_cdr_secret")


def test_only_networks_of_ours_may_send(service: Service) -> None:
    from_outside = send(service, JSON, headers={"X-Forwarded-For": "203.0.113.9"})
    assert from_outside.status_code == 404
    assert requests.get(service.address + "/cdr", timeout=PATIENCE).status_code == 405


def test_without_a_secret_there_is_no_such_address(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        assert send(service, JSON, auth=("", "")).status_code == 404
    assert not (tmp_path / "store.db.records").exists()


def test_a_call_is_told_from_records_that_were_sent(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.cdr_dir = "sent"
    sent: list[str] = []
    switch.on_record = lambda _, text: sent.append(text)
    settings = {"CDR_SECRET": SECRET, "POPUP_TTL": "0"}
    with running(switch, planfix, tmp_path, **settings):
        switch.play("in_one_no_answer", 0)
        planfix.wait_for(lambda crm: len(crm.accepted) == 2)

    sent.clear()
    callid = switch.play(path_of("group_answered"), 0)
    with running(switch, planfix, tmp_path, **settings) as service:
        for text in sent:
            assert send(service, text.encode()).status_code == 200
        planfix.wait_for(lambda crm: by_ext(told(crm, callid)) == by_ext(wanted("group_answered")))


def test_old_records_are_deleted(tmp_path: Path) -> None:
    received = Received(tmp_path / "records")
    received.keep(JSON)
    [kept] = received.folder.path.iterdir()
    received.delete_old(kept.stat().st_mtime)
    assert kept.exists()
    received.delete_old(kept.stat().st_mtime + 1)
    assert not kept.exists()
