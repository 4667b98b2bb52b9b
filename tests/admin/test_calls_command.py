"""`fsplanfix calls` as a person meets it: in a terminal of 80 columns, or in a spreadsheet."""

import csv
import io
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fsplanfix.admin.call_search import client_search, line_digits
from fsplanfix.calls.model import Direction
from fsplanfix.calls.number_rules import read_rules
from fsplanfix.calls.numbers import Numbering
from fsplanfix.outbox.call_list import Search
from fsplanfix.outbox.store import Store

from ..support.commands import call_cli
from ..support.listed_calls import call, save

MOSCOW = {"TZ": "Europe/Moscow"}
AT = 1_763_463_802.0  # 2025-11-18 14:03:22 in Moscow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store(f"sqlite:///{tmp_path}/fsplanfix.db")
    save(
        store,
        call("c1", AT, "101", "102", "103", taken_by="102", name="Пётр Ёлкин", talked=124),
        call("c2", AT + 60, "101", "102", phone="79031112233", name='=HYPERLINK("http://x")'),
        call("c3", AT + 120, "101", way=Direction.OUT, phone="74991112233"),
        call("c4", time.time() - 3600, "104", taken_by="104", talked=4000),
    )
    store.close()
    return tmp_path


def test_calls_are_listed_in_80_columns_with_dates(folder: Path) -> None:
    done = call_cli(folder, "calls", **MOSCOW)
    assert done.returncode == 0, done.stderr
    head, latest, out, missed, answered, end = done.stdout.splitlines()
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert head.split() == ["began", "client", "result", "waited", "talked"]
    assert "1:06:40" in latest
    assert out.split()[:3] == ["2025-11-18", "14:05", "out"]
    assert "no answer 101" in out
    assert "missed 101 +1" in missed
    assert answered.split() == (
        [
            "2025-11-18",
            "14:03",
            "in",
            "79161234567",
            "Пётр",
            "Ёлкин",
            "answered",
            "102",
            "+2",
            "0:10",
            "2:04",
        ]
    )
    assert end == "4 calls"


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--today", "--since", "1w"], None),
        (["--since", "2h"], 1),
        (["--since", "2025-11-18T14:05"], 2),
        (["--ext", "103"], 1),
        (["--missed"], 1),
        (["--number", "8 (916) 123-45-67"], 2),
        (["--number", "1112233"], 2),
        (["--number", "елкин"], 1),
        (["--number", "nobody"], 0),
    ],
)
def test_calls_can_be_chosen(folder: Path, options: list[str], count: int | None) -> None:
    done = call_cli(folder, "calls", *options, **MOSCOW)
    assert done.returncode == 0, done.stderr
    if count is not None:
        assert int(done.stdout.splitlines()[-1].split()[0]) == count


def test_a_time_that_is_none_is_said(folder: Path) -> None:
    done = call_cli(folder, "calls", "--since", "yesterday")
    assert done.returncode == 2
    assert "write it like 2h, 3d" in done.stderr


def test_csv_has_every_field_and_no_formula(folder: Path) -> None:
    done = call_cli(folder, "calls", "--csv", "--since", "2025-01-01", **MOSCOW)
    _, _, missed, answered = csv.DictReader(io.StringIO(done.stdout))
    assert missed["name"] == '\'=HYPERLINK("http://x")'
    assert datetime.fromisoformat(answered["began"]).timestamp() == AT
    assert answered["began"].endswith("+03:00")
    del answered["began"]
    assert answered == {
        "direction": "in",
        "number": "79161234567",
        "name": "Пётр Ёлкин",
        "line": "74950000001",
        "result": "answered",
        "waited_seconds": "10",
        "talked_seconds": "124",
        "answered_by": "102",
        "rung": "102 101 103",
        "recordings": "0",
        "callid": "c1",
    }


@pytest.mark.parametrize(
    "name", ["=1", "+1", "-1", "@x", " =1", "\t=1", "\r=1", "\n=1", "\x1b[31m"]
)
def test_a_hostile_name_is_shown_and_not_obeyed(tmp_path: Path, name: str) -> None:
    store = Store(f"sqlite:///{tmp_path}/fsplanfix.db")
    save(store, call("c1", AT, "101", name=name))
    store.close()
    (row,) = csv.DictReader(io.StringIO(call_cli(tmp_path, "calls", "--csv").stdout))
    assert row["name"].lstrip()[0] in "'\\"
    assert "\x1b" not in call_cli(tmp_path, "calls").stdout


@pytest.mark.parametrize(
    ("typed", "fields"),
    [
        ("", {}),
        (" + ", {}),
        ("+7 916 123-45-67", {"number": "79161234567"}),
        ("89161234567", {"number": "79161234567"}),
        ("1234567", {"digits": "1234567"}),
        ("  пётр  ёлкин ", {"name": "пётр ёлкин"}),
        ("²", {"name": "²"}),
    ],
)
def test_what_is_typed_is_a_number_or_a_name(typed: str, fields: dict[str, Any]) -> None:
    assert client_search(typed, Numbering()) == Search(**fields)


HOUSE = Numbering("RU", "495", read_rules(r"9(8\d{10})=$1;(\d{4})=7495000$1"))


@pytest.mark.parametrize(
    ("typed", "fields", "line"),
    [
        ("9 8 (916) 123-45-67", {"number": "79161234567"}, "79161234567"),
        # AREA_CODE would make 74951234567 of it; as a part it is in that and in others
        ("123-45-67", {"digits": "1234567"}, "1234567"),
        ("0001", {"digits": "0001"}, "0001"),
        ("89161234567", {"number": "79161234567"}, "79161234567"),
        ("79161234567", {"number": "79161234567"}, "79161234567"),
        ("+79161234567", {"number": "79161234567"}, "79161234567"),
        ("9161", {"digits": "9161"}, "9161"),
        ("gw", {"name": "gw"}, "gw"),
    ],
)
def test_a_number_is_found_as_the_switch_shows_it(
    typed: str, fields: dict[str, Any], line: str
) -> None:
    assert client_search(typed, HOUSE) == Search(**fields)
    assert line_digits(typed, HOUSE) == line


def test_calls_are_found_by_a_number_as_the_switch_shows_it(folder: Path) -> None:
    rules = {"NUMBER_RULES": r"9(8\d{10})=$1"}
    found = call_cli(folder, "calls", "--number", "989031112233", "--csv", **MOSCOW, **rules).stdout
    assert [row["callid"] for row in csv.DictReader(io.StringIO(found))] == ["c2"]
