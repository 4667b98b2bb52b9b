"""What is known of a client when an employee clicks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.contacts import Contacts
from fsplanfix.service.clicks import KnownClients

from ..support.traces import events, told
from ..support.worker import SERVER


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


def know_nobody(_: object, __: float) -> dict[str, object]:
    return {}


@pytest.mark.parametrize(
    ("line", "shown"),
    [("74950000001", "74950000001"), ("5555#74950000001", ""), ("*100", ""), ("8000", "")],
)
def test_a_client_sees_the_line_he_called_last_only_if_it_is_a_whole_number(
    store: Store, line: str, shown: str
) -> None:
    """FreeSWITCH was told to show `5555#74950000001`, so no phone rang at all."""
    called = [replace(notice, diversion=line) for notice in told(events("in_one_answered"))]
    store.save(called, {called[0].callid: None}, SERVER, store.now())
    clients = KnownClients(Contacts(know_nobody, 1.0, lambda *_: None), Archive(store))
    assert clients.last_line_of(called[0].phone) == shown
