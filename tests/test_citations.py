"""Whatever the code, the tests and the documents cite stands in docs/, under the name it is cited by.

The forms (CONTRIBUTING.md): a page `docs/call-rules.md`; a rule `docs/call-rules.md, rule 4`; a heading
`docs/call-rules.md, "Who is on a leg"`; a fault `docs/facts/greenswitch.md, fault a`. Where a file cites one page
of rules, `rule 4` alone is of that page; where it cites none, of the call rules.
"""

import re
from pathlib import Path

import pytest

from fsplanfix.admin.story import REASONS
from fsplanfix.calls.tracker import Tracker

from .freeswitch.faults import SCENARIOS
from .support.cases import for_each
from .support.traces import NAMES, events, rules_of

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parent.parent
CALL_RULES, DELIVERY_RULES = "docs/call-rules.md", "docs/delivery-rules.md"
FAULTS = "docs/facts/greenswitch.md"

FOLDERS = (
    *("fsplanfix", "tests", "docs", "bench", "chaos", "fuzz", "soak"),
    *("contrib", "freeswitch-dialplan", ".ci"),
)
KINDS = {
    ".py",
    ".md",
    ".xml",
    ".toml",
    ".txt",
    ".html",
    ".yaml",
    ".service",
    ".conf",
    ".example",
    "",
}


def is_read(path: Path) -> bool:
    is_text = path.is_file() and path.suffix in KINDS
    return is_text and path != Path(__file__) and "__pycache__" not in path.parts


TEXTS = [
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if is_read(path)),
    *(ROOT / name for name in ("README.md", "README.ru.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(ROOT / name for name in ("Makefile", "pyproject.toml", "setup.cfg", ".env.example")),
]

ELSEWHERE = re.compile(
    r"(?<![\w-])shared[/]|\bissues? #?[0-9]|(?<!/)\b(?:[a-z]+-facts|call-rules|delivery-rules)\.md"
)
"""What a stranger cannot open: a folder outside, a number of our tracker, a page without its folder."""

LINK = re.compile(r"\]\([^)]*\)")
PAGE = re.compile(r"\bdocs/[a-z/-]+\.md\b")
HEADING = re.compile(r'\b(docs/[a-z/-]+\.md), "([^"]+)"')
LIST = r"{one}(?:(?:, | and | or | to ){one})*\b"
RULES = re.compile(
    rf"(?:(docs/[a-z-]+\.md), |\b([Cc]all|[Dd]elivery) )?\b[Rr]ules? ({LIST.format(one='[0-9]{1,2}')})"
)
FAULT = re.compile(rf"\b[Ff]aults? ({LIST.format(one='[a-k]')})")
LETTER = re.compile(r"(?<=[ .]\()[a-k](?=\)[ .,:;\"])")
"""A letter alone, of a list that stands somewhere else. `f(a)` has no blank before it."""


def text_of(path: Path) -> str:
    """A file as one line: comments and docstrings are broken where a line is full."""
    lines = path.read_text(encoding="utf-8").splitlines()
    content = " ".join(line.strip().removeprefix("# ") for line in lines)
    return LINK.sub("]", content) if path.suffix == ".md" else content


def headings(page: str) -> list[str]:
    content = (ROOT / page).read_text(encoding="utf-8")
    return [heading.replace("`", "") for heading in re.findall(r"^#+ (.*)$", content, re.MULTILINE)]


def numbered(page: str, word: str) -> set[str]:
    """The numbers or letters of the rules or faults a page has headings for."""
    found = (re.match(rf"{word} (\w+): ", heading) for heading in headings(page))
    return {match[1] for match in found if match}


def named(span: str) -> set[str]:
    """`3, 5 and 8 to 10` is 3, 5, 8, 9 and 10."""
    found: set[str] = set()
    for part in re.split(r", | and | or ", span):
        first, _, last = part.partition(" to ")
        if last and first.isdigit():
            found.update(str(number) for number in range(int(first), int(last) + 1))
        else:
            found.update({first, last} - {""})
    return found


def rules_cited(path: Path, content: str) -> list[tuple[str, str]]:
    """Return page and number of each rule a text cites."""
    pages = [page for page in (CALL_RULES, DELIVERY_RULES) if page in content]
    if name(path) in (CALL_RULES, DELIVERY_RULES):
        pages = [name(path)]
    found = []
    for page, word, span in RULES.findall(content):
        whose = page or (f"docs/{word.lower()}-rules.md" if word else "")
        assert whose or len(pages) < 2, f"of which page is rule {span}?"
        whose = whose or (pages or [CALL_RULES])[0]
        found += [(whose, number) for number in sorted(named(span))]
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@for_each(TEXTS, name)
def test_what_is_cited_can_be_opened(path: Path) -> None:
    content = text_of(path)
    for wrong in (ELSEWHERE, LETTER):
        found = wrong.search(content)
        assert found is None, content[max(found.start() - 30, 0) : found.end() + 30]
    for page in PAGE.findall(content):
        assert (ROOT / page).exists(), page
    for page, heading in HEADING.findall(content):
        assert heading in headings(page), f"{page} has no {heading!r}"
    for page, number in rules_cited(path, content):
        assert number in numbered(page, "Rule"), f"{page} has no rule {number}"
    for span in FAULT.findall(content):
        assert named(span) <= numbered(FAULTS, "Fault"), f"{FAULTS} has no fault {span}"


@pytest.mark.parametrize("page", [CALL_RULES, DELIVERY_RULES])
def test_the_rules_of_a_page_are_numbered_without_a_gap(page: str) -> None:
    numbers = numbered(page, "Rule")
    assert numbers == {str(number) for number in range(1, len(numbers) + 1)}


def sections(page: str) -> dict[str, str]:
    """The text below each heading of a page."""
    content = (ROOT / page).read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)$", content, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shown_by(section: str) -> list[str]:
    """The traces that a section names."""
    found = re.search(r"^Shown by: (.*?)\.$", section, re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", found[1]) if found else []


DECIDING = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "13")
"""The rules by which a notice comes about; the others say what stands in it, or who takes part."""


