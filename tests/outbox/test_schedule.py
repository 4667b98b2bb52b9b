import pytest

from fsplanfix.outbox.schedule import is_hopeless, plan_pause


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (5000, 300)]
)
def test_pauses_double_up_to_five_minutes(attempts: int, seconds: float) -> None:
    assert plan_pause(attempts, 0.5) == seconds


def test_pauses_are_moved_by_a_fifth_at_most() -> None:
    assert plan_pause(3, 0.0) == pytest.approx(3.2)
    assert plan_pause(3, 1.0) == pytest.approx(4.8)


def test_a_notice_is_tried_for_three_days() -> None:
    assert not is_hopeless(created=0, now=72 * 3600)
    assert is_hopeless(created=0, now=72 * 3600 + 1)
