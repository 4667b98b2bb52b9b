"""Once an hour Planfix is asked which key and address of ours it holds."""

from collections.abc import Mapping

import pytest

from fsplanfix.errors import TransportError
from fsplanfix.outbox.reader import Reader
from fsplanfix.outbox.standing import StandingReader
from fsplanfix.outbox.store import Store
from fsplanfix.planfix.keys import PbxKeys
from fsplanfix.service.agreement import ASKED_AT, EVERY, Agreement

KEYS = PbxKeys("present-key", "former-key")
PUBLIC_URL = "https://pbx.example.com"
RIGHT = {"pbxToken": "present-key", "pbxUrl": "https://pbx.example.com/planfix"}


class Asked:
    """Stands for Planfix: gives the same answer every time."""

    def __init__(self) -> None:
        self.answer: Mapping[str, object] | Exception = RIGHT
        self.count = 0

    def __call__(self, fields: Mapping[str, str], _: float) -> Mapping[str, object]:
        assert fields == {"cmd": "ping"}
        self.count += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def let_an_hour_pass(store: Store) -> None:
    store.facts.swap(ASKED_AT, str(store.now() - EVERY - 1))


@pytest.mark.parametrize(
    ("answer", "differs", "words"),
    [
        (RIGHT, (), ""),
        ({**RIGHT, "pbxUrl": "https://pbx.example.com/planfix/"}, (), ""),
        ({**RIGHT, "pbxUrl": "https://pbx.example.com/planfix/romashka"}, (), ""),
        (
            {**RIGHT, "pbxUrl": "https://pbx.example.com/planfix/../x"},
            ("address",),
            "enter https://pbx.example.com/planfix in Planfix",
        ),
        ({**RIGHT, "pbxToken": "former-key"}, ("former key",), "remove PBX_TOKEN_OLD"),
        ({**RIGHT, "pbxToken": "another-key"}, ("key",), "enter PBX_TOKEN in Planfix"),
        ({**RIGHT, "pbxToken": None}, ("key",), "enter PBX_TOKEN in Planfix"),
        ({**RIGHT, "pbxToken": "\ud800"}, ("key",), "enter PBX_TOKEN in Planfix"),
        (
            {**RIGHT, "pbxUrl": "https://evil.example/\n\x1b[2J" + "x" * 10_000},
            ("address",),
            "enter https://pbx.example.com/planfix in Planfix",
        ),
        ({"pbxToken": [], "pbxUrl": {}}, ("key", "address"), "enter PBX_TOKEN in Planfix"),
        ({}, (), ""),
        (TransportError("400", permanent=True), (), ""),
        (TransportError("late"), (), ""),
    ],
)
def test_what_planfix_holds_that_is_not_ours_raises_an_alarm(
    store: Store,
    capsys: pytest.CaptureFixture[str],
    answer: Mapping[str, object] | Exception,
    differs: tuple[str, ...],
    words: str,
) -> None:
    asked = Asked()
    asked.answer = answer
    agreement = Agreement(store, asked, lambda: True, KEYS, PUBLIC_URL)
    assert agreement.step()
    said = capsys.readouterr().out
    assert said.count("planfix_differs") == len(differs)
    assert words in said
    assert "another-key" not in said
    assert "x" * 200 not in said
    standing = StandingReader(Reader(store)).standing(lambda: True)
    assert standing.differs == differs

    # once an hour, whichever worker asks
    assert not agreement.step()
    assert not Agreement(store, asked, lambda: True, KEYS, PUBLIC_URL).step()
    assert asked.count == 1

    asked.answer = RIGHT
    let_an_hour_pass(store)
    assert agreement.step()
    assert ("planfix_agrees_again" in capsys.readouterr().out) == bool(differs)
    assert StandingReader(Reader(store)).standing(lambda: True).differs == ()


def test_nobody_is_asked_before_it_is_known_whom(store: Store) -> None:
    asked = Asked()
    assert not Agreement(store, asked, lambda: False, KEYS, PUBLIC_URL).step()
    assert asked.count == 0


def test_without_our_address_only_the_key_is_compared(store: Store) -> None:
    asked = Asked()
    asked.answer = {**RIGHT, "pbxUrl": "https://elsewhere.example/planfix"}
    Agreement(store, asked, lambda: True, KEYS, "").step()
    assert StandingReader(Reader(store)).standing(lambda: True).differs == ()


def test_each_companys_planfix_is_compared_by_itself(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, right = Asked(), Asked()
    wrong.answer = {**RIGHT, "pbxToken": "another-key"}
    for account, asked in (("a", wrong), ("b", right)):
        agreement = Agreement(store, asked, lambda: True, KEYS, PUBLIC_URL, account)
        assert agreement.step()
        assert not agreement.step()
    assert "account=" in capsys.readouterr().out
    found = {
        account: StandingReader(Reader(store), account).standing(lambda: True).differs
        for account in ("a", "b", "")
    }
    assert found == {"a": ("key",), "b": (), "": ("key",)}
