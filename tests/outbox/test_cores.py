"""Whose calls they are, however the address of their FreeSWITCH is spelled."""

import pytest

from fsplanfix.outbox.cleanup import Cleanup
from fsplanfix.outbox.cores import Cores, Left, Standing
from fsplanfix.outbox.store import Store

GONE_AFTER = 900.0


@pytest.fixture
def cores(store: Store) -> Cores:
    return Cores(store, GONE_AFTER)


def put(store: Store, callid: str, server: str, core: str, alive: int | None = None) -> None:
    store.save([], {callid: f"state of {callid}"}, server, store.now(), alive=alive, core=core)


def test_a_call_is_found_under_any_address_of_its_switch(store: Store) -> None:
    put(store, "c1", "localhost:8021", "x", alive=7)
    assert store.open_calls("127.0.0.1:8021", "x") == ["state of c1"]
    assert store.alive("127.0.0.1:8021", "x") == 7
    assert store.open_calls("127.0.0.1:8021", "y") == []
    assert store.alive("127.0.0.1:8021", "y") == 0


def test_a_call_without_a_core_is_found_under_its_address(store: Store) -> None:
    """A release before wrote it, or its FreeSWITCH would not tell."""
    put(store, "c1", "localhost:8021", "", alive=7)
    assert store.open_calls("localhost:8021", "x") == ["state of c1"]
    assert store.alive("localhost:8021", "x") == 7
    assert store.open_calls("127.0.0.1:8021", "x") == []


def test_without_a_core_the_address_must_do(store: Store) -> None:
    put(store, "c1", "localhost:8021", "x", alive=7)
    assert store.open_calls("localhost:8021") == ["state of c1"]
    assert store.alive("localhost:8021") == 7


def test_a_sign_of_life_never_goes_back(store: Store) -> None:
    store.save([], {}, "s", 1.0, alive=7, core="x")
    store.save([], {}, "s", 2.0, alive=5, core="x")
    assert store.alive("s", "x") == 7


def test_another_switch_at_an_address_ends_the_one_before(store: Store, cores: Cores) -> None:
    assert cores.arrive("s", "x") == []
    put(store, "c1", "s", "x", alive=7)
    assert cores.arrive("s", "x") == []
    assert cores.arrive("s", "y") == [Left("x", ["state of c1"], 7)]


def test_a_switch_that_is_heard_under_another_address_goes_on(store: Store, cores: Cores) -> None:
    put(store, "c1", "one", "x", alive=7)
    put(store, "c1", "other", "x", alive=7)
    assert cores.arrive("one", "y") == []
    assert cores.is_heard("x")
    assert cores.arrive("other", "y") == [Left("x", ["state of c1"], 7)]
    assert not cores.is_heard("x")


def test_what_was_heard_long_ago_does_not_go_on(store: Store, cores: Cores) -> None:
    store.save([], {"c1": "state"}, "other", store.now() - GONE_AFTER - 1, alive=7, core="x")
    put(store, "c1", "one", "x", alive=8)
    assert cores.arrive("one", "y") == [Left("x", ["state of c1"], 8)]


def test_each_switch_with_open_calls_is_known(store: Store, cores: Cores) -> None:
    store.save([], {"c1": "{}", "c2": "{}"}, "one", 1.0, alive=7, core="x")
    store.save([], {"c2": "{}"}, "other", 2.0, alive=7, core="x")
    store.save([], {"c3": "{}"}, "third", 3.0, alive=7)
    store.save([], {"c4": None}, "fourth", 4.0, alive=7, core="z")
    found = {(one.core, one.heard) for one in cores.with_open_calls()}
    assert found == {("x", 2.0), ("", 3.0)}


def test_whoever_would_not_tell_its_core_speaks_for_its_address(store: Store, cores: Cores) -> None:
    store.save([], {"c1": "{}"}, "one", 1.0, alive=7)
    store.save([], {}, "one", 2.0, alive=7, core="x")
    assert cores.with_open_calls() == [Standing("", "one", 2.0)]
    store.save([], {"c1": "{}"}, "one", 3.0, alive=7, core="x")
    store.save([], {}, "one", 4.0, alive=7)
    assert cores.with_open_calls() == [Standing("x", "one", 4.0)]


def test_a_uuid_of_the_switch_before_is_known(store: Store) -> None:
    store.save([], {"c1": None}, "one", 1.0, alive=7, core="x")
    store.save([], {"c2": None}, "other", 2.0, alive=7, core="x")
    store.save([], {"c3": None}, "elsewhere", 3.0, alive=7, core="z")
    assert store.past_calls("one", 9, "y") == ["c1", "c2"]


def test_a_switch_is_forgotten_with_its_last_call(store: Store) -> None:
    store.save([], {"c1": "{}"}, "one", 1.0, alive=7, core="x")
    Cleanup(store).clean(before=5.0)
    assert store.alive("one", "x") == 7
    store.save([], {"c1": None}, "one", 2.0, core="x")
    Cleanup(store).clean(before=5.0)
    assert store.alive("one", "x") == 0
