"""The whole service, between a simulated FreeSWITCH and a strict Planfix, over real sockets."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import names

from .support.deliveries import count, link_to_the_recording, told
from .support.service import PATIENCE, Service, running, settings_for, started
from .support.traces import by_ext, path_of, wanted

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("name", [name for name in names() if not name.startswith("makecall")])
def test_a_call_on_the_switch_appears_in_planfix(
    switch: Switch, planfix: Planfix, tmp_path: Path, name: str
) -> None:
    with running(switch, planfix, tmp_path):
        callid = switch.play(name, speed=0)
        planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(name)))
    assert by_ext(told(planfix, callid)) == by_ext(wanted(name))
    assert planfix.history.surprises == []
    assert all(item.code == 200 for item in planfix.received)


def test_forty_calls_at_once(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    import gevent

    with running(switch, planfix, tmp_path):
        calls = ["group_answered", "queue_answered", "blind_transfer_answered", "out_answered"] * 10
        jobs = [gevent.spawn(switch.play, name, 20) for name in calls]
        gevent.joinall(jobs)
        due = sum(len(wanted(name)) for name in calls)
        planfix.wait_for(lambda crm: count(crm) >= due, timeout=120)
    for job, name in zip(jobs, calls, strict=True):
        assert by_ext(told(planfix, str(job.value))) == by_ext(wanted(name))
    assert planfix.history.surprises == []


def test_the_recording_link_plays_the_recording(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.recordings_dir = str(tmp_path)
    with running(switch, planfix, tmp_path):
        switch.play("in_one_answered", speed=0)
        link = link_to_the_recording(planfix)
        whole = requests.get(link, timeout=PATIENCE)
        part = requests.get(link, timeout=PATIENCE, headers={"Range": "bytes=0-3"})
        forged = requests.get(link.replace("/recordings/", "/recordings/x"), timeout=PATIENCE)
    assert (whole.status_code, whole.headers["Content-Type"]) == (200, "audio/wav")
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert forged.status_code == 404


def test_what_planfix_sends_is_checked(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    good = {"cmd": "makeCall", "from": "101", "to": "79161234567", "token": "pbx-token-1"}
    with running(switch, planfix, tmp_path) as service:
        wrong_token = service.click(**{**good, "token": "x"})
        wrong_number = service.click(**{**good, "to": "}user/102"})
        as_json = requests.post(service.address + "/planfix", json=good, timeout=PATIENCE)
        too_large = requests.post(
            service.address + "/planfix", data={**good, "x": "y" * 70_000}, timeout=PATIENCE
        )
        wrong_method = requests.put(service.address + "/planfix", data=good, timeout=PATIENCE)
        about = service.get("/planfix")
        unknown = service.get("/nothing")
    assert (wrong_token.status_code, wrong_token.json()) == (401, {"error": "Invalid token"})
    assert (wrong_number.status_code, wrong_number.json()) == (400, {"error": "Invalid parameters"})
    assert [a.status_code for a in (as_json, too_large, wrong_method, unknown)] == [
        415,
        413,
        405,
        404,
    ]
    assert all(a.json()["error"] for a in (as_json, too_large, wrong_method, unknown))
    assert (about.status_code, "enter it in Planfix" in about.json()["message"]) == (200, True)
    assert switch.originated == []


def test_a_body_without_a_length_is_measured_as_it_comes(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    def pieces(size: int) -> Iterator[bytes]:
        yield b"cmd=makeCall&token=pbx-token-1&from=101&to=79161234567"
        yield b"&x="
        for _ in range(size // 1000):
            yield b"y" * 1000

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with running(switch, planfix, tmp_path) as service:
        address = service.address + "/planfix"
        codes = [
            requests.post(address, data=pieces(size), headers=headers, timeout=PATIENCE).status_code
            for size in (1000, 100_000, 60_000)
        ]
        assert codes == [200, 413, 200]
        assert service.get("/health/live").status_code == 200
        service.wait_for("click_to_call")
    assert len(switch.originated) == 1


def test_who_guesses_at_the_token_is_slowed_and_planfix_never_locked_out(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:

        def guess(address: str, token: str = "x") -> int:
            fields = {"cmd": "nonsense", "token": token}
            # the web server in front adds the address it sees; what stands before it may be forged
            headers = {"X-Forwarded-For": f"192.0.2.99, {address}"} if address else {}
            return requests.post(
                service.address + "/planfix", data=fields, headers=headers, timeout=PATIENCE
            ).status_code

        for who in ("192.0.2.7", ""):  # the second: a proxy that names nobody
            assert [guess(who) for _ in range(21)] == [401] * 20 + [429]
            assert guess(who, "pbx-token-1") == 400
            assert guess(who) == 429
        assert guess("192.0.2.8") == 401
        network = [guess(f"2001:db8:1:2::{n:x}") for n in range(1, 22)]
        assert network == [401] * 20 + [429]
        assert guess("2001:db8:1:3::1") == 401
        assert 'fsplanfix_wrong_secrets_total{what="token"} 67.0' in service.get("/metrics").text
        service.wait_for("wrong_token address=192.0.2.7 not_logged_before=0")
        assert len([line for line in service.log if "wrong_token" in line]) == 10


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        ({}, 200, ""),
        ({"token": "x"}, 401, "Invalid token"),
        ({"planfix_token": "another"}, 400, "put the one shown here into PLANFIX_TOKEN"),
        (
            {"planfix_url": "https://example.planfix.com/tel/api"},
            400,
            "put this one into PLANFIX_URL",
        ),
        ({"planfix_url": "http://example.planfix.com/tel/api"}, 400, "must begin with https://"),
        ({"planfix_url": ""}, 400, "must begin with https://"),
        ({"planfix_url": "https://[/"}, 400, "put this one into PLANFIX_URL"),
    ],
)
def test_setup_succeeds_only_for_the_planfix_we_are_connected_to(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    fields: dict[str, str],
    code: int,
    sentence: str,
) -> None:
    right = {
        "cmd": "setup",
        "token": "pbx-token-1",
        "planfix_url": planfix.url,
        "planfix_token": "planfix-token",
    }
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(**{**right, **fields})
    assert answer.status_code == code
    assert sentence in answer.json().get("error", "")
    assert planfix.asked == 0  # nothing is fetched from where a stranger says


def test_readiness_follows_the_link(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    with running(switch, planfix, tmp_path) as service:
        ready = service.get("/health/ready")
        parts = dict.fromkeys(("freeswitch", "store", "pipeline", "courier"), True)
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", **parts})
        switch.stop()
        service.wait_for("freeswitch_link_lost")
        assert service.get("/health/ready").status_code == 503
        assert service.get("/health/live").status_code == 200
        assert service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"}
        ).json() == {"error": "The phone system is not connected right now, try again in a minute"}


def test_what_was_committed_is_sent_after_a_kill(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.answers.extend([500] * 3)
    settings = settings_for(switch, planfix, tmp_path)
    first = Service(tmp_path, settings)
    first.wait_for("freeswitch_linked")
    switch.wait_for_subscriber()
    callid = switch.play("group_answered", speed=0)
    first.wait_for("not_delivered")
    first.process.send_signal(signal.SIGKILL)
    first.end()
    planfix.answers.clear()
    second = Service(tmp_path, settings)
    planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted("group_answered")))
    assert second.end() == 0
    assert by_ext(told(planfix, callid)) == by_ext(wanted("group_answered"))
    assert planfix.history.surprises == []


def test_a_stop_is_orderly(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    with running(switch, planfix, tmp_path) as service:
        assert service.end() == 0
    assert "Traceback" not in "\n".join(service.log)


def test_a_stop_finishes_the_requests_under_way(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    planfix.delay = 1.0
    with running(switch, planfix, tmp_path) as service:
        switch.play("in_one_no_answer", speed=0)
        planfix.wait_for(lambda crm: crm.asked == 1)
        assert service.end() == 0
    assert [item.code for item in planfix.received] == [200]
    assert any("kind=INCOMING" in line and "delivered" in line for line in service.log)


def test_two_switches_are_followed_at_once(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    other = Switch()
    other.start()
    both = f"esl://:ClueCon@127.0.0.1:{switch.port},esl://:ClueCon@127.0.0.1:{other.port}"
    with running(switch, planfix, tmp_path, FREESWITCH_ESL=both) as service:
        service.wait_for(f"freeswitch_linked server=127.0.0.1:{other.port}")
        service.wait_for(f"freeswitch_linked server=127.0.0.1:{switch.port}")
        calls = [switch.play("in_one_answered", speed=0), other.play("in_one_answered", speed=0)]
        planfix.wait_for(lambda crm: count(crm) == 8)
    other.stop()
    assert {fields["callid"] for fields in planfix.accepted} == set(calls)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("password", "refuses the password: put the one from event_socket.conf.xml"),
        ("acl", "refuses our address: add it to apply-inbound-acl"),
        ("gone", "cannot be reached"),
    ],
)
def test_trouble_with_the_switch_is_named_once_and_tried_again(
    switch: Switch, planfix: Planfix, tmp_path: Path, trouble: str, sentence: str
) -> None:
    if trouble == "password":
        switch.password = "another"
    switch.refuse_addresses = trouble == "acl"
    if trouble == "gone":
        switch.stop()
    with running(switch, planfix, tmp_path) as service:
        service.wait_for(sentence)
        switch.password, switch.refuse_addresses = "ClueCon", False
        if trouble != "gone":
            service.wait_for("freeswitch_linked")
    assert sum(sentence in line for line in service.log) == 1
    assert not re.search("ClueCon|planfix-token|pbx-token|Traceback", "\n".join(service.log))


def run_once(folder: Path, settings: dict[str, str], bound: bool = False) -> tuple[int, list[str]]:
    service = Service(folder, settings, bound=bound)
    service._reader.join(PATIENCE)
    code = service.end()
    return code, service.log


def test_a_port_already_taken_is_named(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, log = run_once(tmp_path, settings_for(switch, planfix, tmp_path, HTTP_LISTEN=address))
    assert code == 1
    assert log == [
        f"Error: HTTP_LISTEN={address} cannot be used (Address already in use): "
        "stop what listens there or choose another port."
    ]


@pytest.mark.parametrize("at", ["/no/where/x.db", "/proc/x.db", "rubbish.db"])
def test_a_store_that_cannot_be_opened_is_named(
    switch: Switch, planfix: Planfix, tmp_path: Path, at: str
) -> None:
    """No folder, one that takes no file, and a file that is something else."""
    (tmp_path / "rubbish.db").write_bytes(b"rubbish " * 1000)
    settings = settings_for(switch, planfix, tmp_path, STORE_URL=f"sqlite:///{tmp_path / at}")
    code, log = run_once(tmp_path, settings)
    assert code == 1
    assert len(log) == 1
    assert "STORE_URL cannot be opened" in log[0]


@pytest.mark.parametrize("before", ["nothing", "stopped", "killed"])
def test_a_folder_that_cannot_be_written_is_named(
    switch: Switch, planfix: Planfix, tmp_path: Path, before: str
) -> None:
    """As on a file system that is read-only: neither the folder nor a file in it can be written."""
    folder = tmp_path / "store"
    folder.mkdir()
    settings = settings_for(switch, planfix, tmp_path, STORE_URL=f"sqlite:///{folder}/store.db")
    if before != "nothing":
        with started(Service(tmp_path, settings)) as service:
            if before == "killed":
                service.process.kill()
                service.process.wait()

    files = sorted(folder.iterdir())
    for path in [*files, folder]:
        path.chmod(0o555)
    try:
        said = [run_once(tmp_path, settings, bound=True) for _ in range(2)]
    finally:
        folder.chmod(0o755)
    assert sorted(folder.iterdir()) == files
    assert said[0] == said[1]
    code, log = said[0]
    assert code == 1
    assert len(log) == 1
    assert log[0].startswith("Error: The database ")
    assert log[0].endswith(f"(is the folder there, and may user {os.getuid()} write to it?).")


def test_every_trace_played_in_the_package_is_one_of_the_recorded_calls() -> None:
    for name in names():
        assert path_of(name).exists()
