"""https without a web server in front: real TLS over real sockets."""

import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
import trustme
from gevent import socket
from gevent.event import Event
from structlog.testing import capture_logs

from fsplanfix.errors import SettingsError
from fsplanfix.simulators.freeswitch import Switch
from fsplanfix.simulators.planfix import Planfix
from fsplanfix.web.server import Bounds, WebServer
from fsplanfix.web.tls import certificate

from ..support.commands import run_cli
from ..support.service import PATIENCE, Service, settings_for, started
from ..support.tls import write_certificate

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def hello(environ: dict[str, Any], start: Any) -> list[bytes]:
    body = environ["wsgi.url_scheme"].encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Place:
    """A server with a certificate in a folder, and the authority that issued it."""

    def __init__(self, folder: Path, stack: ExitStack, application: Any, **bounds: float) -> None:
        self.folder, self._held = folder, stack
        self.authority = trustme.CA()
        self.renew()
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()[:2]
        made = certificate(folder / "cert.pem", folder / "key.pem")
        self.server = WebServer(listener, application, Bounds(**bounds), made)  # type: ignore[arg-type]
        self.server.start()

    def renew(self) -> None:
        write_certificate(self.folder, self.authority)

    def bare(self, says: bytes = b"") -> socket.socket:
        sock = socket.create_connection(self.address, timeout=PATIENCE)
        self._held.callback(sock.close)
        sock.sendall(says)
        return sock

    def connect(self, says: bytes = b"") -> Any:
        context = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())
        sock = context.wrap_socket(self.bare(), server_hostname="localhost")
        self._held.callback(sock.close)
        sock.sendall(says)
        return sock


@contextmanager
def place(folder: Path, application: Any = hello, **bounds: float) -> Iterator[Place]:
    with ExitStack() as stack:
        made = Place(folder, stack, application, **bounds)
        yield made
        made.server.stop(timeout=0)


def all_of(sock: Any) -> bytes:
    said = b""
    try:
        while received := sock.recv(65536):
            said += received
    except ConnectionError:
        pass
    return said


def answer(sock: Any) -> bytes:
    said = b""
    while not said.endswith(b"\r\n\r\nhttps"):
        received = sock.recv(65536)
        assert received, said
        said += received
    return said


def test_requests_are_answered_by_https(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        sock = here.connect(WHOLE)
        assert answer(sock).endswith(b"https")
        sock.sendall(WHOLE)
        assert answer(sock).endswith(b"https")


def test_changed_files_are_used_and_open_connections_stay(tmp_path: Path) -> None:
    with place(tmp_path) as here, capture_logs() as logged:
        old = here.connect(WHOLE)
        first = old.getpeercert(binary_form=True)
        answer(old)
        here.renew()
        new = here.connect(WHOLE)
        assert answer(new).endswith(b"https")
        assert new.getpeercert(binary_form=True) != first
        old.sendall(WHOLE)
        assert answer(old).endswith(b"https")
    assert [line["event"] for line in logged] == ["certificate_renewed"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("cert.pem", b"nonsense", "cert.pem is not a certificate in PEM form."),
        ("cert.pem", None, "cert.pem cannot be read (No such file or directory)."),
        ("key.pem", b"\0" * 10_000, "key.pem is not a private key in PEM form."),
        ("key.pem", "another", "key.pem is not the key of the certificate in"),
        ("key.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "damaged"),
        ("key.pem", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "has a password"),
        ("cert.pem", b"-----BEGIN CERTIFICATE-----\nx\n", "damaged"),
    ],
)
def test_wrong_files_are_said_in_one_sentence_and_the_old_certificate_goes_on(
    tmp_path: Path, name: str, content: bytes | str | None, sentence: str
) -> None:
    with place(tmp_path) as here:
        before = here.connect(WHOLE).getpeercert(binary_form=True)
        if content is None:
            (tmp_path / name).unlink()
        elif content == "another":
            pem = trustme.CA().issue_cert("localhost").private_key_pem
            (tmp_path / name).write_bytes(pem.bytes())
        else:
            assert isinstance(content, bytes)
            (tmp_path / name).write_bytes(content)

        with pytest.raises(SettingsError) as wrong:
            certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
        (problem,) = wrong.value.problems
        assert sentence in problem
        assert problem.startswith(("HTTP_CERT: ", "HTTP_KEY: "))

        with capture_logs() as logged:
            for _ in range(2):
                sock = here.connect(WHOLE)
                assert answer(sock).endswith(b"https")
                assert sock.getpeercert(binary_form=True) == before
        assert [(line["event"], line["problem"]) for line in logged] == [
            ("certificate_wrong", problem)
        ]
        here.renew()
        assert here.connect(WHOLE).getpeercert(binary_form=True) != before


def test_a_key_may_be_in_the_file_of_its_certificate_but_not_alone(tmp_path: Path) -> None:
    write_certificate(tmp_path, trustme.CA())
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "cert.pem").read_bytes() + (tmp_path / "key.pem").read_bytes())
    assert certificate(both, None) is not None
    assert certificate(None, None) is None
    with pytest.raises(SettingsError, match="HTTP_CERT is missing"):
        certificate(None, tmp_path / "key.pem")


