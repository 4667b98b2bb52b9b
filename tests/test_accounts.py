"""The file of accounts: several companies on one switch (ACCOUNTS_FILE)."""

import re
from pathlib import Path

import pytest

from fsplanfix.calls.model import ACCOUNT
from fsplanfix.errors import SettingsError
from fsplanfix.settings import RuleSettings, Settings
from fsplanfix.settings.accounts import COMPANY, MACHINE, Accounts, load_accounts

ROOT = Path(__file__).parent.parent
A = """
[a]
planfix_url = "https://a.planfix.com/tel/api"
planfix_token = "secret-of-a"
pbx_token = "secret-key-a"
domains = ["a.example"]
"""
B = """
[b]
planfix_url = "https://b.planfix.com/tel/api"
planfix_token = "secret-of-b"
pbx_token = "secret-key-b"
lines = "74950000001,7495000010*"
"""


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "accounts.toml"
    monkeypatch.setenv("ACCOUNTS_FILE", str(path))
    return path


def read(file: Path, text: str) -> Accounts[Settings]:
    file.write_text(text, encoding="utf-8")
    return load_accounts(Settings)


def problems(file: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(file, text)
    assert not re.search("secret-(of|key)", str(caught.value))
    return caught.value.problems


def test_without_a_file_there_is_one_account_made_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PBX_TOKEN", "secret-key")
    monkeypatch.setenv("DOMAINS", "a.example")
    accounts = load_accounts(Settings)
    assert [*accounts] == [ACCOUNT]
    assert accounts.file is None
    assert accounts[ACCOUNT] is accounts.machine
    assert accounts[ACCOUNT].user_domain == ""


def test_each_account_is_a_whole_of_its_own_settings_and_the_environments(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTRY", "KZ")
    monkeypatch.setenv("HTTP_LISTEN", "127.0.0.1:9999")
    accounts = read(file, f'{A}country = "BY"\nmissed = "first"\n{B}')
    assert [*accounts] == ["a", "b"]
    assert accounts.file == file
    assert (accounts["a"].country, accounts["b"].country) == ("BY", "KZ")
    assert accounts["a"].planfix_token.get_secret_value() == "secret-of-a"
    assert accounts.machine.http_listen == accounts["b"].http_listen
    rules = accounts.rules()
    assert [rules[name].missed for name in rules] == ["first", "all"]
    assert rules["a"].domains == {"a.example"}
    assert rules["b"].lines == ("74950000001", "7495000010*")


def test_each_account_reads_numbers_by_its_own_rules(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AREA_CODE", "812")
    monkeypatch.setenv("IGNORE_NUMBERS", "0000009")
    rules = read(file, f'{A}area_code = "495"\nlines = "0000002"\n{B}').rules()
    assert rules["a"].lines == ("74950000002",)
    assert rules["a"].ignores("74950000009")
    assert rules["b"].ignores("78120000009")
    assert not rules["b"].ignores("74950000009")


def test_what_names_one_company_never_comes_from_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PLANFIX_URL": "https://other.planfix.com/tel/api",
        "PLANFIX_TOKEN": "secret-of-the-other",
        "PBX_TOKEN": "secret-key-other",
        "PBX_TOKEN_OLD": "secret-key-before",
        "ADMIN_PASSWORD": "sees all",
        "VIEW_PASSWORD": "sees all, too",
        "DOMAINS": "b.example",
        "LINES": "74950000009",
        "USER_DOMAIN": "b.example",
    }.items():
        monkeypatch.setenv(name, value)
    account = read(file, '[a]\npbx_token = "secret-key-a"\ndomains = "a.example"\n')["a"]
    assert account.planfix_url == ""
    assert account.planfix_token.get_secret_value() == ""
    assert account.pbx_keys() == ("secret-key-a", "")
    assert account.admin_password.get_secret_value() == ""
    assert account.view_password.get_secret_value() == ""
    assert account.rules().domains == {"a.example"}
    assert account.rules().lines == ()
    assert account.user_domain == "a.example"


def test_values_may_be_texts_numbers_booleans_and_lists(file: Path) -> None:
    settings = read(
        file,
        A
        + r"""
extension_aliases = ["79260000007:101", "79260000008:102"]
default_ext = 101
number_rules = ['9(8\d{10})=$1', '00(\d+)=$1']
ring_first = []
report_unrouted = false
ring_last_days = 1.5
hidden_number = ""
recordings_convert = ""
""",
    )["a"]
    assert settings.extension_aliases == {"79260000007": "101", "79260000008": "102"}
    assert settings.default_ext == {"*": "101"}
    assert len(settings.number_rules) == 2
    assert (settings.ring_first, settings.hidden_number) == ((), "")
    assert (settings.report_unrouted, settings.ring_last_days) == (False, 1.5)


def test_an_empty_value_puts_aside_what_the_environment_says(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFAULT_EXT", "100")
    accounts = read(file, f'{A}default_ext = ""\n{B}')
    assert [accounts[name].default_ext for name in accounts] == [{}, {"*": "100"}]


def test_a_secret_may_come_from_a_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("secret-key-from-a-file\n")
    (tmp_path / "all").write_text("secret-key-of-all\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "all"))
    own = A.replace('pbx_token = "secret-key-a"', f'pbx_token_file = "{tmp_path / "key"}"')
    accounts = read(file, f'{own}secret_key = "signs for a"\n{B}')
    assert accounts["a"].pbx_keys()[0] == "secret-key-from-a-file"
    assert accounts["a"].secret_key.get_secret_value() == "signs for a"
    assert accounts["b"].secret_key.get_secret_value() == "secret-key-of-all"


def test_one_domain_says_whom_a_click_rings_and_how_it_dials(file: Path) -> None:
    one = read(file, A)["a"]
    assert (one.user_domain, one.dial_context) == ("a.example", "a.example")
    named = read(file, f'{A}dial_context = "office"\n')["a"]
    assert (named.user_domain, named.dial_context) == ("a.example", "office")
    trunk = read(file, f'{A}dial_string = "sofia/gateway/a/{{number}}"\n')["a"]
    assert (trunk.user_domain, trunk.dial_context) == ("a.example", "")
    two = read(file, A.replace('["a.example"]', '["a.example", "a2.example"]'))["a"]
    assert (two.user_domain, two.dial_context) == ("", "")


def test_the_call_rules_can_be_read_without_any_secret(file: Path) -> None:
    file.write_text('[a]\ndomains = "a.example"\n[b]\ndomains = "b.example"\ncountry = "KZ"\n')
    rules = load_accounts(RuleSettings).rules()
    assert [(name, rules[name].country) for name in rules] == [("a", "RU"), ("b", "KZ")]


def test_a_recorded_call_may_name_the_file(file: Path) -> None:
    other = file.with_name("other.toml")
    other.write_text('[c]\ndomains = "c.example"\n')
    assert [*load_accounts(RuleSettings, {"ACCOUNTS_FILE": str(other), "COUNTRY": "BY"})] == ["c"]
    assert (
        load_accounts(RuleSettings, {"ACCOUNTS_FILE": str(other), "COUNTRY": "BY"})["c"].country
        == "BY"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (A.replace("[a]", "[Romashka]"), "[Romashka] is not a name for an account"),
        (A.replace("[a]", "[a.example]"), "[a.example] is not a name for an account"),
        (A.replace("[a]", '["a b"]'), "[a b] is not a name for an account"),
        (A.replace("[a]", f"[{'a' * 33}]"), "is not a name for an account"),
        ('country = "RU"\n' + A, "country stands before the first account"),
        (f"{A}countri = 'RU'\n", "[a] countri is not a setting: is it country?"),
        (f"{A}COUNTRY = 'RU'\n", "[a] COUNTRY is not a setting: is it country?"),
        (f"{A}zzz = 1\n", "[a] zzz is not a setting: the README has every setting."),
        (f"{A}store_url = 'sqlite://'\n", "[a] store_url is a setting of the whole machine"),
        (f"{A}freeswitch_esl = 'x'\n", "[a] freeswitch_esl is a setting of the whole machine"),
        (f"{A}country = 'Russia'\n", "[a] country: 'Russia' is not a country code"),
        (A.replace("[a]", "[other]"), "[other] is not a name for an account: metrics"),
        (f"{A}default_ext = 2026-11-18\n", "[a] default_ext: write text in quotes"),
        (f"{A}lines = [['1']]\n", "[a] lines: write text in quotes"),
        (f"{A}planfix_concurrency = 'many'\n", "[a] planfix_concurrency: write a whole number"),
        (f"{A}user_domain = 'b.example'\n", "[a] user_domain: b.example is not one of its domains"),
        (f"{A}{B}user_domain = 'A.example'\n", "[b] user_domain: a.example is a domain of [a]"),
        (f"{A}outbound_caller_id = '101'\n", "'101' is an ext by extension_pattern"),
        (A.replace("secret-key-a", "short"), "[a] pbx_token: it is empty or too short"),
        (A.replace("pbx_token", "pbx_token_old"), "[a] pbx_token is missing"),
        (A.replace("planfix_token", "admin_password"), "[a] planfix_token is missing"),
        (f"{A}secret_key_file = '/no/where'\n", "[a] secret_key_file: /no/where cannot be read"),
        (A.replace("domains", "trunk_users"), "[a] needs domains or lines"),
        (A.replace('["a.example"]', "[]"), "[a] needs domains or lines"),
        (
            A + B.replace("lines", "domains = 'A.example'\nlines"),
            "[b] and [a] have the same domain",
        ),
        (A + B.replace("secret-key-b", "secret-key-a"), "[b] and [a] have the same pbx_token"),
        (
            f"{A}{B}pbx_token_old = 'secret-key-a'\n",
            "[b] and [a] have the same pbx_token",
        ),
        (
            A + B.replace("secret-of-b", "secret-of-a").replace("b.planfix", "a.planfix"),
            "[b] and [a] have the same planfix_url and planfix_token",
        ),
        (
            A
            + B.replace("secret-of-b", "secret-of-a").replace(
                "b.planfix.com/tel/api", "A.Planfix.com/tel/api/"
            ),
            "[b] and [a] have the same planfix_url and planfix_token",
        ),
        (f"{A}lines = '84950000001'\n{B}", "[b] and [a] share the line 74950000001"),
        (f"{A}lines = '7495*'\n{B}", "[b] and [a] share the line 74950000001"),
        (f"{A}lines = '74950000107'\n{B}", "[a] and [b] share the line 74950000107"),
        (f"{A}lines = '7495000010*'\n{B}", "[b] and [a] share the line 7495000010*"),
        (
            f"{A}recordings_s3 = 's3://kept/a'\n{B}",
            "[b] and [a] share recordings_dir, so they must have the same recordings_s3",
        ),
        (
            f"{A}recordings_s3 = 's3://kept'\n"
            f"{B}recordings_s3 = 's3://kept/b'\nrecordings_dir = '/srv/b'\n",
            "[b] and [a] keep different folders in the same recordings_s3",
        ),
        ("", "names no account"),
        ("[a", "is not TOML"),
        (A + A, "is not TOML"),
        (A[: A.index("domains")] + "domains = [", "is not TOML"),
        (f"{A}ring_seconds = {'9' * 5000}\n", "is not TOML that can be read"),
        (f"{A}lines = {'[' * 5000}\n", "is not TOML"),
        (f"{A}#{'x' * 10 * 1024 * 1024}\n", "cannot be read (it has more than 10 MB)"),
        ("".join(f"[a{n}]\n" for n in range(10_001)), "has more than 10,000 accounts"),
    ],
    ids=lambda text: text[-60:],
)
def test_a_mistake_gets_one_sentence_that_names_the_account(
    file: Path, text: str, sentence: str
) -> None:
    found = problems(file, text)
    assert any(sentence in problem for problem in found), found
    assert len({problem for problem in found if sentence in problem}) >= len(found) - 1


def test_the_same_planfix_with_another_token_is_another_account(file: Path) -> None:
    assert len(read(file, A + B.replace("b.planfix", "a.planfix"))) == 2


def test_no_company_deletes_recordings_that_another_keeps_longer(file: Path) -> None:
    def text(a: str, b: str) -> str:
        return f"{A}recordings_dir = '/srv'\n{a}{B}recordings_dir = '/srv/x/b'\n{b}"

    days = "recordings_keep_days = {}\n".format
    for b in ("", days(30)):
        (found,) = problems(file, text(days(7), b))
        assert found.startswith("[b] recordings_dir lies inside that of [a], which would delete")
    for a, b in (("", ""), ("", days(7)), (days(30), days(7)), (days(7), days(7))):
        assert len(read(file, text(a, b))) == 2


def test_recordings_of_two_companies_lie_beside_each_other(file: Path) -> None:
    kept = "recordings_s3 = 's3://kept/{0}'\nrecordings_dir = '/srv/{0}'\n"
    assert len(read(file, A + kept.format("a") + B + kept.format("b"))) == 2
    shared = kept.format("all")
    assert len(read(file, A + shared + B + shared)) == 2


def test_lines_beside_each_other_are_two_companies(file: Path) -> None:
    assert len(read(file, f"{A}lines = ['74950000002', '749500002*', '7495000011*']\n{B}")) == 2


def test_each_mistake_is_named_and_many_are_counted(file: Path) -> None:
    text = "".join(f"[a{n}]\nzzz = 1\n" for n in range(50))
    found = problems(file, text)
    assert found[0].startswith("[a0] zzz is not a setting")
    assert found[-1] == "There are 80 more mistakes."


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "forbidden"])
def test_a_file_that_cannot_be_read_is_named(file: Path, kind: str) -> None:
    if kind == "folder":
        file.mkdir()
    elif kind == "binary":
        file.write_bytes(b"\xff\xfe")
    elif kind == "forbidden":
        file.symlink_to(file)
    with pytest.raises(SettingsError, match=r"ACCOUNTS_FILE: .*accounts\.toml cannot be read \("):
        load_accounts(Settings)


def test_a_setting_is_either_the_machines_or_a_companys() -> None:
    assert {*MACHINE, *COMPANY} == {*Settings.model_fields}
    assert not {name for name in MACHINE if name.startswith(("planfix_", "pbx_", "dial_", "ring_"))}


def test_the_examples_can_be_read(file: Path) -> None:
    page = (ROOT / "docs/accounts.md").read_text(encoding="utf-8")
    found = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(found) == 2
    for text in [*found, (ROOT / "contrib/accounts.toml").read_text(encoding="utf-8")]:
        # the files of secrets are not here
        file.write_text(text, encoding="utf-8")
        assert load_accounts(RuleSettings)
        own = re.sub(r'_file = "/etc/fsplanfix/(\w+)\.(\w+)"', r' = "\1-\2-0123456789"', text)
        accounts = read(file, own)
        assert all(settings.pbx_token for settings in accounts.values())
