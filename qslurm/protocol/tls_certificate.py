"""By what the door for sessions is known: a key pair with a certificate, made when there is none.

Nobody has to sign it: clients are told the certificate itself, over a connection that is safe already.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qslurm.errors import ConfigError
from qslurm.system.atomic_file import write_atomically

_LIFETIME = timedelta(days=3650)
_CLOCKS = timedelta(days=2)  # a center's clock may be behind
_NAME = "qslurm session"


def certificate_of(key: Path) -> Path:
    """Where the certificate lies that belongs to a key: beside it, for everybody to read."""
    return key.with_suffix(".crt")


def have_certificate(key: Path) -> None:
    """Make sure of the pair. ConfigError if it can't be made, or others can read the key."""
    if not key.exists():
        _make(key)
    facts = key.stat()
    if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & 0o077:
        raise ConfigError(
            f"[sessions] key: {key} has mode {stat.S_IMODE(facts.st_mode):04o}: others may use it.",
            hint=f"Remove it and {certificate_of(key)}; the dispatcher makes new ones when it starts.",
        )
    if not certificate_of(key).exists():
        raise ConfigError(
            f"[sessions] key: its certificate {certificate_of(key)} is missing.",
            hint=f"Remove {key}, too; the dispatcher makes both when it starts.",
        )


def read_certificate(key: Path) -> str:
    """The certificate of a key, as PEM; ConfigError if there is none yet."""
    path = certificate_of(key)
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[sessions] key: the certificate {path} can't be read.",
            hint="The dispatcher makes it when it starts.",
        ) from error


def _make(key: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + _LIFETIME)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_atomically(
            certificate_of(key), certificate.public_bytes(serialization.Encoding.PEM), mode=0o644
        )
        write_atomically(key, pem, mode=0o600)
    except OSError as error:
        raise ConfigError(f"[sessions] key: {key} can't be written: {error.strerror}.") from error
