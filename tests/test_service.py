"""The whole service, between a simulated FreeSWITCH and a strict Planfix, over real sockets."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fsplanfix.simulators.freeswitch import Switch, variables
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import names

from .support.commands import call_cli
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


@pytest.mark.parametrize(
    ("recording", "outcome"),
    [
        ("makecall_answered", ["O101", "A101", "S101"]),
        ("makecall_client_busy", ["O101", "B101"]),
    ],
)
def test_a_click_in_planfix_makes_a_call(
    switch: Switch, planfix: Planfix, tmp_path: Path, recording: str, outcome: list[str]
) -> None:
    switch.makecall, switch.speed = recording, 20
    with running(switch, planfix, tmp_path, OUTBOUND_CALLER_ID="74950000000") as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "102", "to": "+7 926 000-11-22"}
        )
        assert (answer.status_code, answer.json()) == (200, {})
        planfix.wait_for(lambda crm: len(crm.accepted) == len(outcome) + 1)
    # the employee's phone shows the client's name
    contact, first, *_ = planfix.accepted
    assert (contact["cmd"], contact["phone"]) == ("contact", "79260001122")
    assert (first["phone"], first["ext"], first["diversion"]) == (
        "79260001122",
        "102",
        "74950000000",
    )
    assert told(planfix, first["callid"]) == [token.replace("101", "102") for token in outcome]
    assert len(switch.originated) == 1


def test_a_click_on_a_colleague_rings_him_and_is_not_reported(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.makecall, switch.speed = path_of("click_colleague"), 50
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "102"})
        assert (answer.status_code, answer.json()) == (200, {})
        service.wait_for("event=click_to_call .*ext=101.*phone=102")
        honest = switch.play("in_one_answered")
        planfix.wait_for(lambda crm: "COMPLETED" in [f.get("event") for f in crm.accepted])
    assert {fields["callid"] for fields in planfix.accepted} == {honest}
    (command,) = switch.originated
    assert command.endswith("}user/102)")


@pytest.mark.parametrize("context", ["", "planfix_click"])
def test_a_click_is_recorded_where_freeswitch_has_its_folder(
    switch: Switch, planfix: Planfix, tmp_path: Path, context: str
) -> None:
    switch.speed = 20
    settings = {
        "RECORD_CLICKS": "true",
        "RECORD_STEREO": "true",
        "RECORDINGS_MAP": f"/usr/recordings:{tmp_path}",
        "DIAL_CONTEXT": context,
    }
    with running(switch, planfix, tmp_path, **settings) as service:
        service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"})
        planfix.wait_for(lambda crm: "OUTGOING" in [f.get("event") for f in crm.accepted])
    (command,) = switch.originated
    employee, *client = map(variables, re.findall(r"\{[^{}]*\}", command))
    wanted = {
        "execute_on_answer": f"record_session /usr/recordings/{employee['origination_uuid']}.wav",
        "RECORD_STEREO": "true",
    }
    if context:
        wanted = {f"nolocal:{name}": value for name, value in wanted.items()}
        assert set(employee["export_vars"].split(",")) == set(wanted)
        client = [employee]
    assert wanted.items() <= client[0].items()


@pytest.mark.parametrize(
    ("settings", "ringback"),
    [
        ({}, "%(800,3200,425)"),
        ({"COUNTRY": "KZ"}, "%(1000,4000,425)"),
        ({"RINGBACK": "tone_stream://%(2000,4000,440,480)"}, "%(2000,4000,440,480)"),
    ],
)
def test_after_a_click_the_employee_hears_the_tone_of_the_country_or_the_one_that_is_set(
    switch: Switch, planfix: Planfix, tmp_path: Path, settings: dict[str, str], ringback: str
) -> None:
    switch.speed = 20
    with running(switch, planfix, tmp_path, DIAL_ALLOW=r"\d+", **settings) as service:
        service.click(cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"})
        planfix.wait_for(lambda crm: "OUTGOING" in [f.get("event") for f in crm.accepted])
    (command,) = switch.originated
    assert variables(command[command.index("{") : command.index("}")])["transfer_ringback"] == (
        ringback
    )


def test_planfix_is_answered_while_the_phone_still_rings(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.speed = 0.01
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "101", "to": "79161234567"}
        )
        assert answer.status_code == 200
        assert not any("click_to_call" in line for line in service.log)


def test_a_click_for_a_phone_that_is_off_is_refused_with_the_reason(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "105", "to": "79161234567"}
        )
        assert (answer.status_code, answer.json()["reason"]) == (
            400,
            "Extension 105 cannot be called: no phone is registered",
        )
        assert 'fsplanfix_clicks_total{outcome="REFUSED"} 1.0' in service.get("/metrics").text
    assert (switch.originated, planfix.received) == ([], [])
    told = call_cli(
        tmp_path, "explain", "79161234567", STORE_URL=f"sqlite:///{tmp_path}/store.db"
    ).stdout
    assert (
        "click to call refused: Extension 105 cannot be called: no phone is registered"
        in " ".join(told.split())
    )


def test_a_phone_that_goes_off_at_that_moment_shows_in_the_log_the_numbers_and_explain(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.contacts = {"105": "sofia/internal/sip:105@127.0.0.1:6105"}
    with running(switch, planfix, tmp_path) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "105", "to": "79161234567"}
        )
        assert answer.status_code == 200
        callid = service.wait_for("click_to_call_failed.*callid=(\\S+).*USER_NOT_REGISTERED")[1]
        assert (
            'fsplanfix_clicks_total{outcome="USER_NOT_REGISTERED"} 1.0'
            in service.get("/metrics").text
        )
    assert [request.fields["cmd"] for request in planfix.received] == ["contact"]
    explained = call_cli(tmp_path, "explain", callid, STORE_URL=f"sqlite:///{tmp_path}/store.db")
    assert explained.returncode == 0
    assert "click to call: the employee's phone is off" in explained.stdout
    last = call_cli(tmp_path, "explain", "--last", STORE_URL=f"sqlite:///{tmp_path}/store.db")
    assert last.stdout == explained.stdout


def test_a_click_goes_to_the_switch_where_the_phone_is_registered(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    other = Switch()
    other.start()
    switch.registered, other.registered = {"101"}, {"102"}
    both = f"esl://:ClueCon@127.0.0.1:{switch.port},esl://:ClueCon@127.0.0.1:{other.port}"
    with running(switch, planfix, tmp_path, FREESWITCH_ESL=both) as service:
        for port in (switch.port, other.port):
            service.wait_for(f"freeswitch_linked server=127.0.0.1:{port}")
        for ext in ("101", "102", "103"):
            service.click(cmd="makeCall", token="pbx-token-1", **{"from": ext, "to": "79161234567"})
        service.wait_for("ext=102.*kind=OUTGOING")
        service.wait_for("ext=101.*kind=OUTGOING")
    other.stop()
    assert [len(switch.originated), len(other.originated)] == [1, 1]
    assert "}user/101 " in switch.originated[0]
    assert "}user/102 " in other.originated[0]


@pytest.mark.parametrize(
    ("aliases", "registered", "leg"),
    [
        ("1001:501", {"1001"}, "}user/1001 "),
        ("79260000007:501", set[str](), "}sofia/gateway/trunk/79260000007 "),
        ("1001:501,79260000007:501", set[str](), "}sofia/gateway/trunk/79260000007 "),
        ("1001:501,79260000007:501", {"1001"}, "}user/1001 "),
        ("501:777,1001:501", {"501", "1001"}, "}user/1001 "),
        ("ivan.petrov:501", {"ivan.petrov"}, "}user/ivan.petrov "),
    ],
)
def test_a_short_code_of_planfix_calls_whoever_it_is_an_alias_of(
    switch: Switch, planfix: Planfix, tmp_path: Path, aliases: str, registered: set[str], leg: str
) -> None:
    switch.users, switch.registered = {"501", "1001", "ivan.petrov"}, registered
    with running(switch, planfix, tmp_path, EXTENSION_ALIASES=aliases) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-1", **{"from": "501", "to": "79161234567"}
        )
        assert answer.status_code == 200
        planfix.wait_for(
            lambda crm: any(fields.get("event") == "OUTGOING" for fields in crm.accepted)
        )
    assert leg in switch.originated[0]
    assert {f["ext"] for f in planfix.accepted if f["cmd"] == "event"} == {"501"}


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


def test_every_recording_played_in_the_package_is_one_of_the_recorded_calls() -> None:
    for name in names():
        assert path_of(name).exists()


@pytest.mark.parametrize(
    ("settings", "leg"),
    [
        ({}, "}sofia/gateway/trunk/989161234567)"),
        ({"DIAL_CONTEXT": "default"}, " 989161234567 XML default"),
    ],
)
def test_a_click_dials_what_the_rules_say_and_reports_the_clients_number(
    switch: Switch, planfix: Planfix, tmp_path: Path, settings: dict[str, str], leg: str
) -> None:
    switch.speed, switch.registered = 20, {"102"}
    rules = {"DIAL_RULES": r"7(\d{10})=98$1", "EXTENSION_ALIASES": "79260000007:501"}
    with running(switch, planfix, tmp_path, **rules, **settings) as service:
        for ext in ("102", "501"):
            click = {"cmd": "makeCall", "from": ext, "to": "8 (916) 123-45-67"}
            assert service.click(**click, token="pbx-token-1").status_code == 200
            service.wait_for(f"click_to_call .*ext={ext}")
        service.wait_for("notice_created.*kind=OUTGOING")
    assert all(leg in command for command in switch.originated)
    # the employee's mobile is dialled through the same trunk
    assert any("}sofia/gateway/trunk/989260000007 " in command for command in switch.originated)
    phones = [set(re.findall(r"planfix_phone=(\d+)", command)) for command in switch.originated]
    assert phones == [{"79161234567"}] * 2
