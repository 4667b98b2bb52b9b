"""Text as a database can hold it: the one place where text on its way into the store is cleaned."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, String, Text, TypeDecorator

_UNFIT = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL's text holds no NUL, UTF-8 no half of a surrogate pair: what contains one is refused
for ever, however often it is asked for."""

UTF_8 = "utf-8"


def clean(text: str) -> str:
    """Return a text with U+FFFD in the place of each character that no database takes."""
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    return _UNFIT.sub("\ufffd", text)


class CleanText(TypeDecorator[str]):
    """Cleans what is written and what is looked for alike, so that it is found again.

    In a database with an encoding of few letters, such as LATIN1, the others become `?`.
    """

    impl: Any = Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], Any]:
        """Return what cleans a value on its way into the database."""

        def process(value: str | None) -> str | None:
            if value is None or (value.isascii() and "\x00" not in value):
                return value
            codec = getattr(dialect, "text_codec", UTF_8)
            text = clean(value)
            return text if codec == UTF_8 else text.encode(codec, "replace").decode(codec)

        return process


class CleanString(CleanText):
    """Text of up to so many characters."""

    impl = String
    cache_ok = True
