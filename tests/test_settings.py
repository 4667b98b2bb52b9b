import re
import subprocess
import sys
from pathlib import Path

import pytest

from fsplanfix.admin.initial_settings import problem_with
from fsplanfix.errors import SettingsError
from fsplanfix.freeswitch.connection import Server
from fsplanfix.settings import SECRETS, RuleSettings, Settings, load

from .support.service import environment

ROOT = Path(__file__).parent.parent
GOOD = {
    "PLANFIX_URL": "https://example.planfix.com/tel/api",
    "PLANFIX_TOKEN": "planfix-secret",
    "PBX_TOKEN": "pbx-secret-1",
}


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def problems(monkeypatch: pytest.MonkeyPatch, **changed: str) -> list[str]:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert not re.search("secret", str(caught.value))
    return caught.value.problems


def test_three_settings_are_enough() -> None:
    settings = load(Settings)
    assert settings.freeswitch_esl == (Server("127.0.0.1", 8021, "ClueCon"),)
    assert settings.rules().ext_pattern.fullmatch("101")


def test_every_missing_setting_gets_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # without an address and a token, Planfix's `setup` tells both; one of them alone is a mistake
    for left in (["PLANFIX_URL"], ["PLANFIX_TOKEN"], []):
        for name in GOOD:
            monkeypatch.delenv(name, raising=False)
        for name in left:
            monkeypatch.setenv(name, GOOD[name])
        missing = ["PBX_TOKEN"] if not left else [name for name in GOOD if name not in left]
        found = [sentence.split(" is missing: ")[0] for sentence in problems(monkeypatch)]
        assert found == missing


def test_a_setting_that_is_no_text_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, WINDOWS="\udcff") == [
        "A setting in the environment is not text in UTF-8."
    ]


