"""Whom a client believes, on real TLS connections: an authority, a pinned key, and all that through a proxy."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from qslurm.c1.connection.job_manager import JobManagerClient
from qslurm.errors import ConfigError, UnreachableError
from qslurm.slurm.rest import SlurmrestClient
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.rest.http_session import distrust
from qslurm.slurm.rest.pinned_keys import WrongKeyError, check_pin, parse_pins, public_key_info
from qslurm.tokens.secret import Secret

TOKEN = "eyJh.eyJi.c2ln"
OTHER = "sha256//" + base64.b64encode(b"\1" * 32).decode()


def certificate(key, *, subject="c2.example.org"):
    """A certificate of a key, by itself, for 127.0.0.1."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pin_of(key):
    info = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256//" + base64.b64encode(hashlib.sha256(info).digest()).decode()


class _Answers(BaseHTTPRequestHandler):
    """A slurmrestd and a job manager, as far as these tests go."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        body = json.dumps({"errors": [], "pings": [], "backends": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class C2:
    url: str
    pin: str
    ca_file: str
    asked: list = field(default_factory=list)


@pytest.fixture(scope="module")
def _served(tmp_path_factory) -> Iterator[C2]:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca_file.write_bytes(certificate(key).public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.asked = []
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients who turn away are the point
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield C2(f"https://127.0.0.1:{server.server_address[1]}", pin_of(key), str(ca_file), server.asked)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def c2(_served) -> C2:
    _served.asked.clear()
    return _served


class Proxy:
    """A small CONNECT proxy, which sees where its clients go and nothing of what they say."""

    def __init__(self, refuses=False) -> None:
        self.asked: list[str] = []
        self._refuses = refuses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and (piece := client.recv(4096)):
                request += piece
            self.asked.append(request.decode())
            method, where, *_ = request.decode().split()
            if method != "CONNECT" or self._refuses:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = where.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=30) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                while ready := select.select([client, server], [], [], 60)[0]:
                    for one, other in ((client, server), (server, client)):
                        if one in ready:
                            if not (piece := one.recv(65536)):
                                return
                            other.sendall(piece)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


def ask_slurm(url, **trust):
    with SlurmrestClient(Endpoint(url, Secret(TOKEN), "center_a", **trust), api_version="v0.0.39") as client:
        client.ping()


def ask_job_manager(url, **trust):
    client = JobManagerClient(Endpoint(url, Secret(TOKEN), **trust))
    try:
        client.backends()
    finally:
        client.close()


ASK = pytest.mark.parametrize("ask", [ask_slurm, ask_job_manager])


@ASK
def test_a_pinned_key_is_believed_without_an_authority_and_with_one(c2, ask):
    ask(c2.url, pinned_key=c2.pin)
    ask(c2.url, pinned_key=f"{OTHER};{c2.pin}")
    ask(c2.url, pinned_key=c2.pin, ca_file=c2.ca_file)
    ask(c2.url, ca_file=c2.ca_file)
    assert len(c2.asked) == 4


@ASK
@pytest.mark.parametrize("by_authority", [False, True])
def test_another_key_gets_no_token_whoever_vouches_for_it(c2, ask, by_authority):
    trust = {"ca_file": c2.ca_file} if by_authority else {}
    with pytest.raises(UnreachableError) as error:
        ask(c2.url, pinned_key=OTHER, **trust)
    assert "not the pinned one" in error.value.message
    assert c2.pin in error.value.message
    assert c2.asked == []


@ASK
def test_an_unknown_authority_gets_no_token(c2, ask):
    with pytest.raises(UnreachableError, match=r"not trusted.*pinned_key"):
        ask(c2.url)
    assert c2.asked == []


@ASK
def test_all_that_holds_through_a_proxy_that_sees_nothing(c2, ask, proxy):
    ask(c2.url, pinned_key=c2.pin, proxy=proxy.url)
    ask(c2.url, ca_file=c2.ca_file, proxy=proxy.url)
    assert len(c2.asked) == 2
    with pytest.raises(UnreachableError, match="not the pinned one"):
        ask(c2.url, pinned_key=OTHER, proxy=proxy.url)
    with pytest.raises(UnreachableError, match="not trusted"):
        ask(c2.url, proxy=proxy.url)
    assert len(c2.asked) == 2
    assert len(proxy.asked) == 4
    assert all(request.startswith("CONNECT 127.0.0.1:") for request in proxy.asked)
    assert TOKEN not in "".join(proxy.asked)


@ASK
def test_a_proxy_that_refuses_or_is_not_there_is_said(c2, ask):
    refusing = Proxy(refuses=True)
    try:
        for where in (refusing.url, "http://127.0.0.1:9"):
            with pytest.raises(UnreachableError):
                ask(c2.url, pinned_key=c2.pin, proxy=where)
    finally:
        refusing.close()
    assert c2.asked == []


@ASK
def test_a_pin_needs_tls(ask):
    with pytest.raises(ConfigError, match="not https"):
        ask("http://127.0.0.1:1", pinned_key=OTHER)


# --- pins by themselves


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "sha256//",
        "sha256//AAAA",
        "sha1//" + OTHER[8:],
        OTHER[8:],
        OTHER + "=",
        OTHER + ";",
        f"{OTHER},{OTHER}",
    ],
)
def test_what_is_no_pin_is_said_to_be_none(text):
    with pytest.raises(ConfigError, match="Invalid pinned_key"):
        parse_pins(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["ec", "ed25519", "rsa"],
)
@pytest.mark.parametrize("subject", ["x", "x" * 64])
def test_the_key_is_found_in_certificates_of_each_kind(make, subject):
    key = make()
    der = certificate(key, subject=subject).public_bytes(serialization.Encoding.DER)
    check_pin(der, parse_pins(pin_of(key)))
    with pytest.raises(WrongKeyError):
        check_pin(der, parse_pins(OTHER))
    for cut in (0, 1, 2, 10, len(der) // 2):
        with pytest.raises(ssl.SSLError):
            public_key_info(der[:cut])


def test_a_server_without_a_certificate_has_no_pinned_key():
    with pytest.raises(WrongKeyError):
        check_pin(None, parse_pins(OTHER))


@ASK
def test_a_certificate_for_another_host_is_told_from_an_authority_that_nobody_knows(c2, ask):
    with pytest.raises(UnreachableError, match="is for another host"):
        ask(c2.url.replace("127.0.0.1", "localhost"), ca_file=c2.ca_file)
    assert not c2.asked


def test_a_server_without_tls_is_told_from_one_that_breaks_off():
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    assert "TLS handshake" in str(distrust("https://c2", [error]))
    error.reason = "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"  # a request may have been heard by then
    assert distrust("https://c2", [error]) is None


@ASK
@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "proxy:3128", "http://", "http://me:secret@[::1"])
def test_a_proxy_that_is_none_is_said_before_anything_is_asked_of_it(ask, url):
    with pytest.raises(ConfigError, match="Invalid proxy URL") as caught:
        ask("http://127.0.0.1:9", proxy=url)
    assert "secret" not in str(caught.value)


@ASK
def test_a_proxy_that_is_away_is_called_so(ask):
    with pytest.raises(UnreachableError, match="through the proxy: connection refused"):
        ask("https://c2.example.org", proxy="http://127.0.0.1:9")


def test_an_authority_that_is_none_is_said_before_anything_is_asked(tmp_path):
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    for name, said in (("key.pem", "contains no certificate"), ("none.pem", "No such file")):
        with pytest.raises(ConfigError, match=said):
            ask_slurm("https://127.0.0.1:9", ca_file=str(tmp_path / name))
