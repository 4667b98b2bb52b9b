"""Where FusionPBX's entries stand, and what the dialplan files record, one file a talk."""

import re
from pathlib import Path

import pytest

from fsplanfix.simulators.channel import Channel, Phones
from fsplanfix.simulators.freeswitch import Switch

from .support.dialplan import CLIENT, DOMAIN, FOLDER, FUSION, dialplan

FUSION_RING = FOLDER / "fusionpbx" / "10_planfix_ring.xml"


def test_the_ring_for_fusionpbx_says_where_each_entry_stands_and_leaves_no_timeout_behind() -> None:
    text = FUSION_RING.read_text(encoding="utf-8")
    head, _, body = text.partition("-->")
    orders = dict(re.findall(r"(planfix_\w+) (\d{3})", head))
    names = re.findall(r'extension name="(\w+)"', body)
    assert sorted(orders.items(), key=lambda item: item[1]) == [(n, orders[n]) for n in names]
    after_recording_before_routes = [name for name in names if "050" < orders[name] < "100"]
    assert after_recording_before_routes == [
        "planfix_recording",
        "planfix_ring",
        "planfix_static_list",
    ]
    assert "call_timeout" not in body


ASKED = {"planfix_asked": "done", "planfix_ring": f"[leg_timeout=9]user/102@{DOMAIN}"}
"""What stands on a call when fsplanfix has said whom to ring."""


@pytest.mark.parametrize("is_recorded", [False, True])
def test_what_fusionpbx_records_is_not_recorded_once_more(
    switch: Switch, tmp_path: Path, is_recorded: bool
) -> None:
    """FusionPBX sets record_session=true at order 050, and records the client's leg itself."""
    switch.speed = 50
    own = {"record_session": "true"} if is_recorded else {}
    plan, phones = dialplan(None, tmp_path, fusion=True), Phones(picks_up={"102": 1})
    call = Channel(switch, plan, phones, CLIENT, "600", **FUSION, **ASKED, **own).run(DOMAIN)
    assert call.talked_with == "102"
    assert list(call.recorded.values()) == ([] if is_recorded else [["the talk"]])


MENU = """<include><extension name="menu">
  <condition field="destination_number" expression="^5000$">
    <action application="answer"/>
    <action application="play_and_get_digits" data="1 1 1 3000 # menu.wav wrong.wav choice \\d"/>
    <action application="transfer" data="74950000001 XML public"/>
  </condition>
</extension></include>"""


@pytest.mark.parametrize("asked", [ASKED, {}], ids=["ring", "static list"])
@pytest.mark.parametrize("picks_up", [{"102": 1.0}, {}])
def test_after_a_voice_menu_the_recording_holds_the_talk_only(
    switch: Switch, tmp_path: Path, asked: dict[str, str], picks_up: dict[str, float]
) -> None:
    """The menu has answered the call, and then execute_on_answer would never run."""
    switch.speed = 50
    menu = tmp_path / "menu.xml"
    menu.write_text(MENU, encoding="utf-8")
    plan = dialplan(None, tmp_path, more=[(menu, "public")])
    call = Channel(switch, plan, Phones(picks_up), CLIENT, "5000", **asked).run("public")
    file = tmp_path / f"{call.uuid}.wav"
    assert call.recorded == ({str(file): ["the talk"]} if picks_up else {})
    assert file.exists() == bool(picks_up)
    assert ("answer", "") in call.log
