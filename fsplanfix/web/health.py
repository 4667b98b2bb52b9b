"""Answers whether the service is alive and ready, for container engines and load balancers."""

from __future__ import annotations

from collections.abc import Callable

from flask import jsonify
from flask.typing import ResponseReturnValue

Check = Callable[[], bool]


class Health:
    """Answers /health/live and /health/ready.

    checks: by name, what must be true for the service to be ready.
    """

    def __init__(self, checks: dict[str, Check]) -> None:
        self._checks = checks

    def live(self) -> ResponseReturnValue:
        """Answer 200 as long as the process answers at all."""
        return jsonify(status="live")

    def ready(self) -> ResponseReturnValue:
        """Answer 200 while every check is true, else 503; the body names each check."""
        found = {name: check() for name, check in self._checks.items()}

        if all(found.values()):
            return jsonify(status="ready", **found), 200
        return jsonify(status="not ready", **found), 503
