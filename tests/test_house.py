"""The rules of the house: who may import whom, how dense and how long things may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fsplanfix"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "freeswitch": {"errors"},
    "calls": {"freeswitch.events"},
    "outbox": {"errors", "calls.model", "calls.result", "calls.unfinished"},
    "planfix": {"errors", "calls.model", "calls.numbers", "outbox"},
    "recordings": {"errors"},
    "web": {"errors", "recordings.files"},
    "simulators": set[str](),
    "service": {
        *("errors", "settings", "printable", "calls", "freeswitch", "outbox", "planfix"),
        *("recordings", "web", "admin"),
    },
    "admin": {
        *("errors", "settings", "printable", "calls", "freeswitch", "outbox", "planfix"),
        "recordings",
    },
}
"""What each folder may import of the house, besides itself."""

ONLY_USER = {
    "greenswitch": "freeswitch",
    "sqlalchemy": "outbox",
    "requests": "planfix admin/probes.py",
    "phonenumbers": "calls/numbers.py settings.py",
    "itsdangerous": "recordings",
    "alembic": "outbox",
    "psycopg": "outbox",
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
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
            modules = (
                [".".join(base)] if node.module else [".".join([*base, a.name]) for a in node.names]
            )
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
    for module in (
        found.removeprefix("house:") for found in imports(path) if found.startswith("house:")
    ):
        assert any(module == rule or module.startswith(f"{rule}.") for rule in allowed), module


def test_few_modules_stand_beside_the_rooms() -> None:
    beside = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert beside == {"__main__", "cli", "settings", "errors", "printable"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_each_library_has_one_user(path: Path) -> None:
    for found in imports(path):
        user = ONLY_USER.get(found.split(".")[0])
        assert user is None or any(name(path).startswith(prefix) for prefix in user.split()), found


@pytest.mark.parametrize("path", sorted((PACKAGE / "calls").glob("*.py")), ids=name)
def test_the_rules_have_no_clock_and_no_io(path: Path) -> None:
    assert not {found.split(".")[0] for found in imports(path)} & IMPURE
    assert "open(" not in path.read_text().replace("_open(", "")


def within(tree: ast.AST, outer: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[ast.AST]:
    """Everything inside each node of a kind, the node itself left out."""
    for node in ast.walk(tree):
        if isinstance(node, outer):
            yield from (inner for inner in ast.walk(node) if inner is not node)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_condition_inside_an_expression_stands_alone(path: Path) -> None:
    for inner in within(ast.parse(path.read_text()), ast.IfExp):
        assert not isinstance(inner, ast.IfExp), f"line {inner.lineno}: name one of the two"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_comprehension_names_nothing_by_the_way(path: Path) -> None:
    for inner in within(ast.parse(path.read_text()), COMPREHENSIONS):
        assert not isinstance(inner, ast.NamedExpr), f"line {inner.lineno}: write a loop"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_lines_functions_and_modules_have_an_end(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 500
    assert max(map(len, lines), default=0) <= 100
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_every_folder_states_its_rule() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), init
