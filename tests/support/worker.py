"""A pipeline that a test feeds, step by step, and what it hears and says."""

from __future__ import annotations

from fsplanfix.calls.model import Notice, Rules, Status
from fsplanfix.calls.whose import AnyRules
from fsplanfix.errors import StoreError
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.freeswitch.link import Gap
from fsplanfix.outbox.store import Store
from fsplanfix.service.history import NO_RECORDS, Records
from fsplanfix.service.pipeline import Pipeline

from .traces import by_ext, events, shorthand

SERVER = "127.0.0.1:8021"


class Worker:
    """A pipeline that a test feeds, step by step."""

    def __init__(
        self,
        store: Store,
        rules: AnyRules | None = None,
        server: str = SERVER,
        records: Records = NO_RECORDS,
    ) -> None:
        self.said: list[Notice] = []
        rules = rules or Rules()
        self.pipeline = Pipeline(
            server, rules, store, lambda: None, self.said.append, records=records
        )

    def hear(self, *heard: SwitchEvent) -> None:
        for event in heard:
            self.pipeline.inbox.on_event(event)
            self.pipeline.step()

    def relink(self, channels: list[dict[str, str]] | None, core: str = "") -> None:
        self.pipeline.inbox.on_reconnect(Gap(core, lambda: channels, list))
        self.pipeline.step()

    def compare(self, channels: list[dict[str, str]] | None, *heard: SwitchEvent) -> None:
        def ask() -> list[dict[str, str]] | None:
            for event in heard:
                self.pipeline.inbox.on_event(event)
            return channels

        self.pipeline.inbox.compare(ask)
        self.pipeline.step()

    def end_all(self, core: str) -> None:
        self.pipeline.inbox.end_all(core)
        self.pipeline.step()

    def stop(self, is_linked: bool) -> None:
        self.pipeline.inbox.stop(is_linked)
        assert not self.pipeline.step()

    @property
    def tokens(self) -> dict[str, list[str]]:
        (call,) = shorthand(self.said).values()
        return by_ext(call[1:])


def heartbeat(at: int) -> SwitchEvent:
    return SwitchEvent.made_of({"Event-Name": "HEARTBEAT", "Event-Date-Timestamp": str(at)})


def upto(name: str, wanted: str, count: int = 1) -> tuple[list[SwitchEvent], list[SwitchEvent]]:
    """The events of a trace up to the `count`-th of a name, that one included, and the rest."""
    stream = events(name)
    at = [n for n, event in enumerate(stream) if event.name == wanted][count - 1] + 1
    return list(stream[:at]), list(stream[at:])


def success(said: list[Notice]) -> Notice:
    return next(n for n in said if n.status is Status.SUCCESS)


def by_ext_of(*workers: Worker) -> dict[str, list[str]]:
    said = [n for worker in workers for n in worker.said]
    (call,) = shorthand(said).values()
    return by_ext(call[1:])


def unanswered(*_: object, **__: object) -> None:
    raise StoreError("The database does not answer.")
