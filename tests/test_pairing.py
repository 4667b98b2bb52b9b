"""A service that belongs to no Planfix yet, and to the first that says so."""

import re
import stat
from pathlib import Path

import gevent
import pytest
import trustme

from fsplanfix.outbox.store import Store
from fsplanfix.planfix.pairing import PAIRING, Pairing, Partner, keep_looking, stored_partner
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.commands import run_cli
from .support.deliveries import told
from .support.service import PATIENCE, Service, settings_for, started
from .support.tls import by_https, trusting
from .support.traces import by_ext, wanted
from .support.visitor import PASSWORD, Visitor

CALL = "group_answered"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def settings(
    switch: Switch, planfix: Planfix, tmp_path: Path, authority: trustme.CA
) -> dict[str, str]:
    """Settings that name no Planfix."""
    made = settings_for(switch, planfix, tmp_path, ADMIN_PASSWORD=PASSWORD)
    del made["PLANFIX_URL"], made["PLANFIX_TOKEN"]
    return {**made, **trusting(tmp_path, authority)}


def set_up(service: Service, url: str, **more: str) -> tuple[int, str]:
    fields = {"planfix_url": url, "planfix_token": "planfix-token", "token": "pbx-token-1", **more}
    answer = service.click(cmd="setup", **fields)
    return answer.status_code, answer.json().get("error", "")


def test_calls_are_kept_until_setup_says_which_planfix_it_is(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    settings: dict[str, str],
    authority: trustme.CA,
) -> None:
    # windows would be too late on a slow machine
    settings = {**settings, "POPUP_TTL": "0"}
    store_url = settings["STORE_URL"]
    with by_https(planfix, authority) as url:
        with started(Service(tmp_path, settings)) as service:
            service.wait_for("waits_for_setup .*enter our address and PBX_TOKEN in Planfix")
            assert service.get("/health/ready").status_code == 200
            callid = switch.play(CALL, speed=0)
            service.wait_for("notice_created.*kind=record")
            assert planfix.received == []

            visitor = Visitor(service)
            visitor.log_in()
            assert "Planfix: not paired yet." in visitor.see()

            found = run_cli(tmp_path, "check", **settings).stdout
            assert "! Planfix           none has paired yet: calls are kept" in found

            assert set_up(service, url, token="another-key")[0] == 401
            assert planfix.asked == 0
            assert set_up(service, url) == (200, "")
            planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(CALL)))
            assert by_ext(told(planfix, callid)) == by_ext(wanted(CALL))

            assert "Planfix: last accepted" in visitor.see()
            assert "planfix-token" not in visitor.see()

            # a running pairing is never redirected
            code, sentence = set_up(service, "https://evil.example/tel/api")
            assert code == 400
            assert "run fsplanfix unpair" in sentence
            service.wait_for("level=error.*setup_refused|setup_refused.*level=error")
            assert "planfix-token" not in "\n".join(service.log)

        # the next start knows it
        with started(Service(tmp_path, settings)) as service:
            callid = switch.play(CALL, speed=0)
            planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(CALL)))
            assert not any("waits_for_setup" in line for line in service.log)
            found = run_cli(tmp_path, "check", **settings).stdout
            assert f"paired by `setup`: {url}" in " ".join(found.split())
            assert "planfix-token" not in found

    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600
    done = run_cli(tmp_path, "unpair", "--yes", STORE_URL=store_url)
    assert (done.returncode, done.stdout.split(" is forgotten")[0]) == (0, url)
    assert stored_partner(Store(store_url)) is None
    again = run_cli(tmp_path, "unpair", STORE_URL=store_url)
    assert (again.returncode, "No Planfix account has paired" in again.stdout) == (0, True)


def test_a_setup_that_another_worker_answers_pairs_all_of_them(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    settings: dict[str, str],
    authority: trustme.CA,
) -> None:
    settings = {**settings, "POPUP_TTL": "0"}
    with by_https(planfix, authority) as url:
        sender = Service(tmp_path, settings, "--only", "courier")
        sender.wait_for("waits_for_setup")
        with started(Service(tmp_path, settings, "--only", "web", "--only", "events")) as other:
            callid = switch.play(CALL, speed=0)
            assert set_up(other, url) == (200, "")
            planfix.wait_for(lambda crm: len(told(crm, callid)) == len(wanted(CALL)))
        sender.end()


def test_a_store_that_others_could_read_is_closed_before_it_holds_a_token(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/store.db", tmp_path / "store.db"
    store = Store(url)
    file.chmod(0o644)
    partner = Partner("https://example.planfix.com/tel/api", "planfix-token")
    assert Pairing(store, "", "").take(partner) == partner
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["store.db"] == 0o640
    assert not any(mode & 0o007 for mode in modes.values()), modes
    assert re.search(PAIRING, str(store.facts.beginning("planfix")))


def test_each_company_belongs_to_the_planfix_that_came_with_its_own_key(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsplanfix.planfix.pairing.LOOK_EVERY", 0.0)
    first, second = (Partner(f"https://{name}.planfix.com/tel/api", name) for name in ("a", "b"))
    here = {name: Pairing(store, "", "", name) for name in ("a", "b")}
    told_of: list[Partner] = []
    here["b"].then(told_of.append)
    # another worker is asked
    assert Pairing(store, "", "", "a").take(first) == first
    looking = gevent.spawn(keep_looking, store, here.values())
    with gevent.Timeout(PATIENCE):
        while here["a"].partner is None:
            gevent.sleep(0)
    assert (here["a"].partner, here["b"].partner, told_of) == (first, None, [])
    assert Pairing(store, "", "", "b").take(second) == second
    looking.join(PATIENCE)
    assert (here["a"].partner, told_of) == (first, [second])
    assert Pairing(store, "", "").partner is None
