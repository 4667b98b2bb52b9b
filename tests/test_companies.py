"""Two companies on one switch, each with a Planfix of its own, over real sockets.

Both have the exts 101 to 103, and the calls are FusionPBX's own.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gevent
import pytest
import requests

from fsplanfix.outbox.store import Store
from fsplanfix.recordings.urls import RecordingUrls
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.deliveries import link_to_the_recording, told
from .support.dialplan_socket import CHANNEL_DATA, read_until
from .support.outbox import GROUP
from .support.service import PATIENCE, Service, settings_for, started
from .support.traces import path_of
from .support.visitor import PASSWORD, Visitor

pytestmark = pytest.mark.no_cover

NAMES = ("a", "b")
FILE = """
[{name}]
planfix_url = "{url}"
planfix_token = "token-of-{name}"
pbx_token = "pbx-token-of-{name}"
domains = ["{name}.example"]
dial_string = "sofia/gateway/trunk-of-{name}/{{number}}"
outbound_caller_id = "{line}"
admin_password = "password-of-{name}"
"""
LINES = {"a": "74950001000", "b": "74950002000"}
OF_B = {"a.example": "b.example"}
"""What makes a recorded call of company a one of company b."""


@pytest.fixture
def planfixes() -> Iterator[dict[str, Planfix]]:
    """Each takes its own token only."""
    stand_ins = {name: Planfix(token=f"token-of-{name}") for name in NAMES}
    for stand_in in stand_ins.values():
        stand_in.start()
    yield stand_ins
    for stand_in in stand_ins.values():
        stand_in.stop()


@contextmanager
def companies(
    switch: Switch,
    planfixes: dict[str, Planfix],
    folder: Path,
    domains: str = '["a.example"]',
    **more: str,
) -> Iterator[Service]:
    """Serve both companies. domains: those of company a."""
    file = folder / "accounts.toml"
    text = "".join(
        FILE.format(name=name, url=planfix.url, line=LINES[name])
        for name, planfix in planfixes.items()
    )
    file.write_text(text.replace('["a.example"]', domains))
    settings = settings_for(switch, planfixes["a"], folder, ACCOUNTS_FILE=str(file), **more)
    for name in ("PLANFIX_URL", "PLANFIX_TOKEN", "PBX_TOKEN"):
        del settings[name]
    with started(Service(folder, settings)) as service:
        yield service


def asked(service: Service, context: str, more: str = "") -> str:
    """What the dialplan is told of a client's call. more: further lines of its channel's data."""
    data = re.sub(
        r"^Caller-Context: .*$", f"{more}Caller-Context: {context}", CHANNEL_DATA, flags=re.M
    )
    host, _, port = service.socket_app.rpartition(":")
    said = b""
    with gevent.socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        assert read_until(sock, b"\n\n") == b"connect\n\n"
        sock.sendall(data.encode())
        while not said.endswith(b"exit\n\n"):
            said += read_until(sock, b"\n\n")
            sock.sendall(b"Content-Type: command/reply\nReply-Text: +OK\n\n")
    return said.decode()


def seen(planfix: Planfix) -> list[str]:
    return sorted(
        f"{fields.get('event', fields['cmd'])} {fields.get('ext', '')}".strip()
        for fields in planfix.accepted
    )


def test_each_company_sees_its_own_call_of_the_same_ext_at_the_same_moment(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    trace = path_of("fusionpbx/group_simultaneous")
    with companies(switch, planfixes, tmp_path):
        playing = [
            gevent.spawn(switch.play, trace, 0, swap={"79161234567": client, **swap})
            for client, swap in (("79161112233", {}), ("79162223344", OF_B))
        ]
        gevent.joinall(playing)
        for planfix in planfixes.values():
            planfix.wait_for(lambda crm: len(crm.accepted) == 7)
    for job, client, planfix in zip(
        playing, ("79161112233", "79162223344"), planfixes.values(), strict=True
    ):
        assert sorted(told(planfix, str(job.value))) == sorted(
            ["I101", "I102", "I103", "A102", "X101", "X103", "S102"]
        )
        assert {fields["phone"] for fields in planfix.accepted} == {client}
        assert len(planfix.received) == 7
        assert planfix.history.surprises == []


def test_a_dead_planfix_of_one_company_is_nothing_to_the_other(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    planfixes["a"].stop()
    trace = path_of("fusionpbx/did_answered")
    with companies(switch, planfixes, tmp_path) as service:
        switch.play(trace, 0)
        service.wait_for("not_delivered .*account=a")
        callid = switch.play(trace, 0, swap=OF_B)
        planfixes["b"].wait_for(lambda crm: told(crm, callid) == ["I101", "A101", "S101"])


def test_what_is_wrong_with_a_company_is_said_in_the_words_of_its_file(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    planfixes["a"].answers.append("html")
    planfixes["b"].token = "another"
    trace = path_of("fusionpbx/did_answered")
    with companies(switch, planfixes, tmp_path) as service:
        switch.play(trace, 0)
        service.wait_for("not_delivered .*is planfix_url right.*account=a")
        switch.play(trace, 0, swap=OF_B)
        service.wait_for("planfix_token_unknown .*compare planfix_token with.*account=b")

        click = {"cmd": "makeCall", "from": "101", "to": "+380501234567"}
        refused = service.click(token="pbx-token-of-a", **click)
        assert "dial_allow can allow it" in refused.json()["reason"]
        setup = {"cmd": "setup", "planfix_url": planfixes["b"].url, "planfix_token": "a-third"}
        refused = service.click(token="pbx-token-of-b", **setup)
        assert "put the one shown here into planfix_token" in refused.json()["error"]
        service.wait_for("setup_refused .*into planfix_token.*account=b")


def test_a_link_of_one_company_opens_nothing_of_the_other(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    switch.recordings_dir = str(tmp_path / "recordings")
    folder = f"{switch.recordings_dir}/{{domain}}"
    trace = path_of("fusionpbx/record_inbound")
    with companies(switch, planfixes, tmp_path, RECORDINGS_DIR=folder) as service:
        links = {}
        for name, swap in (("a", {}), ("b", OF_B)):
            switch.play(trace, 0, swap=swap)
            links[name] = link_to_the_recording(planfixes[name])

        def code(link: str) -> int:
            return requests.get(link, timeout=PATIENCE).status_code

        assert {name: code(link) for name, link in links.items()} == {"a": 200, "b": 200}
        assert "/recordings/a/" in links["a"]
        assert code(links["a"].replace("/recordings/a/", "/recordings/b/")) == 404
        assert code(links["a"].replace("/recordings/a/", "/recordings/")) == 404
        assert code(links["a"].replace("/recordings/a/", "/recordings/nobody/")) == 404
        service.wait_for("recording_refused code=404")


def test_a_link_made_before_there_were_companies_goes_on_working(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "x.wav").write_bytes(b"RIFF")
    more = {"RECORDINGS_DIR": f"{folder}/{{domain}}", "SECRET_KEY": "a-key-of-ours"}
    with companies(switch, planfixes, tmp_path, **more) as service:
        before = RecordingUrls(service.address, ["a-key-of-ours"])
        link = before.url("c1", str(folder / "x.wav"))
        outside = before.url("c1", str(tmp_path / "accounts.toml"))
        assert requests.get(link, timeout=PATIENCE).status_code == 200
        assert requests.get(outside, timeout=PATIENCE).status_code == 404


def test_a_companys_page_plays_nothing_out_of_the_others_folder(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    """Whatever path a dialplan of its own names."""
    folder = tmp_path / "recordings" / "b.example"
    folder.mkdir(parents=True)
    (folder / "x.wav").write_bytes(b"RIFF")
    more = {"RECORDINGS_DIR": f"{folder.parent}/{{domain}}", "ADMIN_PASSWORD": PASSWORD}
    with companies(switch, planfixes, tmp_path, **more) as service:
        store = Store(f"sqlite:///{tmp_path}/store.db")
        said = [replace(notice, account="a") for notice in GROUP]
        said[-1] = replace(said[-1], recording=str(folder / "x.wav"))
        store.save(said, {"c1": None}, "s", now=1.0)
        store.close()
        codes = {}
        for password in ("password-of-a", PASSWORD):
            visitor = Visitor(service)
            visitor.log_in(password)
            codes[password] = visitor.get(
                f"{visitor.at}/recording/1/c1", timeout=PATIENCE
            ).status_code
    assert codes == {"password-of-a": 404, PASSWORD: 200}


def test_a_click_rings_its_own_companys_users_through_its_own_trunk(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    switch.speed = 20
    with companies(switch, planfixes, tmp_path) as service:

        def click(token: str, path: str = "") -> int:
            fields = {"cmd": "makeCall", "from": "101", "to": "+7 926 000-11-22", "token": token}
            answer = requests.post(
                f"{service.address}/planfix{path}", data=fields, timeout=PATIENCE
            )
            return answer.status_code

        assert click("pbx-token-of-a", "/b") == click("pbx-token-of-a", "/nobody") == 401
        assert click("pbx-token-1") == 401
        assert [click("pbx-token-of-a"), click("pbx-token-of-b", "/b")] == [200, 200]
        for name in NAMES:
            planfixes[name].wait_for(
                lambda crm: [f["event"] for f in crm.accepted if "event" in f][-1:] == ["COMPLETED"]
            )

    by_account = {
        str(re.search(r"planfix_account=(\w+)", command)): command for command in switch.originated
    }
    assert len(by_account) == len(switch.originated) == 2
    for command in switch.originated:
        found = re.search(r"planfix_account=(\w+)", command)
        assert found is not None
        name = found[1]
        assert f"user/101@{name}.example" in command
        assert f"sofia/gateway/trunk-of-{name}/79260001122" in command
        assert LINES[name] in command
        told_of = {f["callid"] for f in planfixes[name].accepted if "event" in f}
        assert len(told_of) == 1
        assert told_of.pop() in command


def test_a_click_of_a_company_without_a_domain_rings_nobody(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    """FreeSWITCH would take the domain of its own, with another company's users."""
    file = tmp_path / "accounts.toml"
    file.write_text(
        FILE.format(name="a", url=planfixes["a"].url, line=LINES["a"]).replace(
            'domains = ["a.example"]', 'domains = ["a.example", "a2.example"]'
        )
    )
    settings = settings_for(switch, planfixes["a"], tmp_path, ACCOUNTS_FILE=str(file))
    with started(Service(tmp_path, settings)) as service:
        answer = service.click(
            cmd="makeCall", token="pbx-token-of-a", **{"from": "101", "to": "79260001122"}
        )
    assert answer.status_code == 400
    assert "user_domain" in answer.json()["reason"]
    assert switch.originated == []


