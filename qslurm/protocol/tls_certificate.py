"""The key and self-signed certificate of the dispatcher's TLS socket for sessions.

No authority signs it: clients get the certificate itself from the job manager, over HTTPS.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qslurm.errors import ConfigError
from qslurm.system.atomic_file import write_atomically

_LIFETIME = timedelta(days=3650)
_CLOCK_SKEW = timedelta(days=2)  # a center's clock may be behind
_NAME = "qslurm session"


def certificate_path(key: Path) -> Path:
    """The path of a key's certificate: beside the key, readable by all users."""
    return key.with_suffix(".crt")


def ensure_certificate(key: Path) -> None:
    """Create key and certificate if there are none. ConfigError if that fails, or other users can read the key."""
    if not key.exists():
        _create(key)
    facts = key.stat()
    if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & 0o077:
        raise ConfigError(
            f"[sessions] key: {key} has mode {stat.S_IMODE(facts.st_mode):04o}; other users can read it.",
            hint=f"Remove it and {certificate_path(key)}; the dispatcher creates new ones when it starts.",
        )
    if not certificate_path(key).exists():
        raise ConfigError(
            f"[sessions] key: its certificate {certificate_path(key)} is missing.",
            hint=f"Remove {key}, too; the dispatcher creates both when it starts.",
        )


def read_certificate(key: Path) -> str:
    """The certificate of a key, as PEM; ConfigError if it can't be read."""
    path = certificate_path(key)
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[sessions] key: cannot read the certificate {path}.",
            hint="The dispatcher creates it when it starts.",
        ) from error


def _create(key: Path) -> None:
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
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_atomically(
            certificate_path(key), certificate.public_bytes(serialization.Encoding.PEM), mode=0o644
        )
        write_atomically(key, pem, mode=0o600)
    except OSError as error:
        raise ConfigError(f"[sessions] key: cannot write {key}: {error.strerror}.") from error
