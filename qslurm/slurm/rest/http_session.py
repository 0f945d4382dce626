"""HTTP sessions to C2: how its certificate is believed, by which proxy it is reached; nothing from the environment."""

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
    """A connection on which nothing is said before the server has shown a pinned key, through a proxy or without."""

    pins: frozenset[bytes]
    sock: Any
    is_verified: bool

    def connect(self) -> None:
        """Connect; WrongKeyError if it is somebody else who answers."""
        super().connect()  # type: ignore[misc]
        try:
            check_pin(self.sock.getpeercert(binary_form=True), self.pins)
        except ssl.SSLError:
            self.sock.close()
            self.sock = None
            raise
        self.is_verified = True


class Adapter(HTTPAdapter):
    """Makes connections of the given classes, also those through a proxy."""

    def __init__(self, http: type[HTTPConnection], https: type[HTTPSConnection]) -> None:
        self._pools = {
            "http": type("HttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of direct connections."""
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
        session.mount(scheme, Adapter(http, https))
    return session


def _check_ca_file(file: Path) -> None:
    """ConfigError for what can't be believed by: it would be noticed at the first request, in OpenSSL's words."""
    try:
        text = file.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(
            f"The certificate authority {file} can't be read: {why}.", hint="Check ca_file."
        ) from error
    if b"CERTIFICATE-----" not in text:
        raise ConfigError(f"There is no certificate in {file}.", hint="ca_file is a PEM file.")


def _check_proxy(proxy: str) -> None:
    """ConfigError for a proxy that is no HTTP proxy. It may hold a password, so it is not shown."""
    try:
        parts = parse_url(proxy)
    except LocationParseError:
        parts = Url()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(
            "The setting proxy is no URL of an HTTP proxy.", hint="It looks like http://proxy:3128."
        )


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
"""OpenSSL's reasons for which a connection ends before anything can have been said on it."""


def _in_doubt(url: str, error: ssl.SSLCertVerificationError) -> UnreachableError:
    """What is wrong with a certificate, and who can mend it."""
    if error.verify_code in _OTHER_NAME:
        return UnreachableError(
            f"C2's certificate at {url} is for another host.",
            hint="Use the name in the URL that C2's operators say, or set pinned_key to C2's key.",
        )
    if error.verify_code == _TOO_OLD:
        return UnreachableError(f"C2's certificate at {url} has expired.", hint="Tell C2's operators.")
    if error.verify_code == _TOO_YOUNG:
        return UnreachableError(
            f"C2's certificate at {url} is not valid yet.", hint="Is this machine's clock right?"
        )
    return UnreachableError(
        f"C2's certificate at {url} is not to be trusted.",
        hint="Set ca_file to the certificate authority that C2's operators use, or pinned_key to C2's key.",
    )


def distrust(url: str, causes: list[BaseException]) -> UnreachableError | None:
    """The error for a server that is not believed, or speaks no TLS; None if that is not what went wrong."""
    for cause in causes:
        if isinstance(cause, WrongKeyError):
            return UnreachableError(
                f"Who answers at {url} is not C2: its key is not the pinned one, but {cause.shown}.",
                hint="Nothing was sent. If C2's operators say that they have a new key, change pinned_key.",
            )
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _in_doubt(url, cause)
    if any(isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS for cause in causes):
        return UnreachableError(
            f"What answers at {url} does not speak TLS as we do.",
            hint="Is it http:// there, or another port?",
        )
    return None
