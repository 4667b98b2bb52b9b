"""Call detail records, whole, broken and hostile."""

from __future__ import annotations

import json

import pytest

from fsplanfix.errors import RecordError
from fsplanfix.history.record import LARGEST, read_record, uuids_of

from ..support.records import files

JSON = next(raw for file, raw in files()["utm_variables"].items() if file.startswith("json/a_"))
XML = next(raw for file, raw in files()["utm_variables"].items() if file.startswith("xml/a_"))


def test_both_kinds_say_the_same() -> None:
    one, other = read_record(JSON), read_record(XML)
    assert (one.uuid, one.core, one.applications) == (other.uuid, other.core, other.applications)
    assert [profile.times for profile in one.profiles] == [p.times for p in other.profiles]
    assert [profile.others for profile in one.profiles] == [p.others for p in other.profiles]
    assert {**one.variables, "originated_legs": ""} == {**other.variables, "originated_legs": ""}
    assert {*uuids_of(one.variable("originated_legs"))} == {
        *uuids_of(other.variable("originated_legs"))
    }
    assert b"<nolocal:lab>" in XML  # which is no prefix of a namespace


def test_values_are_decoded_unless_encoding_is_off() -> None:
    record = json.loads(JSON)
    assert " " not in record["variables"]["start_stamp"]
    assert " " in read_record(JSON).variable("start_stamp")

    record["variables"]["start_stamp"] = "2026-11-25 20:17:52"
    record["variables"]["planfix_data_sale"] = "100%25"
    raw = json.dumps(record).encode()
    assert read_record(raw).variable("planfix_data_sale") == "100%25"


@pytest.mark.parametrize("raw", [JSON, XML], ids=["json", "xml"])
def test_a_record_cut_anywhere_is_refused(raw: bytes) -> None:
    for end in range(0, len(raw) - 10, 97):
        with pytest.raises(RecordError):
            read_record(raw[:end])


BOMB = b"""<?xml version="1.0"?><!DOCTYPE cdr [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<cdr><variables><uuid>&b;</uuid></variables></cdr>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE cdr [<!ENTITY e SYSTEM "file:///etc/hostname">]>
<cdr><variables><uuid>&e;</uuid></variables></cdr>"""
DTD = b'<?xml version="1.0"?><!DOCTYPE cdr SYSTEM "http://127.0.0.1:1/cdr.dtd"><cdr></cdr>'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"<cdr/>",
        b"<html><body>cdr</body></html>",
        b"\x00" * 20,
        JSON.replace(b'"uuid"', b'"\x00"', 1),
        b"[" * 100_000,
        b"<a>" * 100_000,
        b" " * (LARGEST + 1),
        BOMB,
        EXTERNAL,
        DTD,
        b'<?xml version="1.0" encoding="no-such"?><cdr></cdr>',
        b'{"variables": [], "callflow": {}, "app_log": 1}',
        b'{"variables": {"uuid": "a b"}, "callflow": [1, {"times": 5}]}',
        json.dumps(json.loads(JSON) | {"callflow": []}).encode(),
        JSON.replace(b'"created_time":"1', b'"created_time":"-1'),
        JSON.replace(b'"hangup_time":"1', b'"hangup_time":"\xc2\xb2'),
    ],
)
def test_what_is_no_whole_record_is_refused(raw: bytes) -> None:
    with pytest.raises(RecordError) as refused:
        read_record(raw)
    assert len(str(refused.value)) < 80


def test_names_of_legs_are_uuids_only() -> None:
    assert list(uuids_of("ARRAY::a;Outbound Call;101|:b;x;102")) == ["a", "b"]
    assert list(uuids_of("a;Outbound Call;101")) == ["a"]
    assert list(uuids_of("")) == []
    assert list(uuids_of("ARRAY::a\nUnique-ID: b|: ")) == []
