"""Why each employee got what they got: the timeline of a call, and a call to attach to a report."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from fsplanfix.admin.explain import export, story
from fsplanfix.calls.event_log import unpacked
from fsplanfix.calls.model import Missed, Notice, Rules
from fsplanfix.calls.tracker import Tracker
from fsplanfix.freeswitch.events import SwitchEvent
from fsplanfix.outbox.archive import Archive
from fsplanfix.outbox.records import LOOKED_UP, Entry
from fsplanfix.outbox.store import Store
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix

from ..support.cases import for_each
from ..support.commands import call_cli
from ..support.deliveries import told
from ..support.kept_calls import kept, kept_of
from ..support.outbox import forget_rules
from ..support.scene import Scene
from ..support.service import running
from ..support.traces import NAMES, path_of, rules_of, shorthand, wanted


def replayed(packed: bytes, callid: str, rules: Rules) -> list[Notice]:
    """What a call's events say by themselves.

    The second call of one employee's leg is named after the client's leg; alone it is the first.
    """
    tracker = Tracker(rules)
    said = [n for event in unpacked(packed) for n in tracker.feed(event)]
    ours = [n for n in said if n.callid == callid]
    return ours or [replace(n, callid=callid) for n in said]


@pytest.mark.no_cover
@for_each(NAMES)
def test_what_is_kept_of_a_call_says_the_same_when_it_is_played_again(name: str) -> None:
    said, packed, _ = kept(name)
    for callid in {notice.callid for notice in said}:
        again = replayed(packed[callid], callid, rules_of(name))
        ours = [notice for notice in said if notice.callid == callid]
        # the next client's leg, which may end an outgoing call, has no part in it
        assert again in (ours, ours[:-1] if ours[-1].type == "out" else ours)
        assert len(packed[callid]) < 12_000


@pytest.mark.no_cover
@for_each(NAMES)
def test_nothing_stays_in_memory_once_the_calls_are_over(name: str) -> None:
    _, _, log = kept(name)
    assert (log._events_by_leg, log._legs_by_call, log._open_calls_of_leg) == ({}, {}, {})


def test_nobodys_name_and_no_sip_header_is_kept() -> None:
    _, packed, _ = kept("hostile_sip_headers")
    text = "".join(event.raw.decode() for one in packed.values() for event in unpacked(one))
    assert "Caller-Caller-ID-Number" in text
    assert not re.search("sip_h_|Caller-ID-Name|switch_r_sdp", text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('explain')}/store.db")
    yield store
    store.close()


@for_each([name for name in NAMES if not name.startswith("accounts/")])
def test_every_recorded_call_is_explained_within_eighty_columns(name: str, store: Store) -> None:
    said, packed, _ = kept(name)
    store.save(said, dict.fromkeys(packed), "s", 1.0, packed)
    for callid in packed:
        lines = story(Archive(store), rules_of(name), callid)
        text = "\n".join(lines)
        # a whole callid is copied, so it is not divided
        assert max(len(line) for line in text.splitlines() if callid not in line) <= 80
        due = [notice for notice in said if notice.callid == callid]
        assert len(re.findall(r"^ +rule \d+: ", text, re.MULTILINE)) == len(due)
        assert ("Planfix is told nothing of this call." in text) == (not due)


@pytest.mark.parametrize("are_events_kept", [True, False])
@pytest.mark.parametrize(
    ("missed", "who_answers", "reason"),
    [
        (Missed.ALL, "", "the client talked with somebody else"),
        (Missed.FIRST, "", "the client talked with somebody else"),
        (Missed.NONE, None, "MISSED counts the call for a colleague"),
    ],
)
def test_an_offer_is_canceled_by_a_talk_without_an_ext_or_by_missed(
    tmp_path: Path, missed: Missed, who_answers: str | None, reason: str, are_events_kept: bool
) -> None:
    rules = Rules(missed=missed)
    scene = Scene(rules).client().phone("B", "101", "A").rings("B")
    if who_answers is not None:
        scene.answers("A").phone("C", who_answers, "A").answers("C").bridge("A", "C").gone("C")
    scene.gone("A").gone("B")
    said, packed, _ = kept_of(scene.heard, rules)
    with closing(Store(f"sqlite:///{tmp_path}/store.db")) as store:
        store.save(said, dict.fromkeys(packed), "s", 1.0, packed if are_events_kept else {})
        text = " ".join(" ".join(story(Archive(store), rules, said[0].callid)).split())
    assert text.count(f"COMPLETED Canceled: the call went elsewhere rule 6: {reason}") == 1
    assert text.count("rule 6: talked without an ext") == (0 if who_answers is None else 2)


def test_a_leg_that_nobody_is_on_is_a_helper_leg(store: Store) -> None:
    said, packed, _ = kept("group_loopback")
    store.save(said, dict.fromkeys(packed), "s", 1.0, packed)
    told = "\n".join(line for callid in packed for line in story(Archive(store), Rules(), callid))
    assert re.search("^ .* helper leg  is called", told, re.MULTILINE)
    assert "glue" not in told


@pytest.mark.parametrize("are_events_kept", [True, False])
def test_notices_that_an_older_release_stored_are_explained(
    tmp_path: Path, are_events_kept: bool
) -> None:
    """They name no rule: it is found by their events, and left out where these are gone."""
    said, packed, _ = kept("group_answered")
    with closing(Store(f"sqlite:///{tmp_path}/store.db")) as store:
        store.save(said, dict.fromkeys(packed), "s", 1.0, packed if are_events_kept else {})
        forget_rules(store)
        text = "\n".join(story(Archive(store), Rules(), said[0].callid))
    assert len(re.findall("INCOMING|ACCEPTED|COMPLETED|record  ", text)) == len(said)
    assert len(re.findall(r"^ +rule \d+: ", text, re.MULTILINE)) == len(said) * are_events_kept
    assert "rule :" not in text


# the command, on a store a running service wrote


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of `played` is, which the tests only read."""
    return tmp_path_factory.mktemp("played")


