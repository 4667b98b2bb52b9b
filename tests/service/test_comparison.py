"""FreeSWITCH's own account is asked for by the service itself, again and again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest

from fsplanfix.freeswitch.connection import ACCOUNT_TIMEOUT
from fsplanfix.service.app import App
from fsplanfix.service.comparison import COMPARE_EVERY
from fsplanfix.settings import Settings
from fsplanfix.settings.accounts import load_accounts
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import Step

from ..support.deliveries import told
from ..support.service import PATIENCE, Halt, settings_for

NAME = "in_one_answered"
TOLD = [["I101", "A101", "S101!"], ["I101", "A101", "S101"]]
"""Whether the recording counts depends on what was heard of it."""

LONGEST_STALE = 120.0
"""Seconds after which a call that is over must be over in Planfix, too."""


def test_two_comparisons_and_their_answers_take_less_than_two_minutes() -> None:
    # the dump of a leg takes as long as the list, at worst
    assert 2 * (COMPARE_EVERY + 2 * ACCOUNT_TIMEOUT) < LONGEST_STALE


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsplanfix.service.comparison.COMPARE_EVERY", 0.05)


@contextmanager
def following(switch: Switch, planfix: Planfix, folder: Path) -> Iterator[None]:
    """Run the service within this process, so that it may compare more often."""
    app = App(load_accounts(Settings, settings_for(switch, planfix, folder)), ["events", "courier"])
    run = gevent.spawn(app.run)
    switch.wait_for_subscriber(PATIENCE)
    try:
        yield
    finally:
        app.stop()
        run.get(timeout=PATIENCE)


@pytest.mark.usefixtures("often")
def test_a_zombie_ends_by_itself(switch: Switch, planfix: Planfix, tmp_path: Path) -> None:
    """Its legs have hung up and never come to an end: `show channels` lists them for ever."""

    def is_all_there_is(step: Step) -> bool:
        is_end = step.get("Event-Name") == "CHANNEL_HANGUP_COMPLETE"
        return is_end and set(switch.channels) == switch.hanging

    halt = Halt(switch, is_all_there_is)
    with following(switch, planfix, tmp_path):
        call = gevent.spawn(switch.play, NAME, speed=0)
        assert halt.reached()
        planfix.wait_for(ended, timeout=PATIENCE)
        (callid,) = planfix.history.cards
        assert len(switch.channels) == 2
        assert told(planfix, callid)[:3] in TOLD
    call.kill()


@pytest.mark.usefixtures("often")
def test_a_lost_event_is_made_up_for(
    switch: Switch, planfix: Planfix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FreeSWITCH has dropped the end of a call for a listener that was too slow."""
    emit = switch.emit

    def drop(body: str) -> None:
        if "CHANNEL_HANGUP" not in Step(0.0, body).get("Event-Name"):
            emit(body)

    monkeypatch.setattr(switch, "emit", drop)
    with following(switch, planfix, tmp_path):
        callid = switch.play(NAME, speed=0)
        planfix.wait_for(ended, timeout=PATIENCE)
        assert told(planfix, callid)[:3] in TOLD


def ended(crm: Planfix) -> bool:
    """Tell whether every part of the one call there is has ended."""
    parts = [part for card in crm.history.cards.values() for part in card.parts]
    return bool(parts) and all(part.state == "done" for part in parts)
