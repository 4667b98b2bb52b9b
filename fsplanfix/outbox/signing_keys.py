"""The keys that sign the URLs of recordings."""

from __future__ import annotations

import secrets

from .store import Store


def made_key(store: Store, given: str) -> str:
    """Return the key that is kept in the store; one is made unless a key is given.

    given: SECRET_KEY. Raises StoreError.
    """
    # accepted for ever: Planfix keeps links that were signed with it, and may open one years later
    # (docs/facts/planfix.md)
    made = store.facts.get("secret_key")
    if not made and not given:
        made = store.facts.set_if_absent("secret_key", secrets.token_urlsafe(32))
    return made


def keys_of(made: str, given: str, older: str) -> list[str]:
    """Return the keys, the oldest first: the last one signs, all are accepted.

    made: see `made_key`. given: SECRET_KEY. older: SECRET_KEY_OLD, with commas between several.
    """
    keys = [*(key.strip() for key in older.split(",")), made, given]
    return [key for key in keys if key]


def signing_keys(store: Store, given: str, older: str) -> list[str]:
    """Return the keys of a store; see `keys_of`. Raises StoreError."""
    return keys_of(made_key(store, given), given, older)
