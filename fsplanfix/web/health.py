"""Whether the service lives and is ready, for systemd, a container engine or a load balancer."""

from __future__ import annotations

from collections.abc import Callable

from flask import jsonify
from flask.typing import ResponseReturnValue

Check = Callable[[], bool]


class Health:
    """checks: what must hold for the service to be ready, by name."""

    def __init__(self, checks: dict[str, Check]) -> None:
        self._checks = checks

    def live(self) -> ResponseReturnValue:
        """Answer as long as the process answers at all."""
        return jsonify(status="live")

    def ready(self) -> ResponseReturnValue:
        """Answer 200 while every check holds, else 503; the body says which one does not."""
        found = {name: check() for name, check in self._checks.items()}
        ready = all(found.values())
        return jsonify(status="ready" if ready else "not ready", **found), 200 if ready else 503
