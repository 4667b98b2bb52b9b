"""A call to be cut short, and what Planfix comes to know of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gevent

from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.service.app import App
from fsplanfix.settings import Settings
from fsplanfix.settings.accounts import load_accounts
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import Step

from .deliveries import told
from .service import PATIENCE, Service, settings_for

WHOLE = "group_answered"
EVENTS_OF_WHOLE = 22
"""Those that the service follows."""


def linked(folder: Path, settings: dict[str, str]) -> Service:
    """Start a service that a test ends in its own way; it follows FreeSWITCH."""
    service = Service(folder, settings)
    service.wait_for("freeswitch_linked")
    return service


def wait_until_told(planfix: Planfix, *tokens: str) -> str:
    """Wait until Planfix was told these of one call; return its callid."""
    found: list[str] = []

    def look(crm: Planfix) -> bool:
        found[:] = [callid for callid in crm.history.cards if set(tokens) <= set(told(crm, callid))]
        return bool(found)

    planfix.wait_for(look)
    return found[0]


def wait_until_over(planfix: Planfix, callid: str) -> None:
    planfix.wait_for(
        lambda crm: (
            callid in crm.history.cards
            and all(p.state == "done" for p in crm.history.cards[callid].parts)
        )
    )


def wait_until_settled(store_url: str, notices: int) -> None:
    """Wait until it is written down that Planfix took so many: what is not is sent again."""
    store = Store(store_url)
    with gevent.Timeout(PATIENCE):
        while Queue(store).counts() != {State.DONE: notices}:
            gevent.sleep(0.01)
    store.close()


def is_a(name: str, dialled: str = "") -> Callable[[Step], bool]:
    """Tell an event by its name and, if given, by the phone its leg was dialled for."""
    return lambda step: (
        step.get("Event-Name") == name
        and (not dialled or step.get("variable_dialed_user") == dialled)
    )


class Worker:
    """The service within this process, so that a test can take its store away."""

    def __init__(
        self, switch: Switch, planfix: Planfix, folder: Path, store_url: str, *roles: str
    ) -> None:
        settings = settings_for(switch, planfix, folder, STORE_URL=store_url, CONTACT_DEADLINE="5")
        self.app = App(load_accounts(Settings, settings), ["events", "courier", *roles])
        self._run = gevent.spawn(self.app.run)
        switch.wait_for_subscriber(PATIENCE)

    def end(self) -> int:
        self.app.stop()
        return int(self._run.get(timeout=PATIENCE))
