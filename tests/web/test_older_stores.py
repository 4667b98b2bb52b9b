"""The dashboard shows what older releases stored."""

import re
from contextlib import closing
from pathlib import Path

import pytest

from fsplanfix.calls.model import Kind
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.kept_calls import kept
from ..support.outbox import ME, claim, forget_rules, settle
from ..support.service import Service, settings_for, started
from ..support.visitor import PASSWORD, Visitor


@pytest.mark.parametrize("are_events_kept", [True, False])
def test_a_call_that_an_older_release_stored_is_shown(
    switch: Switch, planfix: Planfix, tmp_path: Path, are_events_kept: bool
) -> None:
    """Its notices name no rule, and it has other words for a recording that was not sent."""
    said, packed, _ = kept("group_answered")
    settings = settings_for(switch, planfix, tmp_path, ADMIN_PASSWORD=PASSWORD)
    with closing(Store(settings["STORE_URL"])) as store:
        now = store.now()
        events = packed if are_events_kept else {}
        store.save(said, dict.fromkeys(packed), "s", now, events)
        while found := claim(store, 100, now, ME):
            for queued in found:
                is_file = queued.notice.kind is Kind.RECORD
                became = State.SKIPPED if is_file else State.DONE
                settle(store, queued, became, now, "not linked: the file is empty" * is_file)
        forget_rules(store)
    with started(Service(tmp_path, settings)) as service:
        visitor = Visitor(service)
        visitor.log_in()
        page = visitor.see(f"/calls/{said[0].callid}")
    assert page.count("Planfix has it") == len(said) - 1
    assert "Recording not sent: the file is empty." in page
    assert len(re.findall(r"rule \d+: ", page)) == len(said) * are_events_kept