@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01\x02\x00", WHOLE, b"\0" * 600])
def test_who_does_not_agree_upon_tls_is_ended(tmp_path: Path, says: bytes) -> None:
    """Silence, half a handshake, plain http, noise."""
    with place(tmp_path, handshake=0.05) as here, capture_logs() as logged:
        assert b"HTTP/" not in all_of(here.bare(says))
        assert answer(here.connect(WHOLE)).endswith(b"https")
    assert logged == []


def test_a_peer_that_is_gone_at_once_leaves_no_trace(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with place(tmp_path) as here:
        for _ in range(50):
            peer = here.bare()
            # closed by a reset
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        assert answer(here.connect(WHOLE)).endswith(b"https")
    assert capfd.readouterr().err == ""


def test_half_a_handshake_makes_room_for_who_comes(tmp_path: Path) -> None:
    with place(tmp_path, in_all=2) as here:
        first, second = here.bare(), here.bare(b"\x16")
        assert answer(here.connect(WHOLE)).endswith(b"https")
        assert all_of(first) == b""
        second.close()


def test_a_request_that_never_ends_is_answered_through_tls(tmp_path: Path) -> None:
    with place(tmp_path, request=0.05) as here:
        assert all_of(here.connect(WHOLE[:-2])).startswith(b"HTTP/1.1 408")
        assert answer(here.connect(WHOLE)).endswith(b"https")


def test_a_peer_that_leaves_is_noticed(tmp_path: Path) -> None:
    asked, gone, seen = Event(), Event(), []

    def application(environ: dict[str, Any], start: Any) -> list[bytes]:
        seen.append(environ["fsplanfix.peer_is_gone"]())
        asked.set()
        gone.wait()
        # the end of a connection takes its way through the kernel
        while not environ["fsplanfix.peer_is_gone"]():
            gevent.sleep(0)
        seen.append(True)
        done.set()
        return hello(environ, start)

    done = Event()
    with place(tmp_path, application) as here:
        sock = here.connect(WHOLE)
        assert asked.wait(PATIENCE)
        sock.close()
        gone.set()
        assert done.wait(PATIENCE)
    assert seen == [False, True]


def test_the_service_speaks_https_and_says_at_the_start_what_is_wrong(
    switch: Switch, planfix: Planfix, tmp_path: Path
) -> None:
    authority = trustme.CA()
    write_certificate(tmp_path, authority, "127.0.0.1")
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    files = {"HTTP_CERT": f"{tmp_path}/cert.pem", "HTTP_KEY": f"{tmp_path}/key.pem"}
    settings = settings_for(switch, planfix, tmp_path, **files)
    with started(Service(tmp_path, settings)) as service:
        assert service.address.startswith("https://127.0.0.1:")
        click = {"cmd": "makeCall", "token": "pbx-token-1", "from": "101", "to": "79161234567"}
        url = f"{service.address}/planfix"
        answered = requests.post(url, data=click, timeout=PATIENCE, verify=str(bundle))
        assert (answered.status_code, answered.json()) == (200, {})
        write_certificate(tmp_path, authority, "127.0.0.1")
        assert requests.get(url, timeout=PATIENCE, verify=str(bundle)).status_code == 200
        service.wait_for("certificate_renewed")
        found = run_cli(tmp_path, "check", **settings).stdout
        assert "✓ https" in found

    (tmp_path / "key.pem").write_text("nonsense")
    done = run_cli(tmp_path, "run", **settings)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"HTTP_KEY: {tmp_path}/key.pem is not a private key in PEM form." in done.stderr
    assert "✗ https" in run_cli(tmp_path, "check", **settings).stdout