@pytest.fixture(scope="module")
def played(folder: Path) -> Iterator[dict[str, str]]:
    """Some calls through the real service; gives their callids."""
    switch, planfix = Switch(), Planfix(token="planfix-token")
    switch.start()
    planfix.start()
    yield play_some(switch, planfix, folder)
    planfix.stop()
    switch.stop()


def play_some(switch: Switch, planfix: Planfix, folder: Path) -> dict[str, str]:
    names = ["group_answered", "in_one_busy", "ignored_by_variable", "internal_answered"]
    planfix.answers.append(500)
    callids = {}
    with running(switch, planfix, folder) as service:
        for name in names:
            callids[name] = switch.play(path_of(name), speed=0)
        group = callids["group_answered"]
        planfix.wait_for(lambda crm: len(told(crm, group)) == len(wanted("group_answered")))
        planfix.wait_for(lambda crm: len(told(crm, callids["in_one_busy"])) == 2)
        planfix.answers.append(400)
        callids["refused"] = switch.play("in_one_no_answer", speed=0)
        service.wait_for(f"notice_rejected callid={callids['refused']}")
        service.wait_for(f"delivered callid={callids['refused']}.*COMPLETED")
    return callids


def explained(folder: Path, *words: str) -> str:
    done = call_cli(folder, "explain", *words, STORE_URL=f"sqlite:///{folder}/store.db")
    assert (done.returncode, done.stderr) == (0, "")
    return " ".join(done.stdout.split())


def test_each_employee_got_what_they_got_for_a_reason(played: dict[str, str], folder: Path) -> None:
    group = explained(folder, played["group_answered"])
    for words in (
        "102 picks up",
        "101 hangs up: LOSE_RACE, another phone was faster",
        "client is connected with 102",
        "102 ACCEPTED talks with the client rule 2: connected with the client, both have answered; sent",
        "101 COMPLETED Canceled: the call went elsewhere rule 2: a colleague has the client; sent",
        "102 COMPLETED Success: talked 2 s, recorded rule 4: the talk is over; sent",
        "rule 13: a final file of a talk; sent",
        "sent with the COMPLETED",
        "recording ends:",
        "try 1 to send INCOMING: Planfix answered 500",
        "2 tries",
        "✓ Planfix has it",
    ):
        assert words in group, words
    busy = explained(folder, played["in_one_busy"])
    assert "hangs up: USER_BUSY, busy (did not ring, so no window opened: rule 1)" in busy
    assert "rule 6: no phone rang, the call is shown all the same" in busy
    ignored = explained(folder, played["ignored_by_variable"])
    assert "marked planfix_ignore" in ignored
    assert ignored.endswith("Planfix is told nothing of this call.")
    refused = explained(folder, played["refused"])
    assert "try 1 to send INCOMING: Planfix rejected it: 400" in refused
    assert "✗ rejected by Planfix" in refused
    assert explained(folder, "--last") == refused


