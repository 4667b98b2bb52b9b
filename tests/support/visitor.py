"""A visitor of the dashboard."""

from __future__ import annotations

import html
import re

import gevent
import requests

from .service import PATIENCE, Service

PASSWORD = "a-good-password"


def token(page: str) -> str:
    return html.unescape(re.findall(r'name="csrf_token" value="([^"]+)"', page)[0])


def rejected_ids(page: str) -> list[str]:
    """The numbers of the notices behind each rejected call, as its buttons send them."""
    return sorted(set(re.findall(r'name="ids" value="([\d,]+)"', page)), key=len)


class Visitor(requests.Session):
    """A browser without a screen."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.trust_env = False
        self.at = service.address

    def see(self, path: str = "/", code: int = 200) -> str:
        answer = self.get(self.at + path, timeout=60)
        assert answer.status_code == code, answer.text
        return answer.text

    def see_rejected(self, calls: int) -> str:
        """Wait for the page that shows so many calls with rejected notices; return it.

        The store hears of a refusal a moment after the log.
        """
        with gevent.Timeout(PATIENCE):
            while len(rejected_ids(page := self.see())) < calls:
                gevent.sleep(0.01)
        return page

    def press(self, path: str, page: str = "", **fields: str) -> requests.Response:
        given = {"csrf_token": token(page or self.see("/login"))}
        return self.post(
            self.at + path, data={**given, **fields}, timeout=60, allow_redirects=False
        )

    def log_in(self, password: str = PASSWORD) -> requests.Response:
        return self.press("/login", password=password)
