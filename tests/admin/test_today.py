"""What the dashboard shows of a day is read once, and then only what is new."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import gevent
import pytest
from sqlalchemy import Select, delete, update

from fsplanfix.admin.today import MOST_AT_ONCE, OVERLAP, Today
from fsplanfix.calls.model import Direction, Kind, Notice, Status
from fsplanfix.outbox.history import Archive, Written
from fsplanfix.outbox.records import notice_json
from fsplanfix.outbox.schema import notices
from fsplanfix.outbox.store import Store

NOON = datetime.now().astimezone().replace(hour=12, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)


def row(call: int, ext: str, status: Status | None, at: float) -> dict[str, object]:
    kind = Kind.COMPLETED if status else Kind.INCOMING
    notice = Notice(
        f"call-{call}", kind, 1, int(at * 1e6), Direction.IN, "79161234567", ext=ext, status=status
    )
    return {
        "callid": notice.callid,
        "ext": ext,
        "kind": kind.value,
        "ordinal": 1,
        "position": 1,
        "barrier": False,
        "body": notice_json.dump_json(notice).decode(),
        "created": at,
        "due": at,
    }


class Counted(Archive):
    """An archive that counts what is read of it."""

    read = 0

    def before(self, notice: int | None, most: int, kind: Kind | None = None) -> list[Written]:
        found = super().before(notice, most, kind)
        self.read += len(found)
        assert len(found) <= max(MOST_AT_ONCE, 10)
        return found

    def after(self, notice: int, most: int) -> list[Written]:
        found = super().after(notice, most)
        self.read += len(found)
        assert len(found) <= MOST_AT_ONCE + OVERLAP
        return found


def write(store: Store, rows: Sequence[dict[str, object]]) -> None:
    with store.transaction() as connection:
        connection.execute(notices.insert(), list(rows))


def day(store: Store, begin: int, count: int, at: float) -> None:
    """Calls that ring two, one of whom talks."""
    for call in range(begin, begin + count):
        write(
            store,
            [
                row(call, "101", None, at),
                row(call, "101", Status.SUCCESS, at),
                row(call, "102", Status.CANCELED, at),
            ],
        )


def ends(calls: int) -> dict[tuple[str, str], int]:
    return {("101", "Success"): calls, ("102", "Canceled"): calls} if calls else {}


def test_a_day_is_counted_once_and_then_only_what_is_new(store: Store) -> None:
    now = [NOON.timestamp()]
    day(store, 0, 50, (NOON - DAY).timestamp())
    day(store, 100, 300, now[0])
    archive = Counted(store)
    today = Today(archive, 10, lambda: now[0])
    today.catch_up()
    assert today.ends == ends(300)
    assert [said.callid for said in today.latest][-1] == "call-399"
    assert len(today.latest) == 10

    archive.read = 0
    today.catch_up()
    assert archive.read <= OVERLAP
    assert today.ends == ends(300)

    day(store, 500, 400, now[0])
    today.catch_up()
    assert today.ends == ends(700)
    assert [said.callid for said in today.latest][-1] == "call-899"

    now[0] = (NOON + DAY).timestamp()
    today.catch_up()
    assert today.ends == {}
    day(store, 1000, 1, now[0])
    today.catch_up()
    assert today.ends == ends(1)


class Turns(Archive):
    """An archive that notes, at each look, how many turns another greenlet has had."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.had = 0
        self.at_looks: list[int] = []

    def take(self) -> None:
        while True:
            self.had += 1
            gevent.sleep(0)

    def _read(self, query: Select[tuple[int, float, str]]) -> list[Written]:
        self.at_looks.append(self.had)
        return super()._read(query)


def test_others_have_their_turn_between_two_bites(store: Store) -> None:
    archive = Turns(store)
    today = Today(archive, 10, NOON.timestamp)
    for calls in (0, 500):  # from the newest back, and then what is new
        day(store, calls, 400, NOON.timestamp())
        archive.at_looks.clear()
        others = gevent.spawn(archive.take)
        gevent.sleep(0)
        today.catch_up()
        others.kill()
        assert len(archive.at_looks) >= 3
        assert len(set(archive.at_looks)) == len(archive.at_looks)


def test_nothing_was_said_yet(store: Store) -> None:
    today = Today(Archive(store), 10)
    today.catch_up()
    assert (today.ends, list(today.latest)) == ({}, [])
    day(store, 0, 1, datetime.now().timestamp())
    today.catch_up()
    assert today.ends == ends(1)


def test_what_another_worker_ends_writing_later_is_counted(store: Store) -> None:
    today = Today(Archive(store), 10, NOON.timestamp)
    late = row(1, "103", Status.MISSED, NOON.timestamp())
    write(store, [{**late, "id": 5}, {**row(2, "101", None, NOON.timestamp()), "id": 7}])
    today.catch_up()
    write(store, [{**row(3, "104", Status.MISSED, NOON.timestamp()), "id": 6}])
    today.catch_up()
    assert today.ends == {("103", "Missed"): 1, ("104", "Missed"): 1}


def test_a_number_that_is_used_again_is_another_notice(store: Store) -> None:
    today = Today(Archive(store), 10, NOON.timestamp)
    write(store, [{**row(1, "103", Status.MISSED, NOON.timestamp()), "id": 5}])
    today.catch_up()
    with store.transaction() as connection:
        connection.execute(delete(notices))
    write(store, [{**row(2, "104", Status.MISSED, NOON.timestamp() + 1), "id": 5}])
    today.catch_up()
    assert today.ends == {("103", "Missed"): 1, ("104", "Missed"): 1}


def test_another_store_in_its_place_is_read_anew(store: Store) -> None:
    today = Today(Archive(store), 10, NOON.timestamp)
    write(store, [{**row(1, "103", Status.MISSED, NOON.timestamp()), "id": 5000}])
    today.catch_up()
    with store.transaction() as connection:
        connection.execute(update(notices).values(id=1))
    today.catch_up()
    assert today.ends == {("103", "Missed"): 1}


@pytest.mark.parametrize("calls", [1, MOST_AT_ONCE, 2 * MOST_AT_ONCE + 1])
def test_the_length_of_a_bite_does_not_matter(store: Store, calls: int) -> None:
    write(store, [row(n, "101", Status.SUCCESS, NOON.timestamp()) for n in range(calls)])
    today = Today(Archive(store), 10, NOON.timestamp)
    today.catch_up()
    assert today.ends == {("101", "Success"): calls}