def test_a_number_with_several_calls_gives_a_line_for_each(
    played: dict[str, str], folder: Path
) -> None:
    url = f"sqlite:///{folder}/store.db"
    done = call_cli(folder, "explain", "+7 916 123-45-67", STORE_URL=url, TZ="UTC")
    *lines, last = done.stdout.splitlines()
    assert [line.split()[-1] for line in lines] == [
        played["refused"],
        played["in_one_busy"],
        played["group_answered"],
    ]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  in 102 answered 2 s +\S+$", lines[2])
    assert last == "To explain one: fsplanfix explain CALLID"
    assert max(map(len, done.stdout.splitlines())) <= 80
    late = call_cli(folder, "explain", "79161234567", "--since", "2999-01-01", STORE_URL=url)
    assert late.stderr == "Error: No record of call or number 79161234567.\n"


def test_a_click_that_nobody_picked_up_is_not_listed_as_a_call_that_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    said, _, _ = kept("group_answered")
    with closing(Store(url)) as store:
        store.save(said[:1], {said[0].callid: "{}"}, "s", 20.0)
        what = "click to call: the employee did not pick up"
        Archive(store).write_down(Entry(10.0, what, "c-1", "101", said[0].phone))
    listed = call_cli(tmp_path, "explain", said[0].phone, STORE_URL=url).stdout.splitlines()
    assert listed[0].split(maxsplit=2)[2].split() == ["not", "over", said[0].callid]
    assert listed[1].split(maxsplit=2)[2].split() == ["Planfix", "not", "told", "c-1"]


def test_a_number_is_explained_as_the_switch_shows_it(folder: Path) -> None:
    url, rules = f"sqlite:///{folder}/store.db", {"NUMBER_RULES": r"9(8\d{10})=$1"}
    known = call_cli(folder, "explain", "79161234567", STORE_URL=url)
    shown = call_cli(folder, "explain", "989161234567", STORE_URL=url, **rules)
    assert shown.stdout == known.stdout != ""


def test_the_beginning_of_a_callid_is_enough(played: dict[str, str], folder: Path) -> None:
    callid = played["group_answered"]
    assert explained(folder, callid[:8]) == explained(folder, callid)
    assert f"callid {callid} " in explained(folder, callid[:8])


def test_the_beginning_of_several_callids_lists_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    said, _, _ = kept("group_answered")
    with closing(Store(url)) as store:
        for n in range(12):
            store.save(
                [replace(said[0], callid=f"ab%_{n:02}")], {f"ab%_{n:02}": "{}"}, "s", n + 1.0
            )
        store.save([replace(said[0], callid="abxx")], {"abxx": "{}"}, "s", 20.0)
    done = call_cli(tmp_path, "explain", "ab%_", STORE_URL=url)
    lines = done.stderr.splitlines()
    assert lines[0] == "Error: Several calls begin with ab%_:"
    assert lines[1:] == [*(f"  ab%_{n:02}" for n in range(10)), "  ..."]
    assert done.returncode == 1
    assert call_cli(tmp_path, "explain", "abx", STORE_URL=url).returncode == 0


def test_times_are_those_of_the_time_zone_which_is_named(
    played: dict[str, str], folder: Path
) -> None:
    url, callid = f"sqlite:///{folder}/store.db", played["group_answered"]
    shown = {}
    for zone in ("UTC", "Europe/Moscow", "Asia/Omsk"):
        done = call_cli(folder, "explain", callid, STORE_URL=url, TZ=zone)
        day = re.findall(r"^\d{4}-\d\d-\d\d, times in (.*)$", done.stdout, re.MULTILINE)
        hour = re.findall(r"^ .(\d\d):\d\d:\d\d\.\d\d", done.stdout, re.MULTILINE)[0]
        shown[day[0]] = int(hour)
    assert list(shown) == ["UTC", "MSK (UTC+03:00)", "UTC+06:00"]
    assert [(hour - shown["UTC"]) % 24 for hour in shown.values()] == [0, 3, 6]


