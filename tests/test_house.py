"""The rules of the house: who may import whom, how dense and how long things may be."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .support.cases import for_each
from .support.house import MAY_IMPORT, PACKAGE

pytestmark = pytest.mark.no_cover

MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS_FOLDER = Path(__file__).parent
TESTS = sorted(TESTS_FOLDER.rglob("*.py"))

ONLY_USER = {
    "greenswitch": "freeswitch",
    "sqlalchemy": "outbox",
    "requests": "planfix admin/probes.py alerts/sender.py",
    "phonenumbers": "calls/numbers.py settings/values.py",
    "itsdangerous": "recordings",
    "alembic": "outbox",
    "psycopg": "outbox",
    "boto3": "recordings/bucket.py",
    "botocore": "recordings/bucket.py",
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
IMPURE = {"gevent", "time", "socket", "os", "random", "threading", "datetime", "subprocess", "uuid"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Absolute names of everything a module imports; the house's own without `fsplanfix.`."""
    package = path.relative_to(PACKAGE).parent.parts
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
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


@for_each(MODULES, name)
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
    assert beside == {"__main__", "settings_file", "errors", "printable"}


@for_each(MODULES, name)
def test_each_library_has_one_user(path: Path) -> None:
    for found in imports(path):
        user = ONLY_USER.get(found.split(".")[0])
        assert user is None or any(name(path).startswith(prefix) for prefix in user.split()), found


@for_each(sorted((PACKAGE / "calls").glob("*.py")), name)
def test_the_rules_have_no_clock_and_no_io(path: Path) -> None:
    assert not {found.split(".")[0] for found in imports(path)} & IMPURE
    assert "open(" not in path.read_text().replace("_open(", "")


def within(tree: ast.AST, outer: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[ast.AST]:
    """Everything inside each node of a kind, the node itself left out."""
    for node in ast.walk(tree):
        if isinstance(node, outer):
            yield from (inner for inner in ast.walk(node) if inner is not node)


@for_each(MODULES, name)
def test_a_condition_inside_an_expression_stands_alone(path: Path) -> None:
    for inner in within(parsed(path), ast.IfExp):
        assert not isinstance(inner, ast.IfExp), f"line {inner.lineno}: name one of the two"


@for_each(MODULES, name)
def test_at_is_in_seconds_except_of_events(path: Path) -> None:
    """A time of FreeSWITCH's, in whole microseconds, is a `stamp` outside calls/ and freeswitch/."""
    if path.relative_to(PACKAGE).parts[0] in ("calls", "freeswitch"):
        return
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.AnnAssign):
            unit = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
        elif isinstance(node, ast.arg) and node.annotation is not None:
            unit = f"{node.arg}: {ast.unparse(node.annotation)}"
        else:
            continue
        assert unit != "at: int", f"line {node.lineno}: call it stamp"


@for_each(MODULES, name)
def test_a_comprehension_names_nothing_by_the_way(path: Path) -> None:
    for inner in within(parsed(path), COMPREHENSIONS):
        assert not isinstance(inner, ast.NamedExpr), f"line {inner.lineno}: write a loop"


@for_each(MODULES, name)
def test_lines_functions_and_modules_have_an_end(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 500
    assert max(map(len, lines), default=0) <= 100
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@for_each(TESTS, lambda path: str(path.relative_to(TESTS_FOLDER)))
def test_a_test_module_has_an_end(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


def test_every_folder_states_its_rule() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), init


@for_each(TESTS, lambda path: str(path.relative_to(TESTS_FOLDER)))
def test_no_test_module_imports_from_another(path: Path) -> None:
    """What tests share is in tests/support."""
    modules = set[str]()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules.update(alias.name for alias in node.names)
    assert not {module for module in modules if module.rpartition(".")[2].startswith("test_")}
