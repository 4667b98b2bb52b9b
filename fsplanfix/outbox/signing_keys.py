"""The keys that sign links to recordings."""

from __future__ import annotations

import secrets

from .store import Store


def signing_keys(store: Store, given: str, older: str) -> list[str]:
    """Return the keys, the oldest first: the last one signs, all are read.

    given: SECRET_KEY. older: SECRET_KEY_OLD, with commas between several. One that we made
    ourselves is read for ever: links signed with it stand in Planfix.
    """
    made = store.facts.get("secret_key")
    if not made and not given:
        made = store.facts.set_if_absent("secret_key", secrets.token_urlsafe(32))

    keys = [*(key.strip() for key in older.split(",")), made, given]
    return [key for key in keys if key]
