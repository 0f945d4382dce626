"""Whose token is this? Everything a center, or somebody who is none, may try."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.jobmanager.authentication import Keyring, verify
from qslurm.c2.tokens.issue import issue_token
from qslurm.c2.tokens.keys import private_key
from qslurm.errors import QslurmError, TokenError

NOW = 1_800_000_000


def sign(keys: TokensConfig, signer: str, claims: dict[str, Any], **header: Any) -> str:
    key = private_key(keys, signer)
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": signer} | header)


@pytest.fixture
def keyring(keys: TokensConfig) -> Keyring:
    return Keyring(keys.jwks)


def test_a_centers_own_token_says_which_center_it_is(keys: TokensConfig, keyring: Keyring) -> None:
    token = issue_token(keys, "snellius", "1h", now=NOW).token.reveal()
    assert verify(token, keyring, "center_", NOW + 1) == "snellius"
    assert (
        verify(sign(keys, "lumi", {"username": "center_lumi", "exp": NOW + 1}), keyring, "center_", NOW)
        == "lumi"
    )


def test_an_expired_token_is_told_when_it_ended(keys: TokensConfig, keyring: Keyring) -> None:
    token = issue_token(keys, "snellius", "1h", now=NOW).token.reveal()
    with pytest.raises(TokenError, match="expired 1 hour ago"):
        verify(token, keyring, "center_", NOW + 7200)


@pytest.mark.parametrize(
    ("claims", "header", "words"),
    [
        ({"sun": "center_snellius", "exp": NOW + 60}, {}, "not issued to your center by this C2"),
        ({"sun": "center_snellius", "exp": NOW + 60}, {"kid": "snellius"}, "not issued to your center"),
        ({"sun": "center_lumi", "exp": NOW + 60}, {"kid": "unknown"}, "not issued to your center"),
        ({"sun": "center_lumi"}, {}, "never expires"),
        ({"sun": "root", "exp": NOW + 60}, {}, "does not belong to a center"),
        ({"sun": "center_", "exp": NOW + 60}, {}, "does not belong to a center"),
        ({"sun": "lumi", "exp": NOW + 60}, {}, "does not belong to a center"),
        ({"sun": "center_lumi", "exp": NOW + 0.5}, {}, "whole number"),
    ],
)
def test_lumis_key_signs_for_nobody_but_lumi(
    keys: TokensConfig, keyring: Keyring, claims: dict[str, Any], header: dict[str, Any], words: str
) -> None:
    with pytest.raises(TokenError, match=words):
        verify(sign(keys, "lumi", claims, **header), keyring, "center_", NOW)


def test_an_unsigned_or_altered_token_is_refused(keys: TokensConfig, keyring: Keyring) -> None:
    token = issue_token(keys, "lumi", "1h", now=NOW).token.reveal()
    head, body, signature = token.split(".")
    unsigned = jwt.encode(
        {"sun": "center_lumi", "exp": NOW + 60}, "", algorithm="none", headers={"kid": "lumi"}
    )
    forged = (
        base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b"lumi", b"iuml"))
        .decode()
        .rstrip("=")
    )
    for bad in (
        unsigned,
        f"{head}.{forged}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        "",
    ):
        with pytest.raises(TokenError):
            verify(bad, keyring, "center_", NOW)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_public_key_is_no_shared_secret(keys: TokensConfig, tmp_path: Path) -> None:
    public = private_key(keys, "lumi").public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    shared = tmp_path / "hs256"
    shared.write_bytes(b"another key that is long enough for sha-256")
    body = {"sun": "center_lumi", "exp": NOW + 60}
    text = jwt.encode(body, "x" * 40, algorithm="HS256", headers={"kid": "lumi"}).rsplit(".", 1)[0]
    import hashlib
    import hmac

    signature = (
        base64.urlsafe_b64encode(hmac.new(pem, text.encode(), hashlib.sha256).digest()).decode().rstrip("=")
    )
    for keyring in (Keyring(keys.jwks), Keyring(keys.jwks, hs256_key=shared)):
        with pytest.raises(TokenError, match="not issued"):
            verify(f"{text}.{signature}", keyring, "center_", NOW)


def test_a_shared_key_works_only_when_it_is_configured(keys: TokensConfig, tmp_path: Path) -> None:
    shared = tmp_path / "hs256"
    shared.write_bytes(b"a shared key that is long enough for sha-256")
    token = jwt.encode({"sun": "center_lumi", "exp": NOW + 60}, shared.read_bytes(), algorithm="HS256")
    assert verify(token, Keyring(keys.jwks, hs256_key=shared), "center_", NOW) == "lumi"
    with pytest.raises(TokenError):
        verify(token, Keyring(keys.jwks), "center_", NOW)


@pytest.mark.parametrize(
    "content", [None, "", "{", '{"keys": 3}', '{"keys": [{"kid": "lumi", "alg": "RS256"}]}']
)
def test_a_lost_or_damaged_key_file_lets_nobody_in(
    keys: TokensConfig, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "damaged.json"
    if content is not None:
        path.write_text(content)
    token = issue_token(keys, "lumi", "1h", now=NOW).token.reveal()
    with pytest.raises(QslurmError, match="Cannot read"):
        verify(token, Keyring(path), "center_", NOW)
