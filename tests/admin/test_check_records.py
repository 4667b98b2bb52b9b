"""What `fsplanfix check` says about FreeSWITCH's call detail records."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fsplanfix.admin.check_freeswitch import check_freeswitch
from fsplanfix.admin.check_records import check_records
from fsplanfix.admin.findings import Grade
from fsplanfix.settings import Settings
from fsplanfix.simulators.freeswitch import Switch

from ..support.records import files


def settings(**more: str) -> Settings:
    values = {
        "planfix_url": "https://example.planfix.com/tel/api",
        "planfix_token": "planfix-token",
        "pbx_token": "0123456789abcdef",
        **more,
    }
    return Settings(_env_file=None, **values)  # type: ignore[arg-type, call-arg]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cdr"
    folder.mkdir()
    return folder


def write(folder: Path, begin: str = "json/", days: float = 0) -> None:
    for file, raw in files()["group_answered"].items():
        if file.startswith(begin):
            path = folder / Path(file).name
            path.write_bytes(raw)
            os.utime(path, (time.time() - days * 86400,) * 2)


def found(folder: Path, kind: str = "json") -> list[tuple[str, Grade]]:
    findings = list(check_records(settings(cdr_dir=str(folder), cdr_kind=kind)))
    for finding in findings:
        assert bool(finding.hint) == (finding.grade != Grade.OK)
    return [(finding.code, finding.grade) for finding in findings]


def test_without_a_folder_nothing_is_said() -> None:
    assert list(check_records(settings())) == []


@pytest.mark.parametrize("kind", ["json", "xml"])
def test_records_of_both_legs_are_fine(folder: Path, kind: str) -> None:
    write(folder, f"{kind}/")
    assert found(folder, kind) == [("records.sound", Grade.OK)]


def test_records_of_one_leg_only_are_not_enough(folder: Path) -> None:
    write(folder, "json/a_")
    assert found(folder) == [("records.one-leg", Grade.BROKEN)]


def test_a_folder_without_records_may_be_new(folder: Path) -> None:
    assert found(folder) == [("records.none", Grade.WARNING)]


def test_records_of_the_other_module_are_recognised(folder: Path) -> None:
    write(folder, "xml/")
    assert found(folder) == [("records.other-kind", Grade.BROKEN)]


def test_records_that_stopped_to_come_are_reported(folder: Path) -> None:
    write(folder, days=3)
    assert found(folder) == [("records.old", Grade.WARNING), ("records.sound", Grade.OK)]


def test_files_that_nobody_can_read_are_reported(folder: Path) -> None:
    (folder / "a.cdr.json").write_text("{")
    assert found(folder) == [("records.broken", Grade.BROKEN)]
    assert found(folder / "missing") == [("records.unreadable", Grade.BROKEN)]


def test_a_module_that_is_not_loaded_is_reported(switch: Switch, folder: Path) -> None:
    address = f"esl://:ClueCon@127.0.0.1:{switch.port}"
    with_records = settings(freeswitch_esl=address, cdr_dir=str(folder))
    [server] = with_records.freeswitch_esl

    def codes(chosen: Settings) -> set[str]:
        return {finding.code for finding in check_freeswitch(chosen, server)}

    assert "records.no-module" not in codes(with_records)
    switch.modules = set()
    assert "records.no-module" in codes(with_records)
    assert "records.no-module" in codes(settings(freeswitch_esl=address, cdr_secret="a-secret"))
    assert "records.no-module" not in codes(settings(freeswitch_esl=address))
    switch.denied = {"module_exists"}
    assert "records.no-module" not in codes(with_records)
