"""What clients and phones are shown by a dialplan of one's own, without the files of ours."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fsplanfix.freeswitch.ring import Phone, Shown, ring_string
from fsplanfix.simulators.channel import Channel, Phones
from fsplanfix.simulators.dialplan import Dialplan
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from .support.dialplan import CLIENT, DOMAIN, FOLDER, LINE, click
from .support.service import running

MOBILE = "79260000002"


@pytest.mark.parametrize("file", ["public/00_2_planfix_ring.xml", "fusionpbx/10_planfix_ring.xml"])
@pytest.mark.parametrize("way", ["sofia/gateway/trunk/{number}", "loopback/{number}/outbound"])
def test_our_files_ring_who_has_only_a_mobile_however_it_is_dialled(file: str, way: str) -> None:
    """Through loopback the group of the file rang in place of the ring."""
    ring = ring_string([[Phone(MOBILE, is_outside=True)]], 20, Shown(), "", way)
    conditions = ElementTree.parse(FOLDER / file).iter("condition")
    asked = [it.get("expression", "") for it in conditions if it.get("field") == "${planfix_ring}"]
    # FusionPBX's file looks once more whether there is none
    assert {bool(re.search(expression, ring)) for expression in asked if expression != "^$"} == {
        True
    }


def own_dialplan(folder: Path, *actions: tuple[str, str]) -> Dialplan:
    """A context named `own` that does the same for every number."""
    path = folder / "own.xml"
    lines = "".join(f'<action application="{what}" data="{data}"/>' for what, data in actions)
    path.write_text(
        '<include><extension name="own"><condition field="destination_number" expression="^7">'
        f"{lines}</condition></extension></include>"
    )
    return Dialplan([(path, "own")], {"domain": DOMAIN})


@pytest.mark.parametrize("number", ["", "74950000009"])
def test_a_context_of_ones_own_shows_its_number_or_none_but_never_the_ext(
    switch: Switch, tmp_path: Path, number: str
) -> None:
    """FreeSWITCH 1.10.12 put the variables of a click in place of the directory's."""
    switch.speed = 50
    sets = [f"effective_caller_id_{what}={number}" for what in ("number", "name") if number]
    actions = [*(("set", one) for one in sets), ("bridge", f"sofia/gateway/trunk/{CLIENT}")]
    plan = own_dialplan(tmp_path, *actions)
    inside = {"effective_caller_id_number": "101", "effective_caller_id_name": "Extension 101"}
    clicked = inside | click("own")
    call = Channel(switch, plan, Phones(picks_up={CLIENT: 2}), "101", CLIENT, **clicked).run("own")
    assert call.shown == {CLIENT: number or "anonymous"}


@pytest.mark.parametrize(
    ("group", "house", "mobile", "shown"),
    [
        ("", "", "", ("Иванов Иван", "Иванов Иван")),
        ("", "", "[origination_caller_id_name=${caller_id_number}]", ("Иванов Иван", CLIENT)),
        (
            "101",
            "[origination_caller_id_name=${planfix_contact_name}]",
            "",
            ("Иванов Иван", CLIENT),
        ),
    ],
)
def test_a_dialplan_of_ones_own_keeps_the_name_from_the_trunk_as_the_readme_says(
    switch: Switch,
    planfix: Planfix,
    tmp_path: Path,
    group: str,
    house: str,
    mobile: str,
    shown: tuple[str, str],
) -> None:
    switch.speed = 50
    planfix.contacts[CLIENT] = {"contact_name": "Иванов Иван"}
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`{mobile}sofia/gateway/trunk/" in readme or not mobile
    assert f"`{house}user/101@$${{domain}}`" in readme or not house
    with running(switch, planfix, tmp_path, CONTACT_DEADLINE="5") as service:
        plan = own_dialplan(
            tmp_path,
            ("set", f"planfix_group={group}"),
            ("set", "socket_resume=true"),
            ("socket", f"{service.socket_app} async full"),
            ("bridge", f"{house}user/101@$${{domain}},{mobile}sofia/gateway/trunk/{MOBILE}"),
        )
        call = Channel(switch, plan, Phones(), CLIENT, LINE).run("own")
    assert call.shown == dict(zip(("101", MOBILE), shown, strict=True))
