"""An installation that `fsplanfix check` finds in order."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsplanfix.admin.check import check_all
from fsplanfix.admin.findings import Finding
from fsplanfix.calls.model import ACCOUNT
from fsplanfix.settings import Settings
from fsplanfix.settings.accounts import Accounts
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.simulators.playback import write_tone

from ..support.findings import TOKEN
from ..support.service import running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "recordings"
    write_tone(made / "a.wav")
    return made


@pytest.fixture
def settings(switch: Switch, planfix: Planfix, tmp_path: Path, folder: Path) -> dict[str, str]:
    switch.password = "a-good-one"
    planfix.knows_ping, planfix.pbx_token = True, TOKEN
    return {
        "PLANFIX_URL": planfix.url,
        "PLANFIX_TOKEN": "planfix-token",
        "PBX_TOKEN": TOKEN,
        "SECRET_KEY": "secret-key-of-links",
        "FREESWITCH_ESL": f"esl://:a-good-one@127.0.0.1:{switch.port}",
        "STORE_URL": f"sqlite:///{tmp_path}/store.db",
        "RECORDINGS_DIR": str(folder),
        "ESL_LISTEN": "127.0.0.1:9",
        "HTTP_LISTEN": "127.0.0.1:9",
        "OUTBOUND_CALLER_ID": "74950000001",
    }


@pytest.fixture
def look(
    settings: dict[str, str], planfix: Planfix, tmp_path: Path
) -> Callable[..., list[Finding]]:
    def found(**more: str) -> list[Finding]:
        values = {**settings, **more}
        if "PUBLIC_URL" in values:
            planfix.pbx_url = planfix.pbx_url or f"{values['PUBLIC_URL']}/planfix"
        chosen = Settings(_env_file=None, **{name.lower(): value for name, value in values.items()})  # type: ignore[arg-type, call-arg]
        return list(check_all(Accounts(chosen, {ACCOUNT: chosen}), tmp_path / ".env"))

    return found


@pytest.fixture
def service(
    switch: Switch, planfix: Planfix, tmp_path: Path, settings: dict[str, str]
) -> Iterator[dict[str, str]]:
    """A running fsplanfix; gives the settings under which it can be checked."""
    (tmp_path / "running").mkdir()
    with running(
        switch,
        planfix,
        tmp_path / "running",
        **{**settings, "HTTP_LISTEN": "127.0.0.1:0", "ESL_LISTEN": "127.0.0.1:0"},
    ) as one:
        yield {
            "PUBLIC_URL": one.address,
            "HTTP_LISTEN": one.address.removeprefix("http://"),
            "ESL_LISTEN": one.socket_app,
        }
