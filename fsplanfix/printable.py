"""What came from outside, fit for a terminal and a log: the one place that makes it so.

Planfix's answers, names and numbers of strangers may hold terminal sequences, line breaks that
forge a line, or marks that turn the order of letters round.
"""

from __future__ import annotations

import json
import unicodedata


def printable(text: str) -> str:
    r"""Return text as one line without any sign that steers: those are written as JSON does.

    ESC becomes \u001b, a line break \n, a right-to-left mark \u202e, half a surrogate pair \ud800.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(sign) if _steers(sign) else sign for sign in text)


def lines(text: str) -> str:
    """Return text of several lines, each of them printable."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _escaped(sign: str) -> str:
    return "\\u007f" if sign == "\x7f" else json.dumps(sign)[1:-1]


def _steers(sign: str) -> bool:
    """Tell whether a sign is a control, format, private, unknown or separating one."""
    category = unicodedata.category(sign)
    return category[0] == "C" or category in ("Zl", "Zp")
