"""The rules of the house: who may import whom, how long things may be."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fsplanfix"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "freeswitch": {"errors"},
    "calls": {"freeswitch.events"},
    "outbox": {"errors", "calls.model", "calls.endings"},
    "planfix": {"errors", "calls.model", "calls.numbers", "outbox"},
    "recordings": {"errors"},
    "web": {"errors", "recordings.files"},
    "simulators": set[str](),
}
"""What each folder may import of the house, besides itself."""

ONLY_USER = {
    "greenswitch": "freeswitch",
    "sqlalchemy": "outbox",
    "requests": "planfix",
    "phonenumbers": "calls/numbers.py settings.py",
    "itsdangerous": "recordings",
    "alembic": "outbox",
    "psycopg": "outbox",
}
IMPURE = {"gevent", "time", "socket", "os", "random", "threading", "datetime", "subprocess", "uuid"}


def imports(path: Path) -> set[str]:
    """Absolute names of everything a module imports; the house's own without `fsplanfix.`."""
    package = path.relative_to(PACKAGE).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - (node.level - 1)], *filter(None, [node.module])]
            modules = [".".join(base)] if node.module else [".".join([*base, a.name]) for a in node.names]
            found.update(f"house:{module}" for module in modules)
    return found


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_data_flows_one_way(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    if folder not in MAY_IMPORT:
        return
    allowed = {folder, *MAY_IMPORT[folder]}
    for module in (found.removeprefix("house:") for found in imports(path) if found.startswith("house:")):
        assert any(module == rule or module.startswith(f"{rule}.") for rule in allowed), module


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_each_library_has_one_user(path: Path) -> None:
    for found in imports(path):
        user = ONLY_USER.get(found.split(".")[0])
        assert user is None or any(name(path).startswith(prefix) for prefix in user.split()), found


@pytest.mark.parametrize("path", sorted((PACKAGE / "calls").glob("*.py")), ids=name)
def test_the_rules_have_no_clock_and_no_io(path: Path) -> None:
    assert not {found.split(".")[0] for found in imports(path)} & IMPURE
    assert "open(" not in path.read_text().replace("_open(", "")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 45, node.name


def test_every_folder_states_its_rule() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), init
