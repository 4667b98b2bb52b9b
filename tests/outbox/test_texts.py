"""Text that a database refuses: cleaned at the border, or set aside while the rest goes on."""

from dataclasses import replace

import gevent
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from fsplanfix.calls.model import Rules
from fsplanfix.errors import StoreError
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.records import Entry
from fsplanfix.outbox.retry import until_store_answers
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.outbox.texts import clean
from fsplanfix.service.metrics import Standing, exposition
from fsplanfix.service.pipeline import Pipeline

from ..support.outbox import FIRST, GROUP, claim, settle
from ..support.postgres import empty_database
from ..support.traces import events

NASTY = "a\x00b\ud800c"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("Иванов", "Иванов"),
        ("a\x00", "a\ufffd"),
        ("\udc80é", "\ufffdé"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_what_no_database_takes_becomes_a_replacement_sign(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_a_call_with_a_nul_or_half_a_pair_is_kept_and_found_again(store: Store) -> None:
    nasty = replace(FIRST, callid=NASTY, phone=NASTY, data={NASTY: NASTY}, recording=NASTY)
    store.save([nasty], {NASTY: f"state {NASTY}"}, NASTY, now=1.0)
    (found,) = claim(store, 10, 2.0, "me")
    assert found.notice.callid == clean(NASTY)
    assert found.notice.data == {clean(NASTY): clean(NASTY)}
    assert store.open_calls(NASTY) == [f"state {clean(NASTY)}"]
    store.save([nasty], {NASTY: None}, NASTY, now=3.0, events={NASTY: b"heard"})
    assert store.closed([NASTY, "other"]) == {NASTY}
    store.save([replace(nasty, ordinal=2)], {NASTY: "late"}, NASTY, now=4.0)
    assert Archive(store).heard(NASTY) == b"heard"
    assert [queued.notice.ordinal for queued in Archive(store).about(NASTY)[0]] == [1, 1]


def test_answers_lines_and_facts_are_cleaned(store: Store) -> None:
    store.save([FIRST], {}, "s", now=1.0)
    settle(store, claim(store, 1, 2.0, "me")[0], State.REJECTED, 2.0, f"400 {NASTY}")
    assert Queue(store).listed([State.REJECTED], 1)[0].answer == f"400 {clean(NASTY)}"
    Archive(store).write_down(Entry(1.0, NASTY, "c1", NASTY, NASTY))
    assert Archive(store).about("c1")[1][0].what == clean(NASTY)
    store.facts.swap("name", NASTY)
    assert store.facts.get("name") == clean(NASTY)


def test_a_database_of_few_letters_takes_everything(postgres: str) -> None:
    """LATIN1 has no Cyrillic: a Russian answer of Planfix is written with `?`, not for ever."""
    url = empty_database(
        postgres, "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    store = Store(url)
    store.save([replace(FIRST, data={"name": "Иванов"})], {"c1": "Иванов"}, "s", now=1.0)
    settle(store, claim(store, 1, 2.0, "me")[0], State.REJECTED, 2.0, "400 Неверно")
    assert Queue(store).listed([State.REJECTED], 1)[0].answer == "400 ???????"
    store.close()


@pytest.fixture
def pipeline(store: Store) -> Pipeline:
    return Pipeline("127.0.0.1:8021", Rules(), store, lambda: None)


def test_what_is_refused_for_its_content_is_not_asked_for_again(store: Store) -> None:
    with gevent.Timeout(60), pytest.raises(StoreError) as caught:
        until_store_answers(lambda: store.save([replace(FIRST, position=2**70)], {}, "s", now=1.0))
    assert caught.value.permanent


def test_what_is_refused_is_set_aside_and_the_rest_goes_on(
    store: Store, pipeline: Pipeline
) -> None:
    """One notice cannot be held by either database: its call's others and the next call can."""
    bad = replace(GROUP[3], position=2**70)
    other = replace(FIRST, callid="c2")
    with gevent.Timeout(60):
        pipeline._decided = [*GROUP[:3], bad, *GROUP[4:], other]
        pipeline._commit()
        for event in events("in_one_no_answer"):
            pipeline.inbox.on_event(SwitchEvent(event.raw))
        pipeline.inbox.stop()
        pipeline.run()
    kept = Queue(store).listed([State.WAITING, State.DONE], 100)
    assert [q.notice for q in kept if q.notice.callid == "c1"] == [*GROUP[:3], *GROUP[4:]]
    assert {q.notice.callid for q in kept} > {"c1", "c2"}
    assert pipeline.refused == 1
    assert "not kept: ACCEPTED" in Archive(store).about("c1")[1][0].what
    registry = CollectorRegistry()
    registry.register(Standing(store, [], [pipeline]))
    assert b"fsplanfix_writes_refused_total 1.0" in exposition(registry)()


def test_psycopg_still_refuses_what_is_not_cleaned(postgres: str) -> None:
    """If this fails, texts.py may go."""
    with psycopg.connect(postgres) as connection, pytest.raises(psycopg.DataError):
        connection.execute("SELECT %s", ["a\x00"])
