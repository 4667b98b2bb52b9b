"""The plain connector we are measured against: a dict per call, a request per notice.

What somebody writes in an afternoon. It says the right thing about the calls of the benchmark and
keeps nothing: no store, no order across a failure, no second try. Run as `python -m bench.connector
PORT URL TOKEN`.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import requests  # noqa: E402
from gevent.queue import Queue  # noqa: E402
from greenswitch import InboundESL  # noqa: E402

EVENTS = "CHANNEL_CREATE CHANNEL_PROGRESS CHANNEL_BRIDGE CHANNEL_HANGUP_COMPLETE RECORD_STOP"


class Connector:
    """calls: by the client's UUID. legs: UUID to the call's and the ext."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.calls: dict[str, dict[str, Any]] = {}
        self.legs: dict[str, tuple[str, str]] = {}

    def say(self, callid: str, **fields: str) -> None:
        """Put a notice into the call's queue."""
        self.calls[callid]["queue"].put(
            {"cmd": "event", "callid": callid, "planfix_token": self.token, **fields}
        )

    def event(self, callid: str, ext: str, event: str, **fields: str) -> None:
        """Tell of an event."""
        call = self.calls[callid]
        about = {"type": "in", "phone": call["phone"], "diversion": call["diversion"]}
        self.say(callid, **about, event=event, ext=ext, **fields)

    def done(
        self,
        callid: str,
        ext: str,
        status: str,
        duration: int = 0,
        recorded: str = "0",
        **link: str,
    ) -> None:
        """Tell of an end."""
        end = {"status": status, "duration": str(duration), "is_recorded": recorded, **link}
        self.event(callid, ext, "COMPLETED", **end)

    def send(self, queue: Queue[dict[str, str] | None]) -> None:
        """Post what a call has to say, one after the other."""
        while (fields := queue.get()) is not None:
            requests.post(self.url, data=fields, timeout=15).raise_for_status()

    def handle(self, event: Any) -> None:
        """Take an event."""
        headers = event.headers
        name, uuid = headers["Event-Name"], headers["Unique-ID"]
        at = int(headers["Event-Date-Timestamp"]) // 1_000_000
        if name == "CHANNEL_CREATE" and headers["Call-Direction"] == "inbound":
            queue: Queue[dict[str, str] | None] = Queue()
            self.calls[uuid] = {
                "phone": headers["Caller-Caller-ID-Number"].lstrip("+"),
                "diversion": headers["Caller-Destination-Number"],
                "ringing": [],
                "talking": "",
                "since": 0,
                "link": "",
                "queue": queue,
            }
            self.legs[uuid] = (uuid, "")
            gevent.spawn(self.send, queue)
        elif name == "CHANNEL_CREATE":
            self.legs[uuid] = (headers["Other-Leg-Unique-ID"], headers["variable_dialed_user"])
        elif name == "CHANNEL_PROGRESS" and self.legs[uuid][1]:
            callid, ext = self.legs[uuid]
            self.calls[callid]["ringing"].append(ext)
            self.event(callid, ext, "INCOMING")
        elif name == "CHANNEL_BRIDGE":
            callid, ext = self.legs[headers["Other-Leg-Unique-ID"]]
            call = self.calls[callid]
            call["talking"], call["since"] = ext, at
            self.event(callid, ext, "ACCEPTED")
            for other in call["ringing"]:
                if other != ext:
                    self.done(callid, other, "Canceled")
        elif name == "RECORD_STOP":
            self.calls[uuid]["link"] = (
                "https://pbx.example.com/" + headers["Record-File-Path"].rpartition("/")[2]
            )
        elif name == "CHANNEL_HANGUP_COMPLETE":
            self.hung_up(uuid, at)

    def hung_up(self, uuid: str, at: int) -> None:
        """A leg is gone; if it is the client's, so is the call."""
        callid, ext = self.legs.pop(uuid)
        if not ext:
            call = self.calls[callid]
            link = {"record_link": call["link"]} if call["link"] else {}
            recorded = "1" if link else "0"
            self.done(callid, call["talking"], "Success", at - call["since"], recorded, **link)
            self.calls.pop(callid)["queue"].put(None)


def main() -> None:
    """Follow the FreeSWITCH on a port of this machine until killed."""
    port, url, token = sys.argv[1:]
    connector = Connector(url, token)
    esl = InboundESL("127.0.0.1", int(port), "ClueCon")
    esl.connect()
    esl.register_handle("*", connector.handle)
    esl.send(f"event plain {EVENTS}")
    gevent.sleep(3600)


if __name__ == "__main__":
    main()
