"""What people read is true, complete, and the same in both languages."""

import inspect
import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

from fsplanfix.calls import model

from .freeswitch.faults import SCENARIOS
from .support.house import MAY_IMPORT

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "tests/traces/README.md",
    ROOT / "contrib/README.md",
    ROOT / "freeswitch-dialplan/README.md",
]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def outline(document: str) -> list[str]:
    """The levels of the headings, and which code blocks and tables of how many rows stand below each."""
    found, inside = [], False
    for line in document.splitlines():
        if line.startswith("```"):
            inside = not inside
            found.append("code" if inside else "end")
        elif inside:
            found.append(line)
        elif heading := re.match(r"#+ ", line):
            found.append(heading[0])
        elif line.startswith("|"):
            found.append("row")
    return found


def test_both_languages_have_the_same_headings_examples_and_rows() -> None:
    assert outline(text("README.md")) == outline(text("README.ru.md"))


def test_both_languages_name_the_same_settings_and_commands_in_the_same_order() -> None:
    def first_cells(document: str) -> list[str]:
        return re.findall(r"^\| (`[A-Za-z][^|]*(?:\\\|[^|]*)*`) \|", document, re.MULTILINE)

    assert first_cells(text("README.md")) == first_cells(text("README.ru.md"))
    assert len(first_cells(text("README.md"))) > 50


def test_defaults_are_the_same_in_both_languages() -> None:
    def defaults(document: str) -> list[str]:
        return re.findall(r"^\| `[A-Z_]+` \| (`[^`]+`)", document, re.MULTILINE)

    assert defaults(text("README.md")) == defaults(text("README.ru.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    content = document.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", content):
        if target.startswith("https://"):
            continue
        page = document.parent / target if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


def test_the_newest_version_of_the_changelog_is_that_of_the_package() -> None:
    headings = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = [re.fullmatch(r"(\d+\.\d+\.\d+) \((.*)\)", heading) for heading in headings[1:]]
    versions = [(match[1], date.fromisoformat(match[2])) for match in released if match]
    assert len(versions) == len(headings) - 1
    numbers = [tuple(map(int, version.split("."))) for version, _ in versions]
    assert numbers == sorted(numbers, reverse=True)
    dates = [day for _, day in versions]
    assert dates == sorted(dates, reverse=True)
    assert versions[0][0] == tomllib.loads(text("pyproject.toml"))["project"]["version"]


def test_the_changelog_begins_with_what_breaks() -> None:
    for section in re.split(r"^## ", text("CHANGELOG.md"), flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.*)$", section, re.MULTILINE)
        order = [kind for kind in ("Breaking", "Added", "Changed", "Fixed") if kind in kinds]
        assert kinds == order


def anchors(document: Path) -> set[str]:
    """What the headings of a document are linked by."""
    content = document.read_text(encoding="utf-8")
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", content, re.MULTILINE)
    }


def test_the_picture_of_the_house_names_modules_that_exist_and_all_of_them() -> None:
    drawn = text("docs/architecture.md")
    package = ROOT / "fsplanfix"
    for module in re.findall(r"\b([a-z_]+(?:/[a-z_]+)*\.py)\b", drawn):
        assert (package / module).exists() or (ROOT / module).exists(), module
    for folder in re.findall(r"^\| `([a-z]+)/` \|", drawn, re.MULTILINE):
        assert (package / folder).is_dir()
    for found in package.iterdir():
        if found.suffix == ".py" and not found.name.startswith("__"):
            assert found.name in drawn, found.name
        if found.is_dir() and (found / "__init__.py").exists():
            assert f"`{found.name}/`" in drawn, found.name


def test_a_room_with_a_table_of_its_modules_names_them_all() -> None:
    rows = re.findall(
        r"^\| (`[a-z_]+/[a-z_]+\.py`.*?) \|", text("docs/architecture.md"), re.MULTILINE
    )
    drawn = set(re.findall(r"`([a-z_]+/[a-z_]+\.py)`", "\n".join(rows)))
    rooms = {module.partition("/")[0] for module in drawn}
    there = {
        f"{room}/{path.name}"
        for room in rooms
        for path in (ROOT / "fsplanfix" / room).glob("*.py")
        if path.name != "__init__.py"
    }
    assert drawn == there
    assert "service" in rooms


