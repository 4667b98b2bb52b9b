"""What `fsplanfix check` says of FreeSWITCH, its users and its gateways."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fsplanfix.admin.findings import Finding, Grade
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.freeswitch import Switch

from ..support.findings import says


def test_freeswitch_that_is_down_or_refuses(
    look: Callable[..., list[Finding]], switch: Switch
) -> None:
    says(
        look(FREESWITCH_ESL=f"esl://:wrong@127.0.0.1:{switch.port}"),
        Grade.BROKEN,
        "refuses the password",
    )
    switch.refuse_addresses = True
    says(look(), Grade.BROKEN, "refuses our address")
    switch.stop()
    down = says(look(), Grade.BROKEN, "cannot be reached (Connection refused)")
    assert down.hint == "is it running, mod_event_socket loaded?"


def test_each_of_several_switches_is_looked_at(
    look: Callable[..., list[Finding]], switch: Switch
) -> None:
    findings = look(
        FREESWITCH_ESL=f"esl://:a-good-one@127.0.0.1:{switch.port},esl://:x@127.0.0.1:9"
    )
    says(findings, Grade.OK, "accepts the password")
    assert says(findings, Grade.BROKEN, "cannot be reached").part == "127.0.0.1:9"


def test_freeswitch_that_is_old_strict_or_late(
    look: Callable[..., list[Finding]], switch: Switch
) -> None:
    switch.version, switch.denied, switch.ahead = "1.8.7-release", {"show"}, 100.0
    findings = look()
    says(findings, Grade.WARNING, "version 1.8.7")
    says(findings, Grade.BROKEN, "`show channels` is not allowed")
    says(findings, Grade.WARNING, "its clock differs from ours by")
    switch.denied = {"show", "status", "strftime", "list_users", "sofia"}
    says(look(), Grade.WARNING, "its version is unknown")


@pytest.mark.parametrize(
    ("version", "old"), [("1.10.2-release", True), ("1.10.3-release", False), ("1.11.2", False)]
)
def test_a_freeswitch_on_which_a_click_may_call_the_client_first_is_found(
    look: Callable[..., list[Finding]], switch: Switch, version: str, old: bool
) -> None:
    switch.version = version
    assert any("a click may call the client first" in finding.hint for finding in look()) == old


def test_a_version_of_five_thousand_digits_is_none(
    look: Callable[..., list[Finding]], switch: Switch
) -> None:
    switch.version = f"1.10.{'9' * 5000}"
    says(look(), Grade.WARNING, "its version is unknown")


@pytest.mark.parametrize(
    ("gateways", "words"),
    [({}, "gateway trunk does not exist"), ({"trunk": "FAIL_WAIT"}, "gateway trunk is FAIL_WAIT")],
)
def test_a_gateway_that_cannot_call(
    look: Callable[..., list[Finding]], switch: Switch, gateways: dict[str, str], words: str
) -> None:
    switch.gateways = gateways
    says(look(), Grade.BROKEN, words)
    assert not [
        finding for finding in look(DIAL_CONTEXT="default") if "gateway trunk" in finding.what
    ]


def test_every_gateway_that_a_setting_names_is_looked_at(
    look: Callable[..., list[Finding]], switch: Switch
) -> None:
    switch.gateways = {"trunk": "NOREG", "second": "REGED", "third": "FAIL_WAIT"}
    strings = ",".join(
        f"{ext}:sofia/gateway/{name}/{{number}}"
        for ext, name in (("101", "second"), ("102", "third"), ("103", "fuorth"), ("104", "trunk"))
    )
    findings = look(DIAL_STRINGS=strings)
    says(findings, Grade.OK, "gateway trunk is up")
    says(findings, Grade.OK, "gateway second is up")
    says(findings, Grade.BROKEN, "gateway third is FAIL_WAIT")
    hint = says(findings, Grade.BROKEN, "gateway fuorth does not exist").hint
    assert "name yours in DIAL_STRINGS" in hint

    # through a context only mobiles are called by these strings
    for_mobiles = look(DIAL_CONTEXT="default", EXTENSION_ALIASES="79260000007:101")
    says(for_mobiles, Grade.OK, "gateway trunk is up")


def test_freeswitch_without_a_domain_needs_the_setting(
    look: Callable[..., list[Finding]], switch: Switch
) -> None:
    """As FusionPBX is: a click said that no phone is registered, and the check said nothing."""
    users = switch.users
    assert not [finding for finding in look() if "USER_DOMAIN" in finding.what]

    del switch.globals["domain"]
    switch.users = set()
    switch.registrations = [("101", "a.example"), ("101", "b.example"), ("102", "b.example")]
    finding = says(look(DIAL_CONTEXT="default"), Grade.BROKEN, "USER_DOMAIN is missing")
    assert "the domain of your users: b.example, a.example" in finding.hint
    assert not [f for f in look(USER_DOMAIN="a.example") if "USER_DOMAIN" in f.what]

    switch.registrations = []
    says(look(), Grade.BROKEN, "USER_DOMAIN is missing")
    switch.users, switch.denied = users, {"global_getvar"}
    assert not [finding for finding in look() if "USER_DOMAIN" in finding.what]


def test_a_pattern_that_fits_nobody(look: Callable[..., list[Finding]]) -> None:
    says(
        look(EXTENSION_PATTERN=r"^7\d{3}$"),
        Grade.BROKEN,
        "EXTENSION_PATTERN matches none of 5 users",
    )


def test_users_without_an_ext_are_named(look: Callable[..., list[Finding]], switch: Switch) -> None:
    switch.users |= {"ivanov", "door", "200"}
    switch.number_aliases = {"door": "107"}
    findings = look(EXTENSION_PATTERN=r"^1\d{2}$", TRUNK_USERS="200")
    says(findings, Grade.OK, "5 of 8 users have an ext")
    finding = says(findings, Grade.WARNING, "without an ext: door, ivanov")
    assert "EXTENSION_ALIASES=door:107" in finding.hint


def test_of_many_users_without_an_ext_a_few_are_named(
    look: Callable[..., list[Finding]], switch: Switch
) -> None:
    switch.users |= {f"door{number:02}" for number in range(9)}
    says(look(), Grade.WARNING, "door00, door01, door02, door03, door04 and 4 more")


def test_logins_and_gateways_that_are_something_else(
    look: Callable[..., list[Finding]], tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/doubts.db"
    store = Store(where)
    store.facts.swap("doubts", '{"users": ["200", "gsm\\u001b"], "gateways": ["branch"]}')
    store.close()
    findings = look(STORE_URL=where)
    assert (
        "TRUNK_USERS=200"
        in says(findings, Grade.WARNING, "show many callers' numbers: 200, gsm").hint
    )
    assert (
        "HOUSE_GATEWAYS=branch"
        in says(findings, Grade.WARNING, "exts are dialled through them").hint
    )
    assert not [finding for finding in findings if finding.part == "events"]
    named = look(STORE_URL=where, TRUNK_USERS="200,gsm\u001b", HOUSE_GATEWAYS="branch")
    assert not [finding for finding in named if finding.part in ("users", "gateways")]


def test_what_clients_see_after_a_click(look: Callable[..., list[Finding]], switch: Switch) -> None:
    findings = look(OUTBOUND_CALLER_ID="")
    says(findings, Grade.WARNING, "clients see no number after a click of 101, 102, 103, 104, 105")
    switch.outbound_numbers = dict.fromkeys(switch.users, "74950000001")
    assert not [finding for finding in look(OUTBOUND_CALLER_ID="") if "number" in finding.what]


def test_the_context_of_clicks(look: Callable[..., list[Finding]], switch: Switch) -> None:
    says(look(DIAL_CONTEXT="default"), Grade.OK, "context default is in the dialplan")
    says(look(DIAL_CONTEXT="defualt"), Grade.BROKEN, "context defualt (DIAL_CONTEXT) is not in")
    switch.applications = ["answer", "record_session"]
    both = look(DIAL_CONTEXT="default", RECORD_CLICKS="true")
    assert "RECORD_CLICKS=false" in says(both, Grade.WARNING, "may have two recordings").hint
    assert not [finding for finding in look(DIAL_CONTEXT="default") if "two" in finding.what]
    switch.contexts = set()  # the dialplan comes from a database
    assert not [finding for finding in look(DIAL_CONTEXT="x") if "context" in finding.code]
