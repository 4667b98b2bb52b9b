"""What documents tell people to type exists and works as it stands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from fsplanfix.cli import cli

from .support.service import PATIENCE, environment
from .support.traces import path_of

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "tests/traces/README.md",
    *(ROOT / "contrib").glob("*"),
    *(ROOT / "contrib/debian").glob("*"),
    *(ROOT / "freeswitch-dialplan").rglob("*.*"),
]
PAGES = [path for path in DOCUMENTS if path.is_file() and path.name != "CHANGELOG.md"]
"""The changelog also names commands of older releases."""

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
RUNNABLE = re.compile(r"<!-- runnable -->\n( *)```\n(.*?)^\1```", re.MULTILINE | re.DOTALL)

WORDS = r"fsplanfix (?P<words>(?:--env-file \S+ )?[a-z]+(?: [^;&|()`\"]*)?)"
FIRST = re.compile(
    rf"(?:^|[;&|] *)(?:[A-Z_]+=\S* )*(?:sudo (?:-u \S+ )?)?(?:[\w./]*/)?{WORDS}", re.MULTILINE
)
"""Our program as the command of a line or of the code in a sentence, with what follows it."""

ANYWHERE = re.compile(rf"(?:^|[\s`'\"(/]){WORDS}", re.MULTILINE)

NAMES = dict(cli.commands)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(page: Path) -> Iterator[str]:
    """The lines of the blocks, and the code in sentences, of a page or of another file."""
    content = page.read_text(encoding="utf-8")
    if page.suffix != ".md":
        yield from content.splitlines()
        return
    for _, _, block in BLOCK.findall(content):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", BLOCK.sub("", content))


def typed(page: Path) -> Iterator[list[str]]:
    """The words after `fsplanfix`, where the first of them names a command."""
    is_page = page.suffix == ".md"
    for line in code(page):
        # a table escapes what stands between alternatives
        for found in (FIRST if is_page else ANYWHERE).finditer(line.replace("\\|", "/")):
            words = found["words"].split("  ")[0].split()
            if words[0] == "--env-file":
                words = words[2:]
            # in comments our name is not always the program's
            if is_page or words[0] in NAMES:
                yield words


def unknown(words: list[str]) -> str:
    """What of a command that was typed does not exist, "" if all of it does."""
    first, *rest = words
    command: click.Command | None = NAMES.get(first)
    if command is None:
        return first

    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        for sub in rest[0].strip(".,:").split("/"):
            if sub not in command.commands:
                return f"{first} {sub}"
        command = command.commands[rest[0].strip(".,:").split("/")[0]]

    there = {option for param in command.params for option in param.opts} | {"--help", "-h"}
    for word in rest:
        option = word.split("=")[0].strip(".,:")
        if option.startswith("--") and option not in there:
            return f"{first} {option}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    assert [missing for words in typed(page) if (missing := unknown(words))] == []


def test_the_search_for_commands_finds_them() -> None:
    found = [" ".join(words) for words in typed(ROOT / "README.md")]
    assert len(found) >= 25
    assert "queue list/retry/drop" in found
    assert any(words.startswith("init --planfix-url") for words in found)
    assert unknown(["explain", "CALLID", "--nonsense"]) == "explain --nonsense"
    assert unknown(["queue", "list/nonsense"]) == "queue nonsense"
    assert unknown(["nonsense"]) == "nonsense"


@pytest.mark.parametrize("page", ["README.md", "README.ru.md"])
def test_every_command_is_in_the_readme(page: str) -> None:
    found = {words[0] for words in typed(ROOT / page)}
    assert found == set(NAMES)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for line in code(page) if not line.lstrip().startswith("#")]
    named = {found for line in lines for found in re.findall(r"(?:^|[;&`] *)make ([a-z-]+)", line)}
    assert named <= targets


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=name)
def test_every_path_of_ours_that_is_named_exists(page: Path) -> None:
    named = re.compile(r"(?<![\w/.-])((?:contrib|docs|freeswitch-dialplan)/[\w./-]*\w)")
    for line in code(page):
        for path in named.findall(line):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=name)
def test_xml_that_is_shown_can_be_parsed(page: Path) -> None:
    for _, language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "xml":
            ElementTree.fromstring(f"<all>{block}</all>")


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=name)
def test_a_page_that_uses_fs_cli_says_how_it_finds_the_password(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    assert "fs_cli -x" not in content or "-p PASSWORD" in content or "fs_cli -p" in content


SCRIPTS = {
    name(page): [block for _, block in RUNNABLE.findall(page.read_text(encoding="utf-8"))]
    for page in PAGES
    if page.suffix == ".md" and "<!-- runnable -->" in page.read_text(encoding="utf-8")
}


@pytest.mark.parametrize("page", SCRIPTS)
def test_a_block_that_is_marked_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    """The blocks of a page run one after the other in one folder, as a reader would type them."""
    marks = (ROOT / page).read_text(encoding="utf-8").count("<!-- runnable -->\n")
    assert len(SCRIPTS[page]) == marks
    shutil.copy(path_of("group_answered"), tmp_path / "call.jsonl.gz")
    settings = environment()
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{settings['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", "\n".join(SCRIPTS[page])],
        check=False,
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readmes_mark_blocks() -> None:
    assert {"README.md", "README.ru.md", "CONTRIBUTING.md"} <= set(SCRIPTS)
    assert shlex.split(SCRIPTS["README.md"][0])[0] == "export"
