"""Who may not be what the settings say."""

import pytest

from fsplanfix.calls.doubts import MOST_NAMES
from fsplanfix.calls.model import Rules

from ..support.scene import Scene


def brought_in(scene: Scene, user: str, *numbers: str, to: str = "74950000001") -> Scene:
    for number in numbers:
        scene.employee(f"{user}{scene.now}", user, to, shows=number)
    return scene


def is_news(scene: Scene) -> bool:
    changed, scene.tracker.doubts.changed = scene.tracker.doubts.changed, False
    return changed


MANY = ("79161234561", "79161234562", "79161234563")


def test_a_login_that_shows_many_outside_numbers_is_named_once() -> None:
    scene = brought_in(Scene(), "200", *MANY[:2], MANY[0])
    assert not is_news(scene)
    brought_in(scene, "200", MANY[2])
    assert is_news(scene)
    assert scene.tracker.doubts.named() == {"users": ["200"], "gateways": []}
    brought_in(scene, "200", "79161234564")
    assert not is_news(scene)


def test_a_phone_that_picks_up_others_calls_shows_their_callers() -> None:
    scene = brought_in(Scene(), "104", *MANY, to="101")
    assert scene.tracker.doubts.named()["users"] == []


def test_a_phone_that_shows_its_own_line_is_none() -> None:
    scene = brought_in(Scene(), "101", *["74950000000"] * 5, to="79161234567")
    assert scene.tracker.doubts.named()["users"] == []


@pytest.mark.parametrize(
    ("numbers", "named"), [(("201", "202"), ["trunk"]), (("112", "102"), []), (("201", "201"), [])]
)
def test_a_gateway_through_which_exts_are_dialled(
    numbers: tuple[str, ...], named: list[str]
) -> None:
    scene = Scene().employee("A", "101")
    for number in numbers:
        scene.outside(f"B{scene.now}", "A", number=number)
    assert scene.tracker.doubts.named()["gateways"] == named


def test_names_are_bounded() -> None:
    scene = Scene(Rules())
    for user in range(100, 100 + MOST_NAMES + 10):
        brought_in(scene, str(user), *MANY)
    assert len(scene.tracker.doubts.named()["users"]) == MOST_NAMES
