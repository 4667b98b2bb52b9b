"""The keys that sign the URLs of recordings."""

from __future__ import annotations

import secrets

from .store import Store


def signing_keys(store: Store, given: str, older: str) -> list[str]:
    """Return the keys, the oldest first: the last one signs, all are accepted.

    given: SECRET_KEY. older: SECRET_KEY_OLD, with commas between several. Without either, a key is
    made and kept in the store. Raises StoreError.
    """
    # accepted for ever: Planfix keeps links that were signed with it, and may open one years later
    # (docs/facts/planfix.md)
    made = store.facts.get("secret_key")
    if not made and not given:
        made = store.facts.set_if_absent("secret_key", secrets.token_urlsafe(32))

    keys = [*(key.strip() for key in older.split(",")), made, given]
    return [key for key in keys if key]
