"""Rules by which a number is written another way: a pattern and its replacement.

The patterns are an administrator's, the numbers a stranger's. RE2 takes time in proportion to the
length of a number, whatever the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

MOST_RULES = 50
LONGEST_PATTERN = 200
"""Characters."""

MOST_MEMORY = 1 << 20
"""Bytes that RE2 may use for a pattern."""

_REPLACEMENT = re.compile(r"\+?(?:[0-9*#]|\$[1-9])*", re.ASCII)
_GROUP = re.compile(r"\$([1-9])")


@dataclass(frozen=True, slots=True)
class NumberRule:
    """A pattern for a whole number, and what is written instead: digits, `*`, `#`, groups as $1.

    Made by read_rules, which checks them.
    """

    pattern: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.pattern}={self.replacement}"


def read_rules(text: str) -> tuple[NumberRule, ...]:
    """Read `pattern=replacement;pattern=replacement`. Raises ValueError with a sentence."""
    rules = [_read(item.strip()) for item in text.split(";") if item.strip()]
    if len(rules) > MOST_RULES:
        raise ValueError(f"there are more than {MOST_RULES} rules.")
    return tuple(rules)


def _read(item: str) -> NumberRule:
    pattern, equals, replacement = item.partition("=")
    pattern, replacement = pattern.strip(), replacement.strip()
    if not equals or not pattern or not _REPLACEMENT.fullmatch(replacement):
        raise ValueError(rf"'{item[:80]}' cannot be used; write it like 9(8\d{{10}})=$1.")
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a pattern is longer than {LONGEST_PATTERN} characters.")

    try:
        groups = _compiled(pattern).groups
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"'{pattern}' is not a regular expression ({reason}).") from None
    if any(int(group) > groups for group in _GROUP.findall(replacement)):
        raise ValueError(f"'{pattern}' has fewer groups than {replacement} names.")
    return NumberRule(pattern, replacement)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    """Return a compiled pattern. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MOST_MEMORY
    return re2.compile(pattern, options)


def rule_for(number: str, rules: Sequence[NumberRule]) -> NumberRule | None:
    """Return the first rule whose pattern is the whole of a number, None if there is none."""
    return next((rule for rule in rules if _compiled(rule.pattern).fullmatch(number)), None)


def rewritten(number: str, rules: Sequence[NumberRule]) -> str:
    """Return a number as the first rule that fits it has it, else as it is."""
    rule = rule_for(number, rules)
    if rule is None:
        return number

    found = _compiled(rule.pattern).fullmatch(number)
    return _GROUP.sub(lambda group: found[int(group[1])] or "", rule.replacement)
