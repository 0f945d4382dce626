"""Keys and tokens until the project's own commands make them."""

from __future__ import annotations

import base64
import json
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from testbed.layout import Layout, write


def key(layout: Layout, center: str) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write(layout.keys / f"{center}.pem", pem.decode(), mode=0o600)

    def number(value: int) -> str:
        return (
            base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            .rstrip(b"=")
            .decode()
        )

    public = private.public_key().public_numbers()
    jwks = json.loads(layout.jwks.read_text()) if layout.jwks.exists() else {"keys": []}
    jwks["keys"] = [one for one in jwks["keys"] if one["kid"] != center]
    jwks["keys"].append(
        {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": center,
            "n": number(public.n),
            "e": number(public.e),
        }
    )
    write(layout.jwks, json.dumps(jwks))


def issue(layout: Layout, center: str) -> str:
    now = int(time.time())
    pem = (layout.keys / f"{center}.pem").read_text()
    return jwt.encode(
        {"sun": f"center_{center}", "iat": now, "exp": now + 30 * 86400},
        pem,
        algorithm="RS256",
        headers={"kid": center},
    )