def test_the_table_of_imports_is_what_the_house_enforces() -> None:
    rows = re.findall(
        r"^\| `([a-z]+)/` \| [^|]+ \| ([^|]+) \|$", text("docs/architecture.md"), re.MULTILINE
    )
    drawn = {folder: set(re.findall(r"`([a-z._]+)`", allowed)) for folder, allowed in rows}
    assert drawn == MAY_IMPORT


def test_each_measured_fault_of_greenswitch_has_its_test() -> None:
    rows = re.findall(
        r"^\| \[([a-k])\]\([^)]+\) [^|]+ \| ([^|]+) \|$", text("docs/architecture.md"), re.MULTILINE
    )
    assert [letter for letter, _ in rows] == list("abcdefghijk")
    tested = {test for _, tests in rows for test in re.findall(r"`(\w+)`", tests)}
    assert {test for test in tested if not test.startswith("test_")} == set(SCENARIOS)
    assert "def test_five_hundred_calls_at_once_are_all_greeted" in text(
        "tests/freeswitch/test_socket_app.py"
    )


FREESWITCHS_OWN = ("-ERR ", "Ringback not supported", "anonymous")
"""What troubleshooting quotes and another program prints or a setting holds."""


@pytest.mark.parametrize("page", ["README.md", "README.ru.md", "docs/troubleshooting.md"])
def test_what_a_symptom_quotes_is_what_the_program_prints(page: str) -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "fsplanfix").rglob("*.py")))
    cells = re.findall(r"^\| ([^|]+) \|", text(page), re.MULTILINE)
    quoted = [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell)]
    messages = [quote for quote in quoted if re.search(r"[a-z]_[a-z]|[a-z] [a-z]", quote)]
    ours = [quote for quote in messages if not quote.startswith(("fsplanfix", *FREESWITCHS_OWN))]
    assert len(ours) > 3
    for quote in ours:
        for part in re.split(r"…|\.\.\.| \d+ ", quote):
            assert part.strip(" .") in source, quote


def test_whoever_tells_to_use_fs_cli_says_that_it_may_need_the_password() -> None:
    places = [*(ROOT / "freeswitch-dialplan").rglob("*.*"), *(ROOT / "contrib" / "cdr").iterdir()]
    told = [path for path in places if "fs_cli" in path.read_text(encoding="utf-8")]
    assert len(told) >= 9
    assert [path.name for path in told if "-p PASSWORD" not in path.read_text("utf-8")] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_command_has_a_placeholder_that_a_shell_takes_for_a_file(document: Path) -> None:
    shell = re.findall(
        r"^ *```\n(.*?)^ *```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert [block for block in shell if re.search(r"<[a-z][a-z ]*>", block)] == []


def test_the_drawings_fit_a_terminal() -> None:
    drawings = re.findall(
        r"^```\n(.*?)^```", text("docs/architecture.md"), re.MULTILINE | re.DOTALL
    )
    assert len(drawings) == 2
    assert all(len(line) <= 80 for drawing in drawings for line in drawing.splitlines())


def test_the_glossary_has_each_class_of_the_call_rules() -> None:
    explained = re.findall(r"\(`(\w+)`\)", text("docs/glossary.md"))
    for name, value in vars(model).items():
        if inspect.isclass(value) and value.__module__ == model.__name__ and name[0] != "_":
            assert explained.count(name) == 1, name


def test_the_glossary_explains_a_word_once() -> None:
    cells = re.findall(r"^\| (?!word|---)([^|]+) \|", text("docs/glossary.md"), re.MULTILINE)
    words = [word for cell in cells for word in cell.split(", ")]
    assert len(words) == len(set(words))
    assert len(words) > 50