def test_without_an_address_and_a_token_setup_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLANFIX_URL")
    monkeypatch.delenv("PLANFIX_TOKEN")
    assert load(Settings).planfix_url == ""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PLANFIX_URL", "example.planfix.com", "is not a web address"),
        ("RECORDINGS_S3", "my-bucket/recordings", "write it like s3://my-bucket/recordings"),
        ("RECORDINGS_S3_ENDPOINT", "s3.example.com", "write it like https://s3.example.com"),
        ("ALERT_COMMAND", "mail root", "name the program with its whole path"),
        ("ALERT_URL", "http://alerts.example.com/secret", "write it like https://"),
        ("PLANFIX_URL", "http://example.planfix.com/tel/api", "begin it with https://"),
        ("PUBLIC_URL", "http://pbx.example.com", "begin it with https://"),
        ("PBX_TOKEN", "short", "at least 8"),
        ("PBX_TOKEN_OLD", "short", "the key that Planfix still sends"),
        ("FREESWITCH_ESL", "127.0.0.1:8021", "write it like esl://:PASSWORD@127.0.0.1:8021"),
        ("FREESWITCH_ESL", "esl://:secret@127.0.0.1:99999", "write it like esl://"),
        ("FREESWITCH_ESL", "esl://:secret@127.0.0.1:8021,nonsense", "write it like esl://"),
        ("HTTP_LISTEN", "8080", "write it like 127.0.0.1:8080"),
        ("HTTP_LISTEN", "127.0.0.1:99999", "write it like 127.0.0.1:8080"),
        ("COUNTRY", "Russia", "two letters"),
        ("EXTENSION_PATTERN", "[", "not a regular expression"),
        ("EXTENSION_ALIASES", "79260000007", "write it like 79260000007:101"),
        ("EXTENSION_ALIASES", "79260000007:{x}", "write it like 79260000007:101"),
        ("DEFAULT_EXT", "a", "write it like 101"),
        ("DEFAULT_EXT", "74950000001:a", "write it like 101, or by line"),
        ("DEFAULT_EXT", "line:101", "write it like 101, or by line"),
        ("MISSED", "some", "write all, first, last or none"),
        ("WINDOWS", "never", "write ring, answer or known"),
        ("DIAL_STRING", "sofia/gateway/trunk/", "with {number} once"),
        ("DIAL_STRING", "{x=1}sofia/gateway/trunk/{number}", "with {number} once"),
        ("DIAL_STRING", "sofia/gateway/trunk/{number},user/101", "with {number} once"),
        ("DIAL_CONTEXT", "default inline", "write it like default"),
        ("USER_DOMAIN", "a}b", "write it like pbx.example.com"),
        ("OUTBOUND_CALLER_ID", "7495,x=1", "write it like 74950000001"),
        ("OUTBOUND_CALLER_ID", "101", "an ext by EXTENSION_PATTERN; write your company's number"),
        ("OUTBOUND_CALLER_ID", "+101", "an ext by EXTENSION_PATTERN; write your company's number"),
        ("OUTBOUND_CALLER_ID", "495123", "not a whole phone number; write your company's number"),
        ("OUTBOUND_CALLER_ID", "0000000000", "not a whole phone number"),
        ("OUTBOUND_CALLER_ID", "+", "not a whole phone number"),
        ("AREA_CODE", "4 95", "write it like 495"),
        ("NUMBER_RULES", "9=user/101", "write it like 9("),
        ("NUMBER_RULES", "[=1", "not a regular expression"),
        ("DIAL_RULES", "7(\\d+)=$2", "fewer groups"),
        ("DIAL_RULES", "8=9;7(\\d+)=+7$1", "like 98$1 behind the =, and a + into DIAL_STRING"),
        ("DIAL_RULES", "7.*=", "'7.*=' cannot be used; write digits"),
        ("RING_FIRST", "manager,all", "write it like manager,last"),
        ("RING_FIRST", "last,last", "write it like manager,last"),
        ("RING_SECONDS", "0", "the least is 3."),
        ("RING_SECONDS", "61", "the most is 60."),
        ("RING_LAST_DAYS", "-1", "the least is 0."),
        ("DIAL_ALLOW", "(", "not a regular expression"),
        ("RINGBACK", "ring", "write a tone like %(1000,4000,425)"),
        ("RINGBACK", "%(1000,4000,425),x=1", "write a tone like %(1000,4000,425)"),
        ("RINGBACK", "%(1000,4000,425)}user/102", "write a tone like %(1000,4000,425)"),
        ("PLANFIX_CONCURRENCY", "0", "the least is 1."),
        ("PLANFIX_CONCURRENCY", "many", "write a whole number"),
        ("REPORT_UNROUTED", "perhaps", "write true or false"),
        ("LOG_LEVEL", "LOUD", "write it like INFO"),
    ],
)
def test_a_wrong_setting_gets_one_sentence_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    (sentence,) = problems(monkeypatch, **{name: value})
    assert sentence.startswith(f"{name}: ")
    assert words in sentence


def test_loopback_may_be_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANFIX_URL", "http://127.0.0.1:8090/tel/api")
    assert load(Settings).planfix_url == "http://127.0.0.1:8090/tel/api"


def test_several_servers_also_by_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREESWITCH_ESL", "esl://:a@b:c@[::1]:8021, esl://:x@pbx.example.com:8022")
    servers = load(Settings).freeswitch_esl
    assert servers == (Server("::1", 8021, "a@b:c"), Server("pbx.example.com", 8022, "x"))
    assert [server.name for server in servers] == ["[::1]:8021", "pbx.example.com:8022"]


def test_an_address_may_be_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_LISTEN", "[::1]:8080")
    address = load(Settings).http_listen
    assert (address.host, address.port, str(address)) == ("::1", 8080, "[::1]:8080")


def test_passwords_are_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREESWITCH_ESL", "esl://:hunter2@127.0.0.1:8021")
    assert "hunter2" not in repr(load(Settings))


def test_aliases_and_contexts_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTENSION_ALIASES", "79260000007:101, 79260000008:102")
    monkeypatch.setenv("TRUSTED_CONTEXTS", "default, office")
    rules = load(RuleSettings).rules()
    assert rules.aliases == {"79260000007": "101", "79260000008": "102"}
    assert rules.trusted_contexts == {"default", "office"}