def deciding(trace: str) -> set[str]:
    """The rules that the notices of a trace carry."""
    tracker = Tracker(rules_of(trace))
    return {notice.rule for event in events(trace) for notice in tracker.feed(event)}


def test_each_trace_that_shows_a_rule_exists_and_one_was_decided_by_it() -> None:
    for heading, section in sections(CALL_RULES).items():
        shown = shown_by(section)
        assert set(shown) <= set(NAMES), heading
        rule = re.match(r"Rule (\w+): ", heading)
        if rule and rule[1] in DECIDING:
            assert any(rule[1] in deciding(trace) for trace in shown), heading


def test_a_notice_names_a_rule_of_the_page() -> None:
    """As written in the code, since not every rule need come up in a recorded call."""
    written: set[str] = set()
    for module in sorted((ROOT / "fsplanfix/calls").glob("*.py")):
        for found in re.finditer(r"\brule\b ?=.*|at, \"[0-9]+\".*", module.read_text()):
            written.update(re.findall(r'"([0-9]+)"', found[0]))
    assert set(DECIDING) <= written
    assert written <= numbered(CALL_RULES, "Rule")


def test_every_recorded_call_carries_rules_of_the_page() -> None:
    carried = set().union(*(deciding(trace) for trace in NAMES))
    assert carried == set(DECIDING)
    assert carried <= numbered(CALL_RULES, "Rule")


def test_explain_gives_reasons_for_rules_of_the_page() -> None:
    assert {rule for rule, _ in REASONS} <= numbered(CALL_RULES, "Rule")


def test_the_scenarios_of_the_faults_exist_and_all_are_named() -> None:
    tests = "".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))
    named_ones: set[str] = set()
    for heading, section in sections(FAULTS).items():
        if not heading.startswith("Fault "):
            continue
        found = re.search(r"^Tested by: (.*?)\.$", section, re.MULTILINE | re.DOTALL)
        assert found, heading
        for test in re.findall(r"`([^`]+)`", found[1]):
            assert test in SCENARIOS or f"def {test}(" in tests, test
            named_ones.add(test)
    assert set(SCENARIOS) <= named_ones
