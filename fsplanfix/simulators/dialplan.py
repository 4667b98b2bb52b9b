"""Dialplan files, read and walked as mod_dialplan_xml does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

Action = tuple[str, str]
"""An application and its data, ${variables} not yet expanded."""

Expand = Callable[[str], str]

_REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_GLOBAL = re.compile(r"\$\$\{([a-z_]+)\}")
_MATCHED = re.compile(r"\$(\d)")
CONDITION_ATTRIBUTES = {"field", "expression", "break"}


def expand(text: str, value_of: Callable[[str], str]) -> str:
    """Replace each ${reference}, innermost first.

    value_of: returns the value of what stands in the brackets.
    """
    # a value may hold a reference itself: ${sched_del(${uuid})}
    while found := _REFERENCE.search(text):
        text = text[: found.start()] + value_of(found[1]) + text[found.end() :]
    return text


class Dialplan:
    """Contexts made of files.

    Each file is given with the context its extensions belong to, None if it has contexts of its
    own. globals_: the values of $${variables}. Raises ValueError for anything mod_dialplan_xml
    would not understand.
    """

    def __init__(
        self, files: Iterable[tuple[Path, str | None]], globals_: Mapping[str, str]
    ) -> None:
        self._globals = globals_
        self.contexts: dict[str, list[ElementTree.Element]] = {}
        for path, context in files:
            text = self._with_globals(path.read_text(encoding="utf-8"))
            root = ElementTree.fromstring(text)  # noqa: S314 - ours
            if root.tag != "include":
                raise ValueError(f"{path.name}: the outermost element must be <include>")

            for element in root:
                if context is None and element.tag == "context":
                    self._add(element.get("name", ""), list(element))
                elif context is not None and element.tag == "extension":
                    self._add(context, [element])
                else:
                    raise ValueError(f"{path.name}: <{element.tag}> is not expected here")

    def _with_globals(self, text: str) -> str:
        return _GLOBAL.sub(lambda found: self._globals[found[1]], text)

    def _add(self, context: str, extensions: list[ElementTree.Element]) -> None:
        if not context or any(e.tag != "extension" or not e.get("name") for e in extensions):
            raise ValueError("a context and its extensions need names")
        self.contexts.setdefault(context, []).extend(extensions)

    def hunt(self, context: str, value_of: Callable[[str], str]) -> list[Action]:
        """Return what a channel does in a context.

        value_of: returns a variable of the channel by its name.
        """
        actions: list[Action] = []
        for extension in self.contexts.get(context, []):
            found, matched = self._extension(extension, value_of)
            actions += found
            # the first extension that matches ends the hunt, unless it says continue
            if matched and extension.get("continue") != "true":
                break

        return actions

    def _extension(
        self, extension: ElementTree.Element, value_of: Callable[[str], str]
    ) -> tuple[list[Action], bool]:
        """Return the actions of an extension and whether all its conditions hold."""
        actions: list[Action] = []
        for condition in extension:
            if condition.tag != "condition" or set(condition.keys()) - CONDITION_ATTRIBUTES:
                raise ValueError(
                    f"extension {extension.get('name')}: unknown {condition.tag} or attribute"
                )

            field, expression = condition.get("field"), condition.get("expression")
            match = None
            if field is not None and expression is not None:
                value = expand(field, value_of) if "$" in field else value_of(field)
                match = re.search(expression, value)
                if match is None:
                    return actions, False  # break="on-false", the default

            actions += self._actions(condition, match)

        return actions, True

    @staticmethod
    def _actions(condition: ElementTree.Element, match: re.Match[str] | None) -> Iterator[Action]:
        for action in condition:
            if action.tag != "action" or set(action.keys()) - {"application", "data"}:
                raise ValueError(f"unknown {action.tag} or attribute in a condition")
            data = action.get("data", "")
            if match is not None:
                data = _MATCHED.sub(partial(_group, match), data)
            yield action.get("application", ""), data


def _group(match: re.Match[str], reference: re.Match[str]) -> str:
    """Return the group of a match that $1, $2 ... refers to."""
    return match[int(reference[1])] or ""