def test_a_company_is_not_paired_with_the_planfix_of_another(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    """Somebody entered b's key in a's Planfix."""
    url = "https://a.planfix.com/tel/api"
    file = tmp_path / "accounts.toml"
    of_a, of_b = (FILE.format(name=name, url=url, line=LINES[name]) for name in NAMES)
    file.write_text(of_a + re.sub("planfix_.*\n", "", of_b))
    settings = settings_for(switch, planfixes["a"], tmp_path, ACCOUNTS_FILE=str(file))
    with started(Service(tmp_path, settings)) as service:

        def set_up(url: str, token: str) -> requests.Response:
            fields = {"cmd": "setup", "planfix_url": url, "planfix_token": token}
            return service.click(token="pbx-token-of-b", **fields)

        answer = set_up("https://A.planfix.com/tel/api/", "token-of-a")
        assert answer.status_code == 400
        assert "another company's" in answer.json()["error"]
        assert set_up("https://b.planfix.com/tel/api", "token-of-b").status_code == 200


def test_a_caller_has_the_name_that_the_called_company_knows(
    switch: Switch, planfixes: dict[str, Planfix], tmp_path: Path
) -> None:
    found = re.search(r"^Caller-Caller-ID-Number: (.*)$", CHANNEL_DATA, re.MULTILINE)
    assert found is not None
    for name, planfix in planfixes.items():
        contact = {"contact_name": f"Client of {name}", "manager": "101"}
        planfix.contacts = {found[1].strip().lstrip("+"): contact}

    with companies(switch, planfixes, tmp_path) as service:
        for name in NAMES:
            assert f"planfix_contact_name=Client of {name}" in asked(service, f"{name}.example")
        assert "planfix_" not in asked(service, "c.example")


@pytest.mark.parametrize(
    ("domains", "domain_name", "rung"),
    [
        ('["a.example"]', "A.example", "user/101@A.example"),
        ('["a.example"]', "b.example", "user/101@a.example"),
        ('["a.example"]', "c.example", "user/101@a.example"),
        ('["a.example", "a2.example"]', "a2.example", "user/101@a2.example"),
        ('["a.example", "a2.example"]', "b.example", ""),
        ('["a.example", "a2.example"]', "", ""),
    ],
)
def test_a_ring_stays_in_the_domains_of_its_own_company(
    switch: Switch,
    planfixes: dict[str, Planfix],
    tmp_path: Path,
    domains: str,
    domain_name: str,
    rung: str,
) -> None:
    """Whichever domain the dialplan names: FreeSWITCH's own may be another company's, too."""
    for planfix in planfixes.values():
        planfix.contacts = {"79161234567": {"contact_name": "Client", "manager": "101"}}
    with companies(switch, planfixes, tmp_path, domains=domains) as service:
        more = f"variable_domain_name: {domain_name}\n" if domain_name else ""
        said = asked(service, "a.example", more)
    assert "planfix_known=true" in said
    assert re.findall(r"user/[^|\n]*", said) == [rung] * bool(rung)
