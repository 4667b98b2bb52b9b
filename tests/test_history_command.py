"""`fsplanfix history`: calls told from records by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fsplanfix.outbox.queue import Queue
from fsplanfix.outbox.store import Store

from .support.commands import call_cli
from .support.records import files
from .support.traces import by_ext, path_of, wanted

SINCE = ("--since", "2026-11-01T08:00")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cdr"
    folder.mkdir()
    return folder


def write(folder: Path, name: str, kind: str) -> None:
    for file, raw in files()[name].items():
        if file.startswith(f"{kind}/"):
            (folder / Path(file).name).write_bytes(raw)


def fields_of(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def ends(requests: list[dict[str, str]]) -> list[dict[str, str]]:
    found = [one for one in requests if one.get("event") in (None, "COMPLETED")]
    return sorted(found, key=lambda one: (one["callid"], one.get("ext", ""), one["cmd"]))


@pytest.mark.parametrize("kind", ["json", "xml"])
def test_a_dry_run_prints_what_replay_prints_of_the_same_call(
    tmp_path: Path, folder: Path, kind: str
) -> None:
    write(folder, "utm_variables", kind)
    done = call_cli(tmp_path, "history", *SINCE, "--dry-run", "--json", str(folder))
    live = call_cli(tmp_path, "replay", "--json", str(path_of("utm_variables")))
    assert done.returncode == 0
    assert ends(fields_of(done.stdout)) == ends(fields_of(live.stdout))


def test_a_dry_run_is_readable_and_needs_no_settings(tmp_path: Path, folder: Path) -> None:
    write(folder, "group_answered", "json")
    done = call_cli(tmp_path, "history", *SINCE, "--dry-run", str(folder))
    assert done.returncode == 0
    assert "79161234567" in done.stdout
    assert re.search(r"^  \d{4}-\d\d-\d\d, times in ", done.stdout, re.MULTILINE)
    assert "COMPLETED" in done.stdout
    assert not (tmp_path / "fsplanfix.db").exists()


def settings(tmp_path: Path, folder: Path) -> dict[str, str]:
    return {
        "PLANFIX_URL": "https://example.planfix.com/tel/api",
        "PLANFIX_TOKEN": "planfix-token",
        "PBX_TOKEN": "pbx-token-1",
        "STORE_URL": f"sqlite:///{tmp_path}/store.db",
        "CDR_DIR": str(folder),
        "HISTORY_RATE": "1000",
    }


def test_what_is_told_by_hand_is_told_once(tmp_path: Path, folder: Path) -> None:
    env = settings(tmp_path, folder)
    Store(env["STORE_URL"]).close()
    for name in ("group_answered", "out_busy", "internal_answered"):
        write(folder, name, "json")
    (folder / "broken.cdr.json").write_text("{")
    first = call_cli(tmp_path, "history", "--since", "2026-11-20", **env, KEEP_DAYS="100000")
    assert "3 calls were read, 2 of them are new" in first.stdout
    assert "broken.cdr.json: it is not whole JSON" in first.stderr
    again = call_cli(tmp_path, "history", "--since", "2026-11-20", **env, KEEP_DAYS="100000")
    assert "3 calls were read, 0 of them are new" in again.stdout
    store = Store(env["STORE_URL"])
    due = sum(Queue(store).counts().values())
    store.close()
    assert due == len(wanted("group_answered")) + len(wanted("out_busy"))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--since", "2026-11-01"), "or set CDR_DIR"),
        (("--since", "2h"), "or set CDR_DIR"),
        (("--since", "yesterday"), "'yesterday' is not a time; write it like 2h"),
        ((*SINCE, "--json", "."), "--json needs --dry-run"),
        ((*SINCE, "--dry-run", "no/such/folder"), "no/such/folder cannot be read"),
        ((), "--since"),
    ],
)
def test_a_wrong_order_says_what_is_wrong(
    tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    done = call_cli(tmp_path, "history", *words)
    assert done.returncode
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_calls_that_the_store_has_forgotten_are_not_told_again(
    tmp_path: Path, folder: Path
) -> None:
    env = settings(tmp_path, folder)
    Store(env["STORE_URL"]).close()
    done = call_cli(tmp_path, "history", "--since", "2020-01-01", **env)
    assert done.returncode
    assert "KEEP_DAYS" in done.stderr


def test_the_talks_are_those_of_the_live_run(tmp_path: Path, folder: Path) -> None:
    write(folder, "group_answered", "json")
    done = call_cli(tmp_path, "history", *SINCE, "--dry-run", "--json", str(folder))
    letters = {"Success": "S", "Canceled": "X"}
    told = [
        letters[one["status"]] + one["ext"] + ("!" if one["is_recorded"] == "1" else "")
        for one in fields_of(done.stdout)
        if one.get("status")
    ]
    expected = [token for token in wanted("group_answered") if token[0] in "SX"]
    assert by_ext(told) == by_ext(expected)
