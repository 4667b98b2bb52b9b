"""Reading beside the work: by another process on SQLite, by the server on PostgreSQL."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import gevent
import psutil
import pytest
from sqlalchemy import select

from fsplanfix.errors import StoreError
from fsplanfix.outbox.reader import NOBODY_WAITS, Reader
from fsplanfix.outbox.schema import facts
from fsplanfix.outbox.store import Store

from ..support.service import PATIENCE

ALL = select(facts.c.name, facts.c.value).order_by(facts.c.name)


def helpers() -> list[psutil.Process]:
    """The other processes of this test that read."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("reading.py" in word for word in child.cmdline()):
                found.append(child)
    return found


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/store.db")


def test_values_are_what_was_stored(store: Store) -> None:
    hostile = 'a"b\n\u2028\\ é <script> \x7f'
    store.facts.swap("x", hostile)
    rows = {row.name: row.value for row in Reader(store).rows(ALL)}
    assert rows["x"] == hostile


def test_one_process_reads_whatever_is_asked(file_store: Store) -> None:
    before = {child.pid for child in helpers()}
    reader = Reader(file_store)
    jobs = [gevent.spawn(reader.rows, ALL) for _ in range(20)]
    gevent.joinall(jobs, timeout=PATIENCE, raise_error=True)
    (pid,) = {child.pid for child in helpers()} - before
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)

    # whoever ends it, the next question starts another
    os.kill(pid, signal.SIGKILL)
    with gevent.Timeout(PATIENCE):
        while True:
            try:
                reader.rows(ALL)
                break
            except StoreError:
                gevent.sleep(0)
    reader.close()
    assert {child.pid for child in helpers()} <= before
    file_store.close()


def test_a_reader_that_was_killed_with_a_question_on_its_way_ends(file_store: Store) -> None:
    """Closing a pipe writes what is left, to nobody."""
    reader = Reader(file_store)
    reader.rows(ALL)
    process = reader._other._process
    process.kill()
    process.wait()
    process.stdin.write(b"a question")
    reader.close()
    assert reader._other._process is None
    file_store.close()


def test_a_file_that_is_gone_is_one_sentence(file_store: Store, tmp_path: Path) -> None:
    reader = Reader(file_store)
    reader.rows(ALL)
    file_store.close()
    (tmp_path / "store.db").unlink()
    with pytest.raises(StoreError, match="unable to open database file"):
        reader.rows(ALL)
    reader.close()


def test_whoever_has_left_is_not_read_for(file_store: Store) -> None:
    reader = Reader(file_store)
    with pytest.raises(StoreError, match=NOBODY_WAITS):
        reader.rows(ALL, {}, lambda: False)
    assert reader.rows(ALL)
    reader.close()
    file_store.close()
