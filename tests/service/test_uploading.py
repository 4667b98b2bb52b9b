"""That a bucket does not take recordings is noted in the store, for every worker to see."""

from fsplanfix.outbox.store import Store
from fsplanfix.outbox.trouble import BUCKET_PROBLEM, FAILS_FOR, bucket_problem
from fsplanfix.service.uploading import _note

NAME = f"{BUCKET_PROBLEM} romashka"


def test_an_outage_is_as_old_as_its_first_failure(store: Store) -> None:
    for problem in ("the bucket answered 503", "the bucket cannot be used"):
        _note(store, "romashka", problem)
    fact = store.facts.get(NAME)
    assert bucket_problem(fact, store.now()) == ""
    assert bucket_problem(fact, store.now() + FAILS_FOR) == "the bucket cannot be used"
    _note(store, "romashka", "")
    assert bucket_problem(store.facts.get(NAME), store.now() + FAILS_FOR) == ""
