"""The message of a missed call, from FreeSWITCH's event to the file that Planfix gets."""

from pathlib import Path

import requests

from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import Step

from ..support.deliveries import link_to_the_recording, told
from ..support.service import running
from ..support.traces import path_of

CALL = "vanilla/did_no_answer_voicemail"
WHERE = "/var/lib/freeswitch/storage"
MISSED = ["I1001", "M1001"]
SOUND = b"RIFF" + bytes(1000)


def test_planfix_gets_the_message_of_a_missed_call(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"

    def write(step: Step) -> None:
        if step.get("Event-Name") == "RECORD_STOP":
            file = Path(step.get("Record-File-Path").replace(WHERE, str(storage)))
            file.parent.mkdir(parents=True)
            file.write_bytes(SOUND)

    switch.before = write
    settings = {
        "VOICEMAIL": "link",
        "VOICEMAIL_DIR": str(storage),
        "RECORDINGS_MAP": f"{WHERE}:{storage}",
        "RECORDINGS_KEEP_DAYS": "30",
    }
    with running(switch, planfix, tmp_path, **settings):
        callid = switch.play(path_of(CALL), speed=0)
        found = requests.get(link_to_the_recording(planfix), timeout=60)
    assert told(planfix, callid) == [*MISSED, "R"]
    assert (found.status_code, found.content) == (200, SOUND)


def test_without_the_setting_nothing_changes(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    with running(switch, planfix, tmp_path):
        missed = switch.play(path_of(CALL), speed=0)
        switch.play("in_one_answered", speed=0)
        link_to_the_recording(planfix)
    assert told(planfix, missed) == MISSED


def test_a_message_outside_both_folders_has_no_link(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    settings = {"VOICEMAIL": "link", "VOICEMAIL_DIR": str(tmp_path)}
    with running(switch, planfix, tmp_path, **settings) as service:
        missed = switch.play(path_of(CALL), speed=0)
        service.wait_for("recording_not_sent.*lies outside")
    assert told(planfix, missed) == MISSED