@pytest.mark.parametrize(
    ("value", "exts"),
    [
        ("101", {"74950000001": "101", "74950000002": "101"}),
        ("84950000001:101", {"74950000001": "101", "74950000002": ""}),
        ("+74950000001:101, *:100", {"74950000001": "101", "74950000002": "100"}),
    ],
)
def test_the_default_ext_may_differ_by_line(
    monkeypatch: pytest.MonkeyPatch, value: str, exts: dict[str, str]
) -> None:
    monkeypatch.setenv("DEFAULT_EXT", value)
    rules = load(RuleSettings).rules()
    assert {line: rules.default_ext_of(line) for line in exts} == exts


def test_number_rules_are_part_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AREA_CODE", "495")
    monkeypatch.setenv("NUMBER_RULES", r"9(8\d{10})=$1")
    monkeypatch.setenv("DIAL_RULES", r"7(\d{10})=8$1")
    numbering = load(RuleSettings).rules().numbering
    assert numbering.normalize("0000001") == "74950000001"
    assert numbering.normalize("989161234567") == "79161234567"
    assert numbering.dialled("79161234567") == "89161234567"


def test_numbers_in_settings_may_be_written_as_freeswitch_shows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AREA_CODE", "495")
    # the rule fits an ext, too, which no client's number is
    monkeypatch.setenv("NUMBER_RULES", r"9(8\d{10})=$1;1(\d\d)=749500001$1")
    monkeypatch.setenv("IGNORE_NUMBERS", "989161234567,0000009,7916*,101")
    monkeypatch.setenv("LINES", "0000001,984950000002,7495000010*")
    monkeypatch.setenv("DEFAULT_EXT", "0000001:101,984950000002:102,*:100")
    rules = load(RuleSettings).rules()
    assert rules.lines == ("74950000001", "74950000002", "7495000010*")
    assert [rules.default_ext_of(line) for line in (*rules.lines[:2], "x")] == ["101", "102", "100"]
    ignored = ("79161234567", "74950000009", "79165554433", "101")
    assert all(map(rules.ignores, ignored))
    assert not rules.ignores("102")


@pytest.mark.parametrize(
    ("value", "first"),
    [
        ("", ()),
        ("last", ("last",)),
        (" Last, manager ", ("last", "manager")),
        (None, ("manager", "last")),
    ],
)
def test_who_rings_first_is_an_order_that_may_be_empty(
    monkeypatch: pytest.MonkeyPatch, value: str | None, first: tuple[str, ...]
) -> None:
    if value is not None:
        monkeypatch.setenv("RING_FIRST", value)
    assert load(Settings).ring_first == first


def test_gateways_and_missed_calls_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNK_USERS", "200, gsm")
    monkeypatch.setenv("HOUSE_GATEWAYS", "branch")
    monkeypatch.setenv("MISSED", "First")
    rules = load(RuleSettings).rules()
    assert rules.trunk_users == {"200", "gsm"}
    assert rules.house_gateways == {"branch"}
    assert rules.missed_of(3) == range(1)


def test_hidden_callers_are_left_out_only_if_the_setting_is_there_and_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(RuleSettings).hidden_number == "anonymous"
    (tmp_path / ".env").write_text("HIDDEN_NUMBER=\nCOUNTRY=\n")
    assert (load(RuleSettings).hidden_number, load(RuleSettings).country) == ("", "RU")
    monkeypatch.setenv("HIDDEN_NUMBER", "hidden")
    assert load(RuleSettings).hidden_number == "hidden"


def test_a_recorded_calls_own_settings_go_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COUNTRY", "KZ")
    assert load(RuleSettings, {"COUNTRY": "BY", "UNKNOWN": "x"}).country == "BY"
    with pytest.raises(SettingsError, match="COUNTRY: 'Russia' is not a country code"):
        load(RuleSettings, {"COUNTRY": "Russia"})


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_come_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    addresses = {
        "freeswitch_esl": "esl://:fromfile@127.0.0.1:8021",
        "alert_url": "https://alerts.example.com/from-a-file",
    }
    value = addresses.get(name, "from-a-file")
    (tmp_path / "secret").write_text(value + "\n")
    monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(f"{name.upper()}_FILE", str(tmp_path / "secret"))
    settings = load(Settings)
    if name == "freeswitch_esl":
        assert settings.freeswitch_esl[0].password == "fromfile"
    else:
        assert getattr(settings, name).get_secret_value() == value


