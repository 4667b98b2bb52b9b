"""What installs and runs the service, as far as that can be seen without building a package or a container.

`make deb-test` builds the package and installs it.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fsplanfix import settings_file
from fsplanfix.admin import initial_settings

from .support.service import environment

ROOT = Path(__file__).parent.parent
DEBIAN = ROOT / "contrib/debian"
UNIT = ROOT / "contrib/fsplanfix.service"
SCRIPTS = ["postinst", "prerm", "postrm", "build", "test"]


def done(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_can_be_run_and_parsed(name: str) -> None:
    file = DEBIAN / name
    shell = "bash" if "bash" in file.read_text().splitlines()[0] else "sh"
    assert file.stat().st_mode & 0o111
    assert done(shell, "-n", str(file)).stderr == ""
    # an error in the middle must not pass for success
    assert re.search(r"^set -e", file.read_text(), re.MULTILINE)
    if shutil.which("shellcheck"):
        found = done("shellcheck", "--severity=warning", str(file))
        assert found.stdout + found.stderr == ""


def test_what_the_build_takes_from_this_tree_is_there() -> None:
    script = (DEBIAN / "build").read_text()
    named = re.findall(r"(?:^|\s)(contrib/[a-z./]+|[A-Z]+(?:\.ru)?\.md|LICENSE)\b", script)
    assert {"contrib/fsplanfix.service", "contrib/nginx.conf", "README.ru.md"} <= set(named)
    for name in (*named, "freeswitch-dialplan", ".env.example", "constraints.txt"):
        assert name in script
        assert (ROOT / name).exists(), name
    assert set(re.findall(r"@([A-Z_]+)@", (DEBIAN / "control").read_text())) == set(
        re.findall(r"s/@([A-Z_]+)@/", script)
    )


def test_package_unit_and_program_name_the_same_places() -> None:
    unit, build = UNIT.read_text(), (DEBIAN / "build").read_text()
    assert f"--env-file {settings_file.SYSTEM_FILE} run" in unit
    assert f"ConditionPathExists={settings_file.SYSTEM_FILE}" in unit
    assert f"#!{initial_settings.PACKAGE}/bin/python" in build
    store = initial_settings.questions(settings_file.SYSTEM_FILE)["store_url"][2]
    state = re.findall(r"^StateDirectory=(.*)$", unit, re.MULTILINE)
    assert Path(store.removeprefix("sqlite:///")).parent == Path("/var/lib", *state)
    assert f"User={initial_settings.USER}\n" in unit
    for name in ("postinst", "postrm"):
        assert f"/var/lib/{state[0]}" in (DEBIAN / name).read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    # neither the program nor its user is on this machine
    unit = UNIT.read_text().replace("ExecStart=fsplanfix ", "ExecStart=/bin/true ")
    (tmp_path / UNIT.name).write_text(unit.replace("man:fsplanfix(1)", "man:true(1)"))
    verified = done("systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name))
    assert (verified.returncode, verified.stderr) == (0, "")


def test_each_command_gets_a_man_page(tmp_path: Path) -> None:
    click_man = str(Path(sys.executable).with_name("click-man"))
    made = done(click_man, "--target", str(tmp_path), "--man-version", "1", "fsplanfix")
    assert made.returncode == 0, made.stderr
    page = (tmp_path / "fsplanfix.1").read_text()
    commands = re.findall(r"^\\fB([a-z]+)\\fP$", page, re.MULTILINE)
    assert {"run", "check", "init", "explain", "queue"} <= set(commands)
    for command in commands:
        assert (tmp_path / f"fsplanfix-{command}.1").exists()


def test_bash_completes_the_commands() -> None:
    program = str(Path(sys.executable).with_name("fsplanfix"))
    script = done(program, _FSPLANFIX_COMPLETE="bash_source").stdout
    assert "complete -o nosort -F _fsplanfix_completion fsplanfix" in script
