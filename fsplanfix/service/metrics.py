"""Numbers for Prometheus: what happened, and how things stand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..calls.model import Notice
from ..errors import StoreError
from ..freeswitch.link import Link
from ..outbox.queue import Queue
from ..outbox.records import Backlog
from ..outbox.standing import DIFFERENCES
from ..outbox.store import Store
from ..outbox.trouble import count_not_sent
from ..planfix.agreement import Difference
from ..planfix.keys import Key
from ..settings.accounts import OTHER
from .logs import Unbreakable
from .pipeline import Pipeline

MOST_ACCOUNTS = 500
"""Values of the label `account`; what is of more accounts is counted under OTHER."""


class AccountLabel:
    """The label `account`. accounts: their names; without any there is no such label."""

    def __init__(self, accounts: Collection[str] = ()) -> None:
        self._named = dict.fromkeys([*accounts][:MOST_ACCOUNTS])
        self.names = ["account"] if accounts else []

    @property
    def values(self) -> list[str]:
        """Return the values it may have."""
        return [*self._named, OTHER] if self.names else []

    def add(self, accounts: Collection[str]) -> None:
        """Give new accounts values of their own, as long as there are any left."""
        new = [account for account in accounts if account not in self._named]
        self._named |= dict.fromkeys(new[: MOST_ACCOUNTS - len(self._named)])

    def of(self, account: str) -> list[str]:
        """Return what follows the other labels of something that is one account's."""
        if not self.names:
            return []
        return [account if account in self._named else OTHER]


class Tally:
    """What happened since the start, counted as it happens."""

    def __init__(self, registry: CollectorRegistry, label: AccountLabel | None = None) -> None:
        self._label = label or AccountLabel()
        self.clicks = Counter(
            "fsplanfix_clicks",
            "Click-to-calls, by what came of them",
            ["outcome"],
            registry=registry,
        )
        self._lookups = Counter(
            "fsplanfix_lookups", "Callers looked up, by how it went", ["how"], registry=registry
        )
        self._lookup_seconds = Histogram(
            "fsplanfix_lookup_seconds",
            "Seconds a call waited for its caller's name",
            registry=registry,
        )
        self._guesses = Counter(
            "fsplanfix_wrong_secrets",
            "Wrong tokens at /planfix, wrong passwords at the dashboard",
            ["what"],
            registry=registry,
        )
        self._keys = Counter(
            "fsplanfix_commands",
            "Commands of Planfix, by the key they had",
            ["key"],
            registry=registry,
        )
        whose = self._label.names
        self._calls = Counter(
            "fsplanfix_calls", "Client calls", ["type", *whose], registry=registry
        )
        self._notices = Counter(
            "fsplanfix_notices",
            "What was said of calls",
            ["kind", "status", *whose],
            registry=registry,
        )
        # the library takes a lock each time, and notices are many
        self._notices_of = cache(self._notices.labels)
        self._delivery = Histogram(
            "fsplanfix_delivery_seconds",
            "Seconds from a notice's commit to Planfix's answer",
            buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
            registry=registry,
        )

    def on_notice(self, notice: Notice) -> None:
        """Count a notice, and a call with its first."""
        whose = self._label.of(notice.account)
        self._notices_of(notice.kind.value, notice.status or "", *whose).inc()
        if notice.position == 1:
            self._calls.labels(notice.type.value, *whose).inc()

    def on_delivered(self, _: Notice, seconds: float) -> None:
        """Observe how long a notice took to reach Planfix."""
        # another worker, whose clock is ahead of ours, may have stored it
        self._delivery.observe(max(seconds, 0.0))

    def on_wrong_secret(self, what: str) -> None:
        """Count a wrong secret: a token or a password."""
        self._guesses.labels(what).inc()

    def on_key(self, key: Key) -> None:
        """Count the key of a command."""
        self._keys.labels(key.value).inc()

    def on_lookup(self, how: str, seconds: float) -> None:
        """Count a lookup: asked, cached, failed, paused or late."""
        self._lookups.labels(how).inc()
        self._lookup_seconds.observe(seconds)


