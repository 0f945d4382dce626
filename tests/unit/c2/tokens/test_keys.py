"""A center's key pair, the JWKS file, and the tokens signed with it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import jwt
import msgspec
import pytest

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.tokens.issue import issue_token, unknown_user_warning
from qslurm.c2.tokens.keys import check_center_name, create_key, list_keys, remove_key
from qslurm.errors import InvalidInputError, PermissionDeniedError, QslurmError


@pytest.fixture
def config(tmp_path: Path) -> TokensConfig:
    return TokensConfig(keys=str(tmp_path / "keys"), jwks=str(tmp_path / "jwks.json"), max_lifetime="90d")


@pytest.fixture
def lumi(key_pairs: Callable[..., TokensConfig]) -> TokensConfig:
    return key_pairs("lumi")


@pytest.fixture
def both(key_pairs: Callable[..., TokensConfig]) -> TokensConfig:
    return key_pairs("snellius", "lumi")


def jwks(config: TokensConfig) -> dict[str, dict[str, str]]:
    document = msgspec.json.decode(Path(config.jwks).read_bytes())
    return {key["kid"]: key for key in document["keys"]}


def test_a_key_is_private_and_its_public_half_is_published(config: TokensConfig) -> None:
    assert create_key(config, "snellius")
    assert stat.S_IMODE(Path(config.keys).stat().st_mode) == 0o700
    assert stat.S_IMODE((Path(config.keys) / "snellius.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(config.jwks).stat().st_mode) == 0o644
    entry = jwks(config)["snellius"]
    assert (entry["alg"], entry["kty"], entry["use"]) == ("RS256", "RSA", "sig")
    assert set(entry) == {"kid", "kty", "alg", "use", "n", "e"}


def test_asking_again_keeps_the_key_and_mends_a_lost_jwks_file(both: TokensConfig) -> None:
    before = jwks(both)
    Path(both.jwks).unlink()
    assert not create_key(both, "snellius")
    assert jwks(both) == before


def test_revoking_one_center_leaves_the_other_alone(both: TokensConfig) -> None:
    remove_key(both, "snellius")
    assert set(jwks(both)) == {"lumi"}
    assert [key.center for key in list_keys(both)] == ["lumi"]
    with pytest.raises(InvalidInputError, match="no key"):
        remove_key(both, "snellius")


def test_a_token_is_signed_by_its_centers_key_and_by_no_other(both: TokensConfig) -> None:
    issued = issue_token(both, "snellius", "30d", now=1_000_000)
    text, keys = issued.token.reveal(), jwks(both)
    assert jwt.get_unverified_header(text)["kid"] == "snellius"
    options = {"verify_exp": False}
    claims = jwt.decode(text, jwt.PyJWK(keys["snellius"]), algorithms=["RS256"], options=options)  # type: ignore[arg-type]
    assert claims == {"sun": "center_snellius", "iat": 1_000_000, "exp": 1_000_000 + 30 * 86400}
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(text, jwt.PyJWK(keys["lumi"]), algorithms=["RS256"], options=options)  # type: ignore[arg-type]


def test_a_center_without_a_key_is_told_what_to_type(lumi: TokensConfig) -> None:
    with pytest.raises(
        InvalidInputError, match=r"Centers with a key: lumi.*qslurm token key --center snellius"
    ):
        issue_token(lumi, "snellius", "30d")


@pytest.mark.parametrize("lifetime", ["91d", "59s", "999999999w"])
def test_a_lifetime_out_of_bounds_is_refused(lumi: TokensConfig, lifetime: str) -> None:
    with pytest.raises(InvalidInputError, match="max_lifetime"):
        issue_token(lumi, "lumi", lifetime)


@pytest.mark.parametrize("name", ["root", "slurm"])
def test_a_master_key_is_never_issued(lumi: TokensConfig, name: str) -> None:
    (Path(lumi.keys) / "lumi.pem").rename(Path(lumi.keys) / f"{name}.pem")
    with pytest.raises(PermissionDeniedError, match="every center"):
        issue_token(lumi, name, "1d", user_prefix="", masters=["slurm"])


@pytest.mark.parametrize("name", ["", "../x", "Snellius", "a b", "x" * 25, "a.pem", "-a", "é"])
def test_a_name_that_is_no_center_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        check_center_name(name)


def test_a_folder_of_keys_that_others_may_read_is_refused(lumi: TokensConfig) -> None:
    Path(lumi.keys).chmod(0o755)
    with pytest.raises(QslurmError, match="chmod 700"):
        issue_token(lumi, "lumi", "1d")


def test_a_private_key_that_others_may_read_is_refused(lumi: TokensConfig) -> None:
    (Path(lumi.keys) / "lumi.pem").chmod(0o644)
    with pytest.raises(QslurmError, match="readable by others"):
        issue_token(lumi, "lumi", "1d")


def test_a_damaged_key_is_named_and_the_published_keys_stay(lumi: TokensConfig) -> None:
    (Path(lumi.keys) / "lumi.pem").write_text("nonsense")
    with pytest.raises(QslurmError, match="damaged"):
        create_key(lumi, "snellius")
    assert set(jwks(lumi)) == {"lumi"}


def test_a_user_this_machine_does_not_know_is_worth_a_warning(lumi: TokensConfig) -> None:
    (Path(lumi.keys) / "lumi.pem").rename(Path(lumi.keys) / "nowhere.pem")
    issued = issue_token(lumi, "nowhere", "1d")
    assert "center_nowhere" in unknown_user_warning(issued.claims)
