"""What a call knows by itself (docs/call-rules.md, rule 14)."""

from typing import Any

import pytest

from fsplanfix.calls.model import Rules
from fsplanfix.calls.own_data import FIELDS
from fsplanfix.errors import SettingsError
from fsplanfix.settings import RuleSettings, load

from ..support.cases import for_each
from ..support.scene import Scene
from ..support.traces import NAMES, events, rules_of, told

ALL = Rules(data_fields={field: field for field in FIELDS})


def ends(name: str) -> dict[str, dict[str, str]]:
    """The data of each end, by ext."""
    return {n.ext: n.data for n in told(events(name), ALL) if n.status is not None}


def test_a_menu_and_who_hung_up() -> None:
    said = ends("fusionpbx/ivr_to_group")
    assert said["101"] == {"wait": "5", "menu": "1", "ended_by": "client", "hops": "3"}
    assert said["102"] == {"wait": "5", "hops": "3"}


def test_a_queue() -> None:
    said = ends("queue_answered")
    assert (said["102"]["queue"], said["101"]["queue"]) == ("support", "support")


def test_after_a_transfer_the_next_waits_from_its_beginning() -> None:
    first, second = (ends("attended_transfer")[ext] for ext in ("101", "102"))
    assert first["recording"].endswith(".wav")
    assert (first["ended_by"], first["hops"]) == ("employee", "1")
    assert (second["wait"], second["hops"]) == ("0", "2")


@for_each(NAMES)
def test_nothing_is_added_unless_it_is_asked_for(name: str) -> None:
    plain, rich = told(events(name), rules_of(name)), told(events(name), ALL)
    if rules_of(name) == Rules():
        assert [(n.what, n.ext, n.at) for n in plain] == [(n.what, n.ext, n.at) for n in rich]
    assert not {field for n in plain for field in n.data} & set(FIELDS)


def test_the_administrator_names_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_FIELDS", "wait:Ожидание, ended_by")
    rules = load(RuleSettings).rules()
    assert rules.data_fields == {"wait": "Ожидание", "ended_by": "ended_by"}
    scene = Scene(rules).client().phone("B", "101", parent="A").rings("B").answers("B")
    scene.answers("A").bridge("A", "B").gone("B").gone("A")
    assert scene.notices[-1].data == {"Ожидание": "5", "ended_by": "employee"}


@pytest.mark.parametrize("value", ["waiting", "wait:a b", "wait:" + "x" * 65, "wait:${x}", ":x"])
def test_fields_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DATA_FIELDS", value)
    with pytest.raises(SettingsError, match="DATA_FIELDS: .*write it like wait:Waited,queue"):
        load(RuleSettings)


def test_what_a_stranger_dials_is_bounded() -> None:
    scene = Scene(ALL).client()
    hostile: dict[str, Any] = {"variable_digits_dialed": "7" * 5000, "variable_cc_queue": "@"}
    scene.event("CHANNEL_ANSWER", "A", **hostile)
    (end,) = [n for n in scene.gone("A").notices if n.status is not None]
    assert len(end.data["menu"]) == 1000
    assert "queue" not in end.data
