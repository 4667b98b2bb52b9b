"""What `fsplanfix init` writes, and where."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsplanfix import settings_file
from fsplanfix.admin import initial_settings, next_steps
from fsplanfix.errors import SettingsError
from fsplanfix.freeswitch.connection import Server
from fsplanfix.settings import Settings

from ..support.commands import call_cli
from ..support.init_command import GIVEN, URL


@pytest.mark.no_cover
@given(st.text(min_size=1, max_size=40))
@settings(max_examples=200)
def test_any_token_is_read_back_as_it_was_written_or_refused(
    tmp_path_factory: pytest.TempPathFactory, token: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.env"
    values = {"PLANFIX_URL": URL, "PLANFIX_TOKEN": token, "PBX_TOKEN": "0123456789abcdef"}
    try:
        initial_settings.write(file, values)
    except SettingsError:
        return
    assert Settings(_env_file=file).planfix_token.get_secret_value() == token  # type: ignore[call-arg]


NEEDED = {"PLANFIX_URL": URL, "PLANFIX_TOKEN": "abc", "PBX_TOKEN": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ("3f9a-B_c.d~e", "PLANFIX_TOKEN=3f9a-B_c.d~e"),
        ("a#b=c d", "PLANFIX_TOKEN=a#b=c d"),
        ("a #b", "PLANFIX_TOKEN='a #b'"),
        ("a$b", "PLANFIX_TOKEN='a$b'"),
        (" a ", "PLANFIX_TOKEN=' a '"),
        ("'a'", r"PLANFIX_TOKEN='\'a\''"),
    ],
)
def test_a_value_is_quoted_only_where_it_must_be(tmp_path: Path, token: str, line: str) -> None:
    # docker run --env-file takes quotes for a part of the value
    initial_settings.write(tmp_path / ".env", {**NEEDED, "PLANFIX_TOKEN": token})
    assert line in (tmp_path / ".env").read_text().splitlines()


def test_what_is_usual_is_written_without_quotes(tmp_path: Path) -> None:
    assert call_cli(tmp_path, *GIVEN, "--public-url", "https://pbx.example.com").returncode == 0
    assert "'" not in "".join((tmp_path / ".env").read_text().splitlines()[1:])


def test_the_file_named_for_every_command_is_the_one_that_is_written(tmp_path: Path) -> None:
    done = call_cli(tmp_path, "--env-file", "named.env", *GIVEN)
    assert (done.returncode, os.listdir(tmp_path)) == (0, ["named.env"])


@pytest.fixture
def system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stands for the file in /etc that the Debian package's `init` writes."""
    for module in (initial_settings, next_steps, settings_file):
        monkeypatch.setattr(module, "SYSTEM_FILE", tmp_path / "fsplanfix.env")
    monkeypatch.delenv(settings_file.VARIABLE, raising=False)
    return tmp_path / "fsplanfix.env"


def test_the_package_keeps_settings_and_store_where_the_unit_expects_them(
    monkeypatch: pytest.MonkeyPatch, system_file: Path
) -> None:
    assert initial_settings.default_file() == Path(".env")
    assert initial_settings.questions(Path(".env"))["store_url"].default == "sqlite:///fsplanfix.db"
    system_file.touch()
    assert initial_settings.default_file() == system_file
    system_file.unlink()
    monkeypatch.setattr("sys.prefix", "/usr/lib/fsplanfix")
    assert initial_settings.default_file() == system_file
    store = "sqlite:////var/lib/fsplanfix/fsplanfix.db"
    assert initial_settings.questions(system_file)["store_url"].default == store
    shown = next_steps.what_to_do(
        system_file,
        {"PBX_TOKEN": "x", "ADMIN_PASSWORD": "y"},
        Server("127.0.0.1", 8021, "z"),
    )
    assert "sudo systemctl restart fsplanfix" in shown
    local = next_steps.what_to_do(system_file, {}, Server("localhost", 8021, "z"))
    assert '<param name="listen-ip" value="127.0.0.1"/>' in local
    assert "/usr/share/fsplanfix/freeswitch-dialplan/" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_service(
    monkeypatch: pytest.MonkeyPatch, system_file: Path
) -> None:
    monkeypatch.setattr(initial_settings, "USER", "nobody")
    initial_settings.write(system_file, NEEDED)
    assert (system_file.owner(), stat.S_IMODE(system_file.stat().st_mode)) == ("nobody", 0o600)
    # whoever owned a file before owns the one that replaces it
    os.chown(system_file, 1, 1)
    initial_settings.write(system_file, NEEDED)
    assert (system_file.stat().st_uid, system_file.stat().st_gid) == (1, 1)
