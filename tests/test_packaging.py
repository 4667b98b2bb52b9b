"""What installs and runs the service, as far as that can be seen without building a package or a container.

`make deb-test` builds the package and installs it.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from fsplanfix import settings_file
from fsplanfix.admin import initial_settings
from fsplanfix.settings import Settings

from .support.commands import run_program

ROOT = Path(__file__).parent.parent
DEBIAN = ROOT / "contrib/debian"
UNIT = ROOT / "contrib/fsplanfix.service"
SCRIPTS = ["postinst", "prerm", "postrm", "build", "test"]


def done(*command: str) -> subprocess.CompletedProcess[str]:
    return run_program(ROOT, *command)


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
    # a bare Debian has no kill
    assert {*re.findall(r"^Exec\w+=(\S+)", unit, re.MULTILINE)} == {"fsplanfix"}
    for name in ("postinst", "postrm"):
        assert f"/var/lib/{state[0]}" in (DEBIAN / name).read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    # neither the program nor its user is on this machine
    unit = UNIT.read_text().replace("=fsplanfix ", "=/bin/true ")
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


DOCKERFILE = ROOT / "contrib/Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with what follows it."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


def is_setting(name: str) -> bool:
    return name.lower() in Settings.model_fields


def test_the_image_is_built_from_the_program_alone() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    taken = {rule[1:] for rule in rules if rule.startswith("!")}
    assert taken == {"fsplanfix", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    for name in taken:
        assert (ROOT / name).exists()
    # what the build names is among it
    named = re.findall(r"/source/([a-z.]+)", DOCKERFILE.read_text())
    assert set(named) <= taken
    assert named


def test_the_image_runs_the_service_as_a_user_of_its_own() -> None:
    found = instructions()
    known = {"FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK"}
    assert {name for name, _ in found} == known | {"ENTRYPOINT", "CMD"}
    assert [rest for name, rest in found if name == "USER"] == ["fsplanfix"]
    assert found[-2:] == [("ENTRYPOINT", '["fsplanfix"]'), ("CMD", '["run"]')]
    # root's work is done before
    names = [name for name, _ in found]
    assert "RUN" not in names[names.index("USER") :]


def test_the_container_of_the_examples_reaches_what_it_needs() -> None:
    text = DOCKERFILE.read_text()
    assert all(map(is_setting, re.findall(r"-e ([A-Z_]+)=", text)))
    recordings = str(Settings.model_fields["recordings_dir"].default)
    assert f"-v {recordings}:{recordings}:ro" in text
    assert f'--group-add "$(stat -c %g {recordings})"' in text
    for name in ("http_listen", "esl_listen"):
        assert f":{Settings.model_fields[name].default.port}" in text
    # nobody but this machine reaches the web server without TLS
    assert not re.findall(r"-p (?:0\.0\.0\.0:)?8080", text)


def test_compose_starts_both_with_the_same_recordings() -> None:
    compose = yaml.safe_load((ROOT / "contrib/compose.yaml").read_text())
    ours, switch = compose["services"]["fsplanfix"], compose["services"]["freeswitch"]
    build = ours["build"]
    assert (ROOT / "contrib" / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
    assert all(map(is_setting, ours["environment"]))
    mounted = {volume.split(":")[0]: volume.split(":")[1:] for volume in ours["volumes"]}
    assert set(mounted) <= set(compose["volumes"])
    assert mounted["recordings"] == [ours["environment"]["RECORDINGS_DIR"], "ro"]
    assert f"recordings:{mounted['recordings'][0]}" in switch["volumes"]
    assert mounted["store"] == [dict(instructions())["WORKDIR"]]
    assert ours["group_add"]
    assert ours["network_mode"] == switch["network_mode"] == "host"


def test_docker_reads_the_settings_of_init_as_we_do(tmp_path: Path) -> None:
    values = {
        "PLANFIX_URL": "https://example.planfix.com/tel/api",
        "PLANFIX_TOKEN": "a-token#1=",
        "FREESWITCH_ESL": "esl://:made-up@127.0.0.1:8021",
        "STORE_URL": "postgresql://fsplanfix:p%40ss@127.0.0.1/fsplanfix?sslmode=require",
        **initial_settings.generated({}, new_secrets=False),
    }
    initial_settings.write(tmp_path / ".env", values)
    # docker run --env-file: a name, =, and every sign up to the end of the line
    lines = (tmp_path / ".env").read_text().splitlines()
    docker = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert docker == dotenv_values(tmp_path / ".env") == values
