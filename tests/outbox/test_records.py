"""Which notices hold up others: told from the recorded calls, not from what a store is handed."""

from fsplanfix.calls.model import Kind, Notice, Status
from fsplanfix.calls.tracker import Tracker
from fsplanfix.outbox.records import rows_of

from ..support.traces import NAMES, events, rules_of


def is_given_up(end: Notice, said: list[Notice]) -> bool:
    """Tell whether an offer ended for the next phone to ring: nobody has picked up since it began."""
    call = [n for n in said if n.callid == end.callid]
    begun = next(
        n for n in call if (n.ext, n.ordinal, n.kind) == (end.ext, end.ordinal, Kind.INCOMING)
    )
    offer = call[call.index(begun) : call.index(end)]
    later = call[call.index(end) :]
    return not any(n.kind is Kind.ACCEPTED for n in offer) and any(
        n.kind is Kind.INCOMING for n in later
    )


def test_the_offers_that_a_hop_gave_up_are_found_in_every_recorded_call() -> None:
    """Each event's notices are looked at alone: so little may be handed to the store at once."""
    found = 0
    for name in NAMES:
        tracker, said, barriers = Tracker(rules_of(name)), list[Notice](), list[bool]()
        for event in events(name):
            at_once = tracker.feed(event)
            said += at_once
            barriers += [row["barrier"] for row in rows_of(at_once, 1.0)]
        for notice, barrier in zip(said, barriers, strict=True):
            if notice.status is Status.CANCELED:
                assert barrier == is_given_up(notice, said), (name, notice)
                found += barrier
    assert found > 5