def test_a_secret_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PBX_TOKEN")
    assert problems(monkeypatch, PBX_TOKEN_FILE="/no/where") == [
        "PBX_TOKEN_FILE: /no/where cannot be read (No such file or directory)."
    ]


def test_settings_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PBX_TOKEN='in the file'\nCOUNTRY=KZ\n")
    monkeypatch.delenv("PBX_TOKEN")
    settings = load(Settings)
    assert (settings.pbx_token.get_secret_value(), settings.country) == ("in the file", "KZ")


def test_wrong_settings_stop_the_start_with_a_sentence_each(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fsplanfix", "run"],
        check=False,
        cwd=tmp_path,
        env=environment(PLANFIX_URL="x", COUNTRY="Mars", PBX_TOKEN="hunter2"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    problems, where = done.stderr.splitlines()[:-1], done.stderr.splitlines()[-1]
    assert len(problems) == 4
    assert where.startswith("There is no file of settings.")
    assert not re.search("Traceback|hunter2", done.stderr)


@pytest.mark.parametrize("file", ["README.md", ".env.example"])
def test_every_setting_is_documented(file: str) -> None:
    text = (ROOT / file).read_text()
    secret_files = {f"{name}_file" for name in SECRETS}
    names = [name.upper() for name in Settings.model_fields if name not in secret_files]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_nothing_is_documented_that_does_not_exist() -> None:
    named = set(re.findall(r"^#? ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DIAL_LIMIT", "abc", "write a whole number"),
        ("KEEP_DAYS", "abc", "write a number"),
        ("POPUP_TTL", "-1", "the least is 0"),
        ("PLANFIX_CONCURRENCY", "1000", "the most is 100"),
        ("LOG_MASK", "maybe", "write true or false"),
        ("PBX_TOKEN", "abc", "it is empty or too short. It is the key you enter in Planfix"),
        ("PUBLIC_URL", "pbx.example.com", "write it like https://pbx.example.com."),
    ],
)
def test_a_wrong_value_is_explained_in_plain_words(name: str, value: str, words: str) -> None:
    (text,) = problem_with(name, value)
    assert words in text


def test_the_level_of_the_log_may_be_written_small() -> None:
    assert problem_with("LOG_LEVEL", "info") == []


def test_a_part_of_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMAINS", " A.example, b.example ")
    monkeypatch.setenv("LINES", "+74950000001, 84950000002,7495000010*")
    monkeypatch.setenv("IGNORE_NUMBERS", "anonymous,199")
    rules = load(RuleSettings).rules()
    assert rules.domains == {"a.example", "b.example"}
    assert rules.lines == ("74950000001", "74950000002", "7495000010*")
    assert rules.ignore_numbers == ("anonymous", "199")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOMAINS", "a.example b.example"),
        ("DOMAINS", "a;example"),
        ("LINES", "*"),
        ("LINES", "7495*01"),
        ("IGNORE_NUMBERS", "7916\n"),
        ("IGNORE_NUMBERS", "x" * 10_000),
    ],
)
def test_a_part_of_a_switch_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    if value.strip() != value:
        assert load(RuleSettings).rules().ignore_numbers == ("7916",)
        return
    with pytest.raises(SettingsError) as raised:
        load(RuleSettings)
    (problem,) = raised.value.problems
    assert problem.startswith(f"{name}: ")
    assert "write it like" in problem
    assert len(problem) < 200


def test_a_terminals_height_is_no_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LINES", "24")
    assert load(RuleSettings).lines == ()
    (tmp_path / ".env").write_text("LINES=74950000001\n")
    monkeypatch.chdir(tmp_path)
    assert load(RuleSettings).lines == ("74950000001",)


def test_recordings_are_served_by_a_bucket_or_by_another_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RECORDINGS_S3", "s3://my-bucket/a/b/")
    monkeypatch.setenv("RECORDINGS_S3_SECRET", "hush")
    settings = load(Settings)
    assert settings.bucket()["bucket"] == "my-bucket"
    assert settings.bucket()["prefix"] == "a/b/"
    assert "hush" not in repr(settings)
    (problem,) = problems(monkeypatch, RECORDINGS_URL="https://files.example.com")
    assert "RECORDINGS_URL exclude each other" in problem
