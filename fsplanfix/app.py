"""Builds every part, starts and stops them: the only place that knows all of them."""

from __future__ import annotations

import os
import re
import secrets
import socket
from typing import Any

import gevent
import structlog
from gevent import pywsgi
from gevent.event import Event

from .errors import PortTakenError, StoreError
from .freeswitch import originate
from .freeswitch.link import Link, Server
from .freeswitch.originate import DialPlan
from .greenlets import keep_running
from .outbox.store import Store
from .pipeline import Pipeline
from .planfix.client import Client
from .planfix.commands import Commands
from .planfix.courier import Courier
from .recordings.links import Links
from .settings import Settings
from .web import factory
from .web.health import Health

log = structlog.get_logger(__name__)

TIME_TO_FINISH = 10.0
"""Seconds that requests under way are given at the end."""


def _listen(address: str) -> socket.socket:
    """Take the web server's port at once, before anything else is begun."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=256)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise PortTakenError(
            f"HTTP_LISTEN={address} cannot be used ({reason}): stop what listens there or choose another port."
        ) from None


class QuietHandler(pywsgi.WSGIHandler):
    """Keeps requests out of the log: they may hold tokens and phone numbers."""

    def log_request(self) -> None:
        """Log nothing."""


class App:
    """The service. Raises StoreError or PortTakenError if it cannot start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.store_url)
        secret = settings.secret_key.get_secret_value() or self._store.fact("secret_key", secrets.token_urlsafe(32))
        listener = _listen(settings.http_listen)
        self.address = "http://{}:{}".format(*listener.getsockname()[:2])
        links = Links(settings.public_url or self.address, secret)
        token = settings.planfix_token.get_secret_value()
        self._client = Client(settings.planfix_url, token, settings.planfix_concurrency)
        self._courier = Courier(self._store, self._client, links.link, settings.planfix_concurrency)
        self._links: list[Link] = []
        self._pipelines: list[Pipeline] = []
        for server in (Server(*parts) for parts in settings.servers()):
            self._follow(server)
        web = factory.make(self._commands().answer, self._health(), links.path, str(settings.recordings_dir))
        self._web = pywsgi.WSGIServer(listener, web, handler_class=QuietHandler, log=None, error_log=None)
        self._workers: list[gevent.Greenlet[..., Any]] = []
        self._followers: list[gevent.Greenlet[..., Any]] = []
        self._stopping = Event()

    def _follow(self, server: Server) -> None:
        pipeline = Pipeline(server.name, self._settings.rules(), self._store, self._courier.call)
        names = pipeline.tracker.event_names
        link = Link(server, names, pipeline.put, on_up=lambda _: None, on_down=lambda _: None)
        self._pipelines.append(pipeline)
        self._links.append(link)

    def _commands(self) -> Commands:
        settings = self._settings
        return Commands(
            token=settings.pbx_token.get_secret_value(),
            ext_pattern=settings.rules().ext_pattern,
            country=settings.country,
            allow=re.compile(settings.dial_allow, re.ASCII) if settings.dial_allow else None,
            dial=self._dial,
        )

    def _dial(self, ext: str, number: str) -> bool:
        """Start a click-to-call on the first FreeSWITCH that is linked."""
        settings = self._settings
        plan = DialPlan(settings.dial_string, settings.dial_context, settings.user_domain, settings.outbound_caller_id)
        connection = next((link.connection for link in self._links if link.connection is not None), None)
        if connection is None:
            return False
        gevent.spawn(originate.call, connection, ext, number, plan)
        return True

    def _health(self) -> Health:
        return Health(
            {
                "freeswitch": lambda: all(link.connection is not None for link in self._links),
                "store": self._store_answers,
            }
        )

    def _store_answers(self) -> bool:
        try:
            self._store.counts()
        except StoreError:
            return False
        return True

    def start(self) -> None:
        """Start every part."""
        self._web.start()
        log.info("web_listening", address=self.address)
        for pipeline in self._pipelines:
            pipeline.restore()
            self._workers.append(keep_running(f"pipeline {pipeline.server}", pipeline.run))
        self._workers.append(keep_running("courier", self._courier.run))
        for link in self._links:
            self._followers.append(keep_running(f"link {link.server.name}", link.run))

    def run(self) -> None:
        """Start, work until `stop` is called, and end in order."""
        self.start()
        self._stopping.wait()
        log.info("stopping")
        gevent.killall(self._followers)
        for pipeline in self._pipelines:
            pipeline.stop()
        self._courier.stop()
        gevent.joinall(self._workers, timeout=TIME_TO_FINISH)
        self._courier.finish(TIME_TO_FINISH)
        self._web.stop(timeout=1)
        self._client.close()
        self._store.close()

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping.set()
