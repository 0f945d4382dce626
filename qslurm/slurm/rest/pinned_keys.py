"""Pinned public keys, as in curl's --pinnedpubkey: `sha256//BASE64`, separated by `;`.

The pin is the SHA-256 of the certificate's SubjectPublicKeyInfo (RFC 7469, 2.4), which does not change when the
certificate is renewed for the same key. Centers need no `cryptography` for it.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from base64 import b64decode, b64encode
from binascii import Error as Base64Error

from qslurm.errors import ConfigError

_PREFIX = "sha256//"
_SEQUENCE, _VERSION = b"\x30", 0xA0


class WrongKeyError(ssl.SSLError):
    """The server has a different key than the pinned one; `shown` is its pin."""

    def __init__(self, shown: str) -> None:
        super().__init__(f"the server's key is {shown}")
        self.shown = shown


def parse_pins(text: str) -> frozenset[bytes]:
    """The digests of one or several `sha256//BASE64` pins; ConfigError if invalid."""
    pins = set()
    for part in text.split(";"):
        word = part.strip()
        try:
            digest = b64decode(word.removeprefix(_PREFIX), validate=True)
        except (Base64Error, ValueError):
            digest = b""
        if not word.startswith(_PREFIX) or len(digest) != hashlib.sha256().digest_size:
            raise ConfigError(
                f"Invalid pinned_key {word[:80]!r}.",
                hint=f"Use {_PREFIX} and 44 characters of base64; separate several by ;.",
            )
        pins.add(digest)
    return frozenset(pins)


def check_pin(certificate: bytes | None, pins: frozenset[bytes]) -> None:
    """WrongKeyError unless the certificate (DER) has one of the keys."""
    if not certificate:
        raise WrongKeyError("none")
    shown = hashlib.sha256(public_key_info(certificate)).digest()
    if not any(hmac.compare_digest(shown, pin) for pin in pins):
        raise WrongKeyError(_PREFIX + b64encode(shown).decode())


def public_key_info(certificate: bytes) -> bytes:
    """A certificate's SubjectPublicKeyInfo (both DER); ssl.SSLError if it is no certificate (RFC 5280, 4.1)."""
    try:
        whole, _ = _content_of(certificate, 0)
        at, end = _content_of(certificate, whole)  # of what is signed
        if certificate[at] == _VERSION:
            at = _after(certificate, at)
        for _ in ("serial number", "signature", "issuer", "validity", "subject"):
            at = _after(certificate, at)
        after = _after(certificate, at)
        info = certificate[at:after]
    except (IndexError, ValueError) as error:
        raise ssl.SSLError("cannot read the server's certificate") from error
    if info[:1] != _SEQUENCE or after > end:
        raise ssl.SSLError("the server's certificate has no key where one should be")
    return info


def _content_of(data: bytes, at: int) -> tuple[int, int]:
    """Start and end of the content of the DER element at `at`."""
    first = data[at + 1]
    if first < 0x80:
        begin, length = at + 2, first
    else:
        begin = at + 2 + (first & 0x7F)
        length = int.from_bytes(data[at + 2 : begin], "big")
    if begin + length > len(data):
        raise ValueError("an element is longer than the data")
    return begin, begin + length


def _after(data: bytes, at: int) -> int:
    return _content_of(data, at)[1]
