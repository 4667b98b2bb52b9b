"""FreeSWITCH's side of the dialplan's `socket` application, byte for byte."""

from __future__ import annotations

from gevent import socket

from fsplanfix.freeswitch.socket_app import SocketApp

from .traces import wire

CHANNEL_DATA = next(
    said
    for said in wire("outbound_lookup_then_resume")
    if said.startswith("Event-Name: CHANNEL_DATA")
)


def connect(app: SocketApp) -> socket.socket:
    host, _, port = app.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        received = sock.recv(4096)
        if not received:
            return data
        data += received
    return data