class Standing(Collector):
    """How things stand, read from the store whenever Prometheus asks."""

    def __init__(
        self,
        store: Store,
        links: Sequence[Link],
        pipelines: Sequence[Pipeline],
        label: AccountLabel | None = None,
    ) -> None:
        self._label = label or AccountLabel()
        self._queue = Queue(store)
        self._store = store
        self._links = links
        self._pipelines = pipelines

    def describe(self) -> Iterator[Metric]:
        """Return nothing: the store need not answer when the registry is built."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the gauges; those of the store are missing while it does not answer."""
        linked = GaugeMetricFamily(
            "fsplanfix_freeswitch_linked", "Whether FreeSWITCH is followed", labels=["server"]
        )
        ups = CounterMetricFamily(
            "fsplanfix_links", "Times FreeSWITCH was linked", labels=["server"]
        )
        for link in self._links:
            linked.add_metric([link.server.name], float(link.is_caught_up))
            ups.add_metric([link.server.name], link.ups)

        yield linked
        yield ups
        yield from self._taken_in()
        yield CounterMetricFamily(
            "fsplanfix_log_lines_lost",
            "Lines of the log that nobody read in time, or that could not be written",
            value=Unbreakable.lost,
        )
        yield from self._to_be_sent()

    def _taken_in(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "fsplanfix_event_lag_seconds", "From a call's last event to us", labels=["server"]
        )
        for pipeline in self._pipelines:
            lag.add_metric([pipeline.server], pipeline.lag)

        yield lag
        yield CounterMetricFamily(
            "fsplanfix_event_overflows",
            "Times events had to wait so long that FreeSWITCH may have dropped some",
            value=sum(pipeline.inbox.overflows for pipeline in self._pipelines),
        )
        yield CounterMetricFamily(
            "fsplanfix_events_set_aside",
            "Events that could not be taken",
            value=sum(pipeline.set_aside.count for pipeline in self._pipelines),
        )
        yield CounterMetricFamily(
            "fsplanfix_calls_unknown",
            "Calls whose end neither FreeSWITCH's events nor its records told",
            value=sum(pipeline.unknown for pipeline in self._pipelines),
        )
        yield CounterMetricFamily(
            "fsplanfix_writes_refused",
            "Notices and states of calls that the database refused for their content",
            value=sum(pipeline.refused for pipeline in self._pipelines),
        )

    def _to_be_sent(self) -> Iterator[Metric]:
        try:
            found = self._queue.backlog()
            by_account = self._queue.backlog_by_account() if self._label.names else {"": found}
            not_sent = count_not_sent(self._store, self._store.now())
            differs = GaugeMetricFamily(
                "fsplanfix_planfix_differs",
                "Whether Planfix holds another key or address of ours",
                labels=["what"],
            )
            facts = self._store.facts.beginning(DIFFERENCES).values()
            held = {what for fact in facts for what in json.loads(fact or "[]")}
            for difference in Difference:
                differs.add_metric([difference.value], float(difference.value in held))
        except StoreError:
            yield GaugeMetricFamily("fsplanfix_store_up", "Whether the database answers", value=0)
            return

        yield differs
        yield GaugeMetricFamily("fsplanfix_store_up", "Whether the database answers", value=1)
        yield GaugeMetricFamily(
            "fsplanfix_open_calls", "Client calls that are not over", value=found.open_calls
        )
        yield GaugeMetricFamily(
            "fsplanfix_recordings_not_sent",
            "Recordings of the last hour that Planfix can never get",
            value=not_sent,
        )
        yield from self._standing(by_account)

    def _standing(self, backlogs: Mapping[str, Backlog]) -> Iterator[Metric]:
        """Return how things stand for each account, or for the only one."""
        now, whose = time.time(), self._label.names
        families = [
            GaugeMetricFamily("fsplanfix_backlog", "Notices waiting for Planfix", labels=whose),
            GaugeMetricFamily(
                "fsplanfix_oldest_undelivered_seconds", "Age of the oldest of them", labels=whose
            ),
            GaugeMetricFamily(
                "fsplanfix_rejected_notices", "Notices that Planfix rejected", labels=whose
            ),
            GaugeMetricFamily(
                "fsplanfix_account_paused", "Whether Planfix does not know our token", labels=whose
            ),
        ]
        # those without a notice stand at nothing
        together: dict[tuple[str, ...], list[float]] = {
            (value,): [0.0] * 4 for value in self._label.values
        }
        for account, found in backlogs.items():
            age = 0.0 if found.oldest is None else max(now - found.oldest, 0.0)
            seen = together.setdefault(tuple(self._label.of(account)), [0.0] * 4)
            seen[0] += found.waiting
            seen[1] = max(seen[1], age)
            seen[2] += found.rejected
            seen[3] = max(seen[3], float(found.unauthorized))

        for n, family in enumerate(families):
            for labels, values in together.items():
                family.add_metric(list(labels), values[n])
        yield from families


def exposition(registry: CollectorRegistry) -> Callable[[], bytes]:
    """Return a function that gives the numbers in Prometheus' text format."""
    return lambda: generate_latest(registry)
