"""HTTP sessions to C2: certificate verification and proxy; the environment is ignored."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from qslurm.errors import ConfigError, UnreachableError
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.rest.pinned_keys import WrongKeyError, check_pin, parse_pins


class _Pinned:
    """A connection that sends nothing before the server has presented a pinned key, also through a proxy."""

    pins: frozenset[bytes]
    sock: Any
    is_verified: bool

    def connect(self) -> None:
        """Connect; WrongKeyError if the server has another key."""
        super().connect()  # type: ignore[misc]
        try:
            check_pin(self.sock.getpeercert(binary_form=True), self.pins)
        except ssl.SSLError:
            self.sock.close()
            self.sock = None
            raise
        self.is_verified = True


class PooledAdapter(HTTPAdapter):
    """An adapter whose pools use the given connection classes, also through a proxy."""

    def __init__(self, http: type[HTTPConnection], https: type[HTTPSConnection]) -> None:
        self._pools = {
            "http": type("HttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Create the pools of direct connections."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """The pools of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def open_session(
    endpoint: Endpoint,
    http: type[HTTPConnection] = HTTPConnection,
    https: type[HTTPSConnection] = HTTPSConnection,
) -> requests.Session:
    """A session with this service; ConfigError for invalid settings.

    With a pinned key the server's name is checked only if there is a `ca_file` as well: a key says more than a name.
    """
    if endpoint.ca_file:
        _check_ca_file(Path(endpoint.ca_file))
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # answers are read as they come, within bounds
    session.trust_env = False  # a .netrc would replace the token, a proxy would see it
    session.verify = endpoint.ca_file or True
    if endpoint.pinned_key:
        pins = parse_pins(endpoint.pinned_key)
        if not endpoint.url.startswith("https://"):
            raise ConfigError(
                f"pinned_key is set, but {endpoint.url} is not https.",
                hint="Without TLS a server shows no key.",
            )
        https = type("PinnedHttps", (_Pinned, https), {"pins": pins})
        session.verify = endpoint.ca_file or False
    if endpoint.proxy:
        _check_proxy(endpoint.proxy)
        session.proxies = {"http": endpoint.proxy, "https": endpoint.proxy}
    for scheme in ("http://", "https://"):
        session.mount(scheme, PooledAdapter(http, https))
    return session


def _check_ca_file(file: Path) -> None:
    """ConfigError for an unusable ca_file, before OpenSSL fails on the first request."""
    try:
        text = file.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(
            f"Cannot read ca_file {file}: {why}.", hint="Set ca_file to a readable PEM file."
        ) from error
    if b"CERTIFICATE-----" not in text:
        raise ConfigError(f"ca_file {file} contains no certificate.", hint="Set ca_file to a PEM file.")


def _check_proxy(proxy: str) -> None:
    """ConfigError for an invalid HTTP proxy. The URL may hold a password, so it is not shown."""
    try:
        parts = parse_url(proxy)
    except LocationParseError:
        parts = Url()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError("Invalid proxy URL.", hint="Use http://HOST:PORT, for example http://proxy:3128.")


_OTHER_NAME, _TOO_OLD, _TOO_YOUNG = (62, 64), 10, 9
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH, CERT_HAS_EXPIRED, CERT_NOT_YET_VALID."""

_NO_TLS = frozenset(
    {
        *(
            "WRONG_VERSION_NUMBER",
            "UNSUPPORTED_PROTOCOL",
            "UNKNOWN_PROTOCOL",
            "HTTP_REQUEST",
            "NO_SHARED_CIPHER",
        ),
        *("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"),
    }
)
"""OpenSSL's errors that end a connection before anything was sent."""


def _in_doubt(url: str, error: ssl.SSLCertVerificationError) -> UnreachableError:
    """The error for an invalid certificate, and how to fix it."""
    if error.verify_code in _OTHER_NAME:
        return UnreachableError(
            f"C2's certificate at {url} is for another host.",
            hint="Use the host name that C2's operators gave you, or set pinned_key to C2's key.",
        )
    if error.verify_code == _TOO_OLD:
        return UnreachableError(f"C2's certificate at {url} has expired.", hint="Tell C2's operators.")
    if error.verify_code == _TOO_YOUNG:
        return UnreachableError(
            f"C2's certificate at {url} is not valid yet.", hint="Check this machine's clock."
        )
    return UnreachableError(
        f"C2's certificate at {url} is not trusted.",
        hint="Set ca_file to the certificate authority that C2's operators use, or pinned_key to C2's key.",
    )


def distrust(url: str, causes: list[BaseException]) -> UnreachableError | None:
    """The error for an untrusted server or one without TLS; None for other failures."""
    for cause in causes:
        if isinstance(cause, WrongKeyError):
            return UnreachableError(
                f"The server at {url} has the key {cause.shown}, not the pinned one.",
                hint="Nothing was sent. If C2's operators confirm a new key, change pinned_key.",
            )
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _in_doubt(url, cause)
    if any(isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS for cause in causes):
        return UnreachableError(
            f"TLS handshake with {url} failed.",
            hint="Check the port, and whether the server uses https.",
        )
    return None
