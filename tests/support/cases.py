"""Many small cases as one test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

Case = TypeVar("Case")
Fixtures = ParamSpec("Fixtures")


def for_each(
    cases: Iterable[Case], name: Callable[[Case], str] = str
) -> Callable[[Callable[Concatenate[Case, Fixtures], None]], Callable[Fixtures, None]]:
    """Make one test of a check that is the same for each case; fixtures follow the case.

    A test of its own for each costs pytest and xdist 8 ms of CPU time, more than most such checks.
    All cases are tried, the failure shows each one that failed, and `-k` finds the test by the name
    of any of them.
    """
    named = {name(case): case for case in cases}

    def one_test(
        check: Callable[Concatenate[Case, Fixtures], None],
    ) -> Callable[Fixtures, None]:
        @wraps(check)
        def test(*args: Fixtures.args, **kwargs: Fixtures.kwargs) -> None:
            failures: dict[str, Exception] = {}
            for title, case in named.items():
                try:
                    check(case, *args, **kwargs)
                except Exception as failure:
                    failure.add_note(f"case: {title}")
                    failures[title] = failure

            if failures:
                raise ExceptionGroup(f"failed for {', '.join(failures)}", [*failures.values()])

        signature = inspect.signature(check)
        fixtures = [*signature.parameters.values()][1:]
        vars(test).update(
            dict.fromkeys(named), __signature__=signature.replace(parameters=fixtures)
        )
        return test

    return one_test
