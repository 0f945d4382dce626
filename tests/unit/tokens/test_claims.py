"""What a token says of itself, and what is no token."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import suppress

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import TokenError
from qslurm.tokens.claims import Claims, inspect

KEY = "a-key-that-is-long-enough-for-hmac-sha-256"


def token(claims: dict[str, object], **header: str) -> str:
    return jwt.encode(claims, KEY, algorithm="HS256", headers=header or None)


def test_a_token_says_whom_it_stands_for_and_until_when() -> None:
    text = token({"sun": "center_snellius", "iat": 1000, "exp": 2000}, kid="snellius")
    assert inspect(text) == Claims(
        user="center_snellius", issued=1000, expires=2000, key_id="snellius", algorithm="HS256"
    )


def test_the_older_claim_username_is_read_too() -> None:
    assert inspect(token({"username": "center_lumi", "exp": 5})).user == "center_lumi"


def test_it_ends_at_its_expiry_and_not_before() -> None:
    claims = inspect(token({"sun": "u", "exp": 2000}))
    assert not claims.expired(1999.9)
    assert claims.expired(2000)


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "a.b.c.d", "..", "ä.ö.ü", "A" * 20_000, "W10.W10.x"]
)
def test_what_is_no_token_is_a_sentence_that_does_not_quote_it(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        inspect(text)
    assert caught.value.hint
    assert len(caught.value.message) < 120


@pytest.mark.parametrize("claims", [{"exp": 5}, {"sun": 7, "exp": 5}, {"sun": "", "exp": 5}])
def test_a_token_for_nobody_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(TokenError, match="names no Slurm user"):
        inspect(token(claims))


@pytest.mark.parametrize("expires", ["5", True, 10**40])
def test_an_expiry_that_is_no_date_is_refused(expires: object) -> None:
    with pytest.raises(TokenError, match="exp"):
        inspect(token({"sun": "u", "exp": expires}))


@given(st.text())
def test_any_text_gives_claims_or_a_token_error(text: str) -> None:
    with suppress(TokenError):
        inspect(text)


@given(
    st.dictionaries(st.sampled_from(["sun", "exp", "iat", "username"]), st.none() | st.floats() | st.text())
)
def test_any_claims_give_claims_or_a_token_error(claims: dict[str, object]) -> None:
    part = urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=").decode()
    with suppress(TokenError):
        inspect(f"{part}.{part}.x")


def test_a_token_with_another_claim_is_for_whom_the_configuration_says() -> None:
    # AuthAltParameters=userclaimfield=… lets Slurm read another claim than sun
    assert (
        inspect(token({"preferred_username": "x", "exp": 5}), user="center_snellius").user
        == "center_snellius"
    )
    assert inspect(token({"sun": "center_lumi", "exp": 5}), user="center_snellius").user == "center_lumi"
