"""Lines of the journal that no call waits for."""

from __future__ import annotations

import gevent
import pytest

from fsplanfix.errors import StoreError
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.records import Entry
from fsplanfix.outbox.store import Store
from fsplanfix.service.journal import Journal

from ..support.service import PATIENCE

LINES = [Entry(1.0, f"caller looked up: {name}", "c1") for name in ("Ivan", "Anna", "Petr")]


def written(store: Store) -> list[str]:
    return [entry.what for entry in Archive(store).about("c1")[1]]


def test_lines_of_a_moment_share_a_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    write_down = Archive.write_down

    def noted(archive: Archive, *entries: Entry) -> None:
        commits.append(len(entries))
        write_down(archive, *entries)

    monkeypatch.setattr(Archive, "write_down", noted)
    monkeypatch.setattr("fsplanfix.service.journal.COMPANY", 0)
    journal = Journal(Archive(store))
    for line in LINES:
        journal.add(line)
    assert commits == []
    with gevent.Timeout(PATIENCE):
        while not commits:
            gevent.sleep(0)
    assert commits == [3]
    assert written(store) == [line.what for line in LINES]


def test_what_waits_at_the_end_is_written(store: Store) -> None:
    """The service stops before the moment is over."""
    journal = Journal(Archive(store))
    journal.add(LINES[0])
    journal.write()
    assert written(store) == [LINES[0].what]
    journal.write()
    assert written(store) == [LINES[0].what]


def test_a_line_that_is_refused_costs_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_down = Archive.write_down

    def refusing(archive: Archive, *entries: Entry) -> None:
        if LINES[1] in entries:
            raise StoreError("cannot hold this", permanent=True)
        write_down(archive, *entries)

    monkeypatch.setattr(Archive, "write_down", refusing)
    journal = Journal(Archive(store))
    for line in LINES:
        journal.add(line)
    journal.write()
    assert written(store) == [LINES[0].what, LINES[2].what]