def test_what_is_shown_is_not_masked_and_says_so(played: dict[str, str], folder: Path) -> None:
    words = ("explain", "--last", "--mask")
    done = call_cli(folder, *words, STORE_URL=f"sqlite:///{folder}/store.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--mask needs --export" in done.stderr


def test_news_of_the_journal_are_told_from_faults(tmp_path: Path) -> None:
    said, packed, _ = kept("group_answered")
    (callid,) = packed
    with closing(Store(f"sqlite:///{tmp_path}/store.db")) as store:
        store.save(said, dict.fromkeys(packed), "s", 1.0, packed)
        archive = Archive(store)
        for what in (f"{LOOKED_UP} Ivan (asked, 80 ms)", "try 1 to send INCOMING: 500"):
            archive.write_down(Entry(1.0, what, callid))
        lines = story(archive, Rules(), callid)
    assert any(
        re.match(r"  \S+ +-  caller looked up: Ivan \(asked, 80 ms\)$", line) for line in lines
    )
    assert any(re.match(r"! \S+ +-  try 1 to send INCOMING: 500$", line) for line in lines)
    assert "! went wrong" in lines


def test_an_unknown_call_is_a_sentence(played: dict[str, str], folder: Path) -> None:
    for unknown in (played["internal_answered"], "79260000099", "nonsense", "%", "' OR 1=1 --"):
        done = call_cli(folder, "explain", unknown, STORE_URL=f"sqlite:///{folder}/store.db")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Error: No record of call or number {unknown}.\n"
    done = call_cli(folder, "explain", STORE_URL=f"sqlite:///{folder}/store.db")
    assert "or --last" in done.stderr


def test_a_call_is_exported_and_played_again(
    played: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    plain, masked = tmp_path / "call.jsonl.gz", tmp_path / "masked.jsonl.gz"
    callid = played["group_answered"]
    assert "fsplanfix replay" in explained(folder, callid, "--export", str(plain))
    explained(folder, callid, "--export", str(masked), "--mask")
    original = wanted("group_answered")
    for file in (plain, masked):
        with gzip.open(file, "rt") as lines:
            head, *rest = [json.loads(line) for line in lines]
        assert head["events"] == len(rest)
        assert all(entry["event"].startswith("Event-Name: ") for entry in rest)
        tracker = Tracker(Rules())
        said = [n for entry in rest for n in tracker.feed(SwitchEvent(entry["event"].encode()))]
        assert sorted(shorthand(said)[callid][1:]) == sorted(original)
        assert "FreeSWITCH" not in call_cli(tmp_path, "replay", str(file)).stderr
    text = gzip.decompress(masked.read_bytes()).decode()
    assert "79161234567" not in text
    assert "74950000002" not in text
    phone = re.findall(r"Caller-Caller-ID-Number: (\d+)", text)[0]
    assert re.fullmatch(r"7916\d{7}", phone)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nonsense",), "The events of this call are not stored"),
        (
            ("--last", "--export", "/no/where/x.gz"),
            "/no/where/x.gz cannot be written (No such file or directory)",
        ),
    ],
)
def test_an_export_that_cannot_be_is_a_sentence(
    played: dict[str, str], folder: Path, words: tuple[str, ...], sentence: str
) -> None:
    options = words if "--export" in words else (*words, "--export", "x.gz")
    done = call_cli(folder, "explain", *options, STORE_URL=f"sqlite:///{folder}/store.db")
    assert done.returncode == 1
    assert sentence in done.stderr


def test_the_last_call_to_export_is_the_last_that_is_over(store_url: str, tmp_path: Path) -> None:
    """Another call has begun since, and has no events in the store yet."""
    said, packed, _ = kept("group_answered")
    (callid,) = packed
    going_on = replace(said[0], callid="going-on")
    with closing(Store(store_url)) as store:
        nothing = call_cli(tmp_path, "explain", "--last", "--export", "x.gz", STORE_URL=store_url)
        store.save(said, dict.fromkeys(packed), "s", 1.0, packed)
        store.save([going_on], {"going-on": "{}"}, "s", 2.0)
    written = call_cli(tmp_path, "explain", "--last", "--export", "x.gz", STORE_URL=store_url)
    last = call_cli(tmp_path, "explain", "--last", STORE_URL=store_url)
    assert nothing.returncode == 1
    assert f"events of call {callid} to x.gz" in written.stdout
    assert "going-on" in last.stdout


def test_a_restart_in_the_middle_leaves_a_shorter_story(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    switch.speed = 2
    with running(switch, planfix, tmp_path):
        going = gevent.spawn(switch.play, "in_one_answered")
        planfix.wait_for(
            lambda crm: any(fields.get("event") == "ACCEPTED" for fields in crm.accepted)
        )
        callid = planfix.accepted[0]["callid"]
    with running(switch, planfix, tmp_path) as service:
        going.join()
        service.wait_for("delivered.*kind=COMPLETED")
    text = explained(tmp_path, callid)
    assert "ACCEPTED talks with the client" in text
    assert "COMPLETED Success" in text


def test_a_masked_call_holds_no_name(tmp_path: Path) -> None:
    line = b"variable_planfix_contact_name: %D0%9F%D1%91%D1%82%D1%80\n"
    packed = zlib.compress(b"Event-Name: CHANNEL_HANGUP\nUnique-ID: u1\n" + line)
    file = tmp_path / "call.jsonl.gz"
    assert export(packed, file, "u1", masked=True) == 1
    text = gzip.decompress(file.read_bytes()).decode()
    assert "variable_planfix_contact_name" in text
    assert "%D0" not in text
