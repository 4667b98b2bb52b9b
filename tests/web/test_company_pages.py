"""The dashboard where a switch serves several companies: each sees its own, an administrator all."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
import requests

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.web.live import MOST_OPEN

from ..support.service import PATIENCE, Service, settings_for, started
from ..support.traces import path_of
from ..support.visitor import PASSWORD, Visitor, rejected_ids

CLIENTS = {"a": "79161112233", "b": "79162223344"}
SHOWN = {"a": "+7 916 111-22-33", "b": "+7 916 222-33-44"}
ACCOUNT = """
[{name}]
planfix_url = "{url}"
planfix_token = "planfix-token"
pbx_token = "pbx-token-of-{name}"
domains = "{name}.example"
admin_password = "password-of-{name}"
view_password = "look-at-{name}"
"""


@pytest.fixture
def service(switch: Switch, planfix: Planfix, tmp_path: Path) -> Iterator[Service]:
    file = tmp_path / "accounts.toml"
    urls = {
        name: planfix.url.replace("127.0.0.1", host)
        for name, host in (("a", "127.0.0.1"), ("b", "localhost"))
    }
    file.write_text("".join(ACCOUNT.format(name=name, url=urls[name]) for name in CLIENTS))
    settings = settings_for(
        switch, planfix, tmp_path, ACCOUNTS_FILE=str(file), ADMIN_PASSWORD=PASSWORD
    )
    for name in ("PLANFIX_URL", "PLANFIX_TOKEN", "PBX_TOKEN"):
        del settings[name]
    with started(Service(tmp_path, settings)) as one:
        yield one


def play(switch: Switch, name: str, trace: str = "did_answered") -> str:
    swap = {"79161234567": CLIENTS[name], "a.example": f"{name}.example"}
    return switch.play(path_of(f"fusionpbx/{trace}"), 0, swap=swap)


def inside(service: Service, password: str) -> Visitor:
    visitor = Visitor(service)
    assert visitor.log_in(password).status_code == 302
    return visitor


def until(see: Callable[[], str], *words: str) -> str:
    with gevent.Timeout(PATIENCE):
        while not all(word in (page := see()) for word in words):
            gevent.sleep(0.01)
    return page


def test_each_company_sees_its_own_calls_and_an_administrator_all(
    service: Service, switch: Switch, planfix: Planfix
) -> None:
    callids = {name: play(switch, name) for name in CLIENTS}
    everything = inside(service, PASSWORD)
    until(everything.see, *SHOWN.values())
    for name, other in (("a", "b"), ("b", "a")):
        for password in (f"password-of-{name}", f"look-at-{name}"):
            visitor = inside(service, password)
            for path in ("/", "/calls", "/calls.csv", f"/calls/{callids[name]}"):
                page = visitor.see(path)
                assert SHOWN[name] in page or CLIENTS[name] in page, path
                assert SHOWN[other] not in page, path
                assert CLIENTS[other] not in page, path
            assert "account" not in visitor.see("/calls.csv")
            assert CLIENTS[other] not in visitor.see(f"/calls/{callids[other]}", code=404)
            visitor.see(f"/recording/1/{callids[other]}", code=404)
            figures = visitor.see("/figures")
            assert "<b>1</b><span>calls in all</span>" in figures
    rows = [line.split(",")[-2:] for line in everything.see("/calls.csv").splitlines()]
    assert sorted(rows) == sorted([["callid", "account"], *([callids[n], n] for n in CLIENTS)])
    figures = everything.see("/figures")
    assert "<b>2</b><span>calls in all</span>" in figures
    # the same ext of two companies is two people
    assert figures.count(">101</a>") == 2
    for name, callid in callids.items():
        assert f"<dt>Account</dt><dd>{name}</dd>" in everything.see(f"/calls/{callid}")
        assert "<dt>Account</dt>" not in inside(service, f"look-at-{name}").see(f"/calls/{callid}")


def test_a_refusal_names_the_setting_as_the_companys_file_does(
    service: Service, switch: Switch, planfix: Planfix
) -> None:
    planfix.answers.append("html")
    callid = play(switch, "a")
    visitor = inside(service, "look-at-a")
    until(lambda: visitor.see(f"/calls/{callid}"), "Is planfix_url right?")
    page = visitor.get(f"{service.address}/calls/{callid}", headers={"Accept-Language": "ru"})
    assert "Верен ли planfix_url?" in page.text


def test_what_happens_now_is_shown_to_its_company_alone(
    service: Service, switch: Switch, planfix: Planfix
) -> None:
    visitors = {name: inside(service, f"look-at-{name}") for name in CLIENTS}
    pages = {
        name: visitor.get(service.address + "/live", stream=True, timeout=PATIENCE)
        for name, visitor in visitors.items()
    }
    for name in CLIENTS:
        play(switch, name)
    for name, other in (("a", "b"), ("b", "a")):
        for line in pages[name].iter_lines(decode_unicode=True):
            assert SHOWN[other] not in line
            if SHOWN[name] in line:
                break
        pages[name].close()


def test_the_open_pages_of_one_company_leave_connections_to_the_others(service: Service) -> None:
    a, b = inside(service, "look-at-a"), inside(service, "look-at-b")

    def opened(visitor: Visitor) -> requests.Response:
        page = visitor.get(f"{service.address}/live", stream=True, timeout=PATIENCE)
        if page.status_code == 200:
            assert next(page.iter_lines())
        return page

    pages = [opened(a) for _ in range(MOST_OPEN)]
    assert {page.status_code for page in pages} == {200}
    assert opened(a).status_code == 503
    pages += [opened(b), opened(inside(service, PASSWORD))]
    assert {page.status_code for page in pages} == {200}
    pages.pop(0).close()
    with gevent.Timeout(PATIENCE):
        while (page := opened(a)).status_code != 200:
            gevent.sleep(0.01)
    for one in [page, *pages]:
        one.close()


def test_a_company_changes_its_own_rejected_notices_alone(
    service: Service, switch: Switch, planfix: Planfix
) -> None:
    for name in CLIENTS:
        planfix.answers.append(400)
        play(switch, name)
        service.wait_for(f"notice_rejected .*account={name}")
        service.wait_for(f"delivered .*kind=COMPLETED .*account={name}")
    a, b = inside(service, "password-of-a"), inside(service, "password-of-b")
    (of_a,), (of_b,) = rejected_ids(a.see_rejected(1)), rejected_ids(b.see_rejected(1))
    assert of_a != of_b
    assert len(rejected_ids(inside(service, PASSWORD).see())) == 2
    assert a.press("/rejected/drop", a.see(), ids=of_b, sure="yes").status_code == 302
    assert rejected_ids(b.see()) == [of_b]
    assert a.press("/rejected/drop", a.see(), all="yes", sure="yes").status_code == 302
    assert rejected_ids(a.see()) == []
    assert rejected_ids(b.see()) == [of_b]
    viewer = inside(service, "look-at-b")
    assert viewer.press("/rejected/drop", viewer.see(), ids=of_b, sure="yes").status_code == 403


def test_a_page_names_the_buckets_of_its_own_company_alone(
    service: Service, switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    """Also of companies that came, or got a bucket, while the service ran."""
    file = tmp_path / "accounts.toml"
    of_a, heading, of_b = file.read_text().partition("[b]")
    kept = """
