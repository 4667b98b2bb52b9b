"""Decides who rings for a client, and in which order: who looks after him, who talked last, all."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum

from ..calls.model import Rules
from ..freeswitch.ring import MOST_RUNG, Phone

LONGEST_GROUP = 4000
"""Characters of `planfix_group` that are read."""

_BETWEEN_NAMES = re.compile(r"[,;\s]+")
"""A comma, as the documents say, and what people write for it."""


class First(StrEnum):
    """Who may ring before the group. MANAGER: who looks after the client. LAST: who talked last."""

    MANAGER = "manager"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class RingPlan:
    """The settings of the ring.

    first: who comes before the group, in order. seconds: how long each step rings. user_domain: the
    domain of the directory users, "" for FreeSWITCH's own. dial_string: how a mobile is dialled;
    dial_strings: by ext, where it differs.
    """

    first: tuple[First, ...] = (First.MANAGER, First.LAST)
    seconds: int = 20
    user_domain: str = ""
    dial_string: str = "sofia/gateway/trunk/{number}"
    dial_strings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Employee:
    """An ext of Planfix, and what may ring for it, each in the order to try them.

    users: directory users. mobiles: numbers as they are dialled.
    """

    ext: str
    users: tuple[str, ...]
    mobiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who is to ring for a client. managers, last, group: exts, in order.

    caller: his number (E.164 digits), which is not rung: employees call from their mobiles, too.
    """

    managers: Sequence[str] = ()
    last: str = ""
    group: Sequence[str] = ()
    caller: str = ""


def group_of(text: str) -> list[str]:
    """Return what `planfix_group` names."""
    names = _BETWEEN_NAMES.split(text[:LONGEST_GROUP])
    return list(dict.fromkeys(name for name in names if name))[:MOST_RUNG]


Ask = Callable[[list[str]], Set[str]]
"""Takes directory users, returns some of them."""


def _none_of(_: list[str]) -> Set[str]:
    return frozenset()


class Order:
    """Puts those who ring in order. first: who comes before the group."""

    def __init__(self, rules: Rules, first: Sequence[First]) -> None:
        self._rules = rules
        self._first = first

    def steps(
        self, wanted: Wanted, absent: Ask, busy: Collection[str], unknown: Ask = _none_of
    ) -> list[list[Phone]]:
        """Return who rings at once, one step after the other.

        absent: asked once, which of the directory users have no phone. busy: exts in a call.
        unknown: asked once, which of those of the group do not exist, if that matters.
        """
        before: list[list[Employee]] = []
        for kind in self._first:
            codes = wanted.managers if kind is First.MANAGER else [wanted.last]
            before.append(self._free(codes, busy, wanted.caller))
        group = self._free(wanted.group, busy, wanted.caller)

        everybody = [employee for step in (*before, group) for employee in step]
        users = list(dict.fromkeys(user for employee in everybody for user in employee.users))
        gone = absent(users) if users else frozenset()

        steps: list[list[Phone]] = []
        rung: set[Phone] = set()
        for step in before:
            for phones in (_desks(step, gone), _mobiles(step)):
                steps.append([phone for phone in phones if phone not in rung])
                rung.update(phones)

        steps = [phones for phones in steps if phones]
        # all ring, also those who have rung already, unless that would ring the same ones again. A
        # mobile is for those who never have a phone in the house, not for one that is off.
        everyone = [*_desks(group, gone), *_mobiles(_without_desks(group, gone, unknown))]
        if everyone and (not steps or set(steps[-1]) != set(everyone)):
            steps.append(everyone)
        return steps

    def _free(self, codes: Iterable[str], busy: Collection[str], caller: str) -> list[Employee]:
        found = (self._employee(code, caller) for code in codes)
        return [one for one in found if one is not None and one.ext not in busy]

    def _employee(self, code: str, caller: str) -> Employee | None:
        """Return the employee behind an ext of Planfix or a directory user, None if nobody."""
        rules = self._rules
        behind = [name for name in rules.users_of(code) if name != caller] if code else []
        if not behind and rules.ext_for(code):
            # a user who goes by another ext, such as 1001 by the alias 1001:101
            return self._named(rules.ext_for(code), [code])
        return self._named(code, behind)

    def _named(self, ext: str, behind: Sequence[str]) -> Employee | None:
        outside = [name for name in behind if self._rules.is_outside(name)]
        users = tuple(name for name in behind if name not in outside)
        mobiles = tuple(self._rules.numbering.dialled(number) for number in outside)
        return Employee(ext, users, mobiles) if behind else None


def _desks(step: Iterable[Employee], gone: Set[str]) -> list[Phone]:
    """Return one phone of each employee: the first of his users who has one."""
    present = ([user for user in employee.users if user not in gone] for employee in step)
    return list(dict.fromkeys(Phone(users[0]) for users in present if users))


def _mobiles(step: Iterable[Employee]) -> list[Phone]:
    found = (
        Phone(number, is_outside=True, ext=employee.ext)
        for employee in step
        for number in employee.mobiles
    )
    return list(dict.fromkeys(found))


def _without_desks(step: Iterable[Employee], gone: Set[str], unknown: Ask) -> list[Employee]:
    """Return those who have a mobile and no directory user."""
    suspects = [one for one in step if one.mobiles and gone >= set(one.users)]
    users = list(dict.fromkeys(user for one in suspects for user in one.users))
    missing = unknown(users) if users else frozenset()
    return [one for one in suspects if missing >= set(one.users)]
