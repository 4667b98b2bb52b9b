"""FreeSWITCH's API command `expand`: several API calls, answered in one text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

DIAL_STRING = (
    "{presence_id=${dialed_user}@${dialed_domain}}"
    "${sofia_contact(*/${dialed_user}@${dialed_domain})}"
)
"""How the directory says that a user is reached."""

_VARIABLE = re.compile(r"\$\{([a-z_]+)\}")
_API_CALL = re.compile(r"\$\{([a-z_]+)\(([^()]*)\)\}")


def expanded(text: str, globals_: Mapping[str, str], api: Callable[[str], str]) -> str:
    """Return what `expand` answers: `echo` with each ${...} replaced.

    api: answers an API command.
    """
    word, _, rest = text.partition(" ")
    if word != "echo":
        return f"-ERR {word} Command not found!\n"

    # an answer may hold ${...} itself, which stays as it is
    rest = _VARIABLE.sub(lambda found: globals_.get(found[1], ""), rest)
    return _API_CALL.sub(lambda found: api(f"{found[1]} {found[2]}"), rest)
