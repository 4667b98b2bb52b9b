"""Numbers for Prometheus where a switch serves several companies."""

from dataclasses import replace

from prometheus_client import CollectorRegistry

from fsplanfix.outbox.facts import UNAUTHORIZED, fact_of
from fsplanfix.outbox.schema import State
from fsplanfix.outbox.store import Store
from fsplanfix.service.metrics import MOST_ACCOUNTS, AccountLabel, Standing, Tally, exposition

from ..support.outbox import FIRST, claim, settle


def numbers(store: Store, *accounts: str, count: bool = True) -> dict[str, float]:
    registry = CollectorRegistry()
    label = AccountLabel(accounts)
    tally = Tally(registry, label)
    if count:
        for account in ("a", "a", "b", "gone"):
            tally.on_notice(replace(FIRST, account=account))
    registry.register(Standing(store, [], [], label))
    lines = exposition(registry)().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def save(store: Store, account: str, callid: str) -> None:
    store.save([replace(FIRST, account=account, callid=callid)], {callid: "{}"}, "s", now=1.0)


def test_what_waits_and_what_was_said_is_each_accounts(store: Store) -> None:
    for n, account in enumerate(("a", "a", "b", "gone")):
        save(store, account, f"c{n}")
    settle(store, claim(store, 1, 2.0, "me", "a")[0], State.REJECTED, 2.0, "400")
    store.facts.set(fact_of(UNAUTHORIZED, "b"), "1")
    found = numbers(store, "a", "b", "c")
    assert found['fsplanfix_calls_total{account="a",type="in"}'] == 2
    assert found['fsplanfix_calls_total{account="other",type="in"}'] == 1
    assert found['fsplanfix_notices_total{account="b",kind="INCOMING",status=""}'] == 1
    for name, values in {
        "backlog": {"a": 1, "b": 1, "c": 0, "other": 1},
        "rejected_notices": {"a": 1, "b": 0, "c": 0, "other": 0},
        "account_paused": {"a": 0, "b": 1, "c": 0, "other": 0},
    }.items():
        shown = {account: found[f'fsplanfix_{name}{{account="{account}"}}'] for account in values}
        assert shown == values
    assert found['fsplanfix_oldest_undelivered_seconds{account="a"}'] > 0


def test_one_company_has_no_label(store: Store) -> None:
    save(store, "default", "c1")
    found = numbers(store)
    assert found["fsplanfix_backlog"] == 1
    assert found['fsplanfix_calls_total{type="in"}'] == 4


def test_more_accounts_than_a_label_holds_are_one(store: Store) -> None:
    names = [f"a{n}" for n in range(MOST_ACCOUNTS + 20)]
    save(store, names[-1], "c1")
    found = numbers(store, *names)
    shown = [name for name in found if name.startswith("fsplanfix_backlog{")]
    assert len(shown) == MOST_ACCOUNTS + 1
    assert found['fsplanfix_backlog{account="other"}'] == 1


def test_a_company_that_comes_later_has_a_value_while_there_is_one() -> None:
    label = AccountLabel(["a"])
    label.add(["a", "b", *(f"c{n}" for n in range(MOST_ACCOUNTS))])
    assert label.of("b") == ["b"]
    assert len(label.values) == MOST_ACCOUNTS + 1
    assert label.of(f"c{MOST_ACCOUNTS - 1}") == ["other"]
