"""What workers that share a store must have in common: the mode, the keys, the rules."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import structlog

from ..errors import StoreError
from ..outbox.queue import Queue
from ..outbox.store import Store
from ..settings import RuleSettings, Settings
from ..settings.accounts import Accounts

log = structlog.get_logger(__name__)


def keep_shadow_apart(store: Store, is_shadow: bool) -> None:
    """Refuse a store that another kind of worker writes. Raises StoreError."""
    # a notice that a shadow stores is never sent, not even by a worker that sends
    mode = "shadow" if is_shadow else "sends"
    found = store.facts.get("mode")
    if not found:
        # a store from before there was a shadow mode holds notices and no mode
        found = "sends" if Queue(store).counts() else mode
    store.facts.set_if_absent("mode", found)
    if found == mode:
        return

    if is_shadow:
        raise StoreError(
            "STORE_URL is used by a worker that sends: give `run --shadow` one of its own."
        )

    raise StoreError(
        "STORE_URL was written by `run --shadow`, which sends nothing: start with a new one."
    )


def warn_of_other_rules(
    store: Store, accounts: Accounts[Settings], former: Accounts[Settings] | None = None
) -> None:
    """Warn if the rules are not those that the store was last used with.

    Workers that share a store make the same notices only under the same rules. former: ours before
    a reload; that these have changed is no news.
    """
    ours = _rules_of_all(accounts)
    before = store.facts.swap("rules", json.dumps(ours, sort_keys=True))
    theirs = json.loads(before or "{}")
    if not theirs or (former is not None and theirs == _rules_of_all(former)):
        return

    # not settings that an older release had; accounts that are gone
    gone = [name for name in theirs if name.startswith("[") and name not in ours]
    names = [*gone, *(name for name in ours if ours[name] != theirs.get(name))]
    differing = sorted(name if name.startswith("[") else name.upper() for name in names)

    if differing:
        log.warning(
            "rules_changed",
            settings=",".join(differing),
            hint="if another worker shares this store, give it the same settings and restart it",
        )


def _rules_of_all(accounts: Accounts[Settings]) -> dict[str, Any]:
    rules = _rules_of(accounts.machine)
    if accounts.file is not None:
        rules |= {f"[{name}]": _digest(_rules_of(own)) for name, own in accounts.items()}
    return rules


def _rules_of(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", include=set(RuleSettings.model_fields))


def _digest(rules: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]