recordings_dir = "/srv/{0}"
recordings_s3 = "s3://kept-{0}"
recordings_s3_endpoint = "https://s3-of-{0}.example"
recordings_s3_key = "key"
recordings_s3_secret = "secret"
"""
    file.write_text(of_a + kept.format("a") + heading + of_b + kept.format("b"))
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("accounts_reloaded accounts=2")

    def origins(visitor: Visitor, path: str) -> list[str]:
        policy = visitor.get(service.address + path, timeout=PATIENCE).headers[
            "Content-Security-Policy"
        ]
        return sorted(set(re.findall(r"s3-of-(.)", policy)))

    assert origins(Visitor(service), "/login") == []
    for name in CLIENTS:
        assert origins(inside(service, f"look-at-{name}"), "/calls") == [name]
    assert origins(inside(service, PASSWORD), "/calls") == ["a", "b"]


def test_logging_out_ends_the_sessions_of_one_company(service: Service) -> None:
    a, b = inside(service, "password-of-a"), inside(service, "password-of-b")
    assert a.press("/logout", a.see()).headers["Location"] == "/login"
    assert "No active calls." not in a.see()
    assert "No active calls." in b.see()
    assert "a</span>" not in b.see().split("</header>")[0]


def test_calls_of_no_company_are_shown_to_whoever_sees_all(
    service: Service, switch: Switch, planfix: Planfix
) -> None:
    swap = {"a.example": "c.example"}
    switch.play(path_of("fusionpbx/did_answered"), 0, swap=swap)
    page = until(inside(service, PASSWORD).see, "Calls of no company")
    assert "domains = [&#34;c.example&#34;]" in page or 'domains = ["c.example"]' in page
    assert "Calls of no company" not in inside(service, "password-of-a").see()
