"""The token's file: written whole, and refused when others could read or change it."""

from __future__ import annotations

import grp
import os
import stat
import time
from pathlib import Path

import jwt
import pytest

from qslurm.errors import InvalidInputError, TokenError
from qslurm.tokens.claims import Claims
from qslurm.tokens.secret import Secret
from qslurm.tokens.token_check import check_token
from qslurm.tokens.token_file import FileToken, clean, install_token, read_token, replace_token

KEY = "a-key-that-is-long-enough-for-hmac-sha-256"


def token(seconds: int = 3600) -> str:
    now = int(time.time())
    return jwt.encode({"sun": "center_snellius", "iat": now, "exp": now + seconds}, KEY, algorithm="HS256")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_installed_token_is_read_back_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    text, path = token(), tmp_path / "deep" / "token"
    claims = install_token(f"  SLURM_JWT={text}\n", path)
    assert claims.user == "center_snellius"
    assert read_token(path).reveal() == text
    assert mode(path) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_a_group_may_be_given_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    install_token(token(), path, group=grp.getgrgid(os.getgid()).gr_name)
    assert mode(path) == 0o640
    assert read_token(path)


def test_an_unknown_group_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Unknown group"):
        install_token(token(), tmp_path / "token", group="no-such-group")
    assert not list(tmp_path.iterdir())


def test_installing_again_replaces_the_old_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    install_token(token(100), path)
    newer = token(200)
    install_token(newer, path)
    assert read_token(path).reveal() == newer


def test_an_expired_token_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="expired 1 hour ago"):
        install_token(token(-3600), tmp_path / "token")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [0o604, 0o644, 0o660, 0o620, 0o666, 0o777, 0o601])
def test_a_file_that_others_may_use_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, bad: int
) -> None:
    path = tmp_path / "token"
    install_token(token(), path)
    path.chmod(bad)
    with pytest.raises(TokenError) as caught:
        read_token(path)
    assert f"{bad:04o}" in caught.value.message
    assert f"chmod 600 {path}" in caught.value.hint


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="qslurm token install"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, make: object) -> None:
    path = tmp_path / "token"
    make(path)  # type: ignore[operator]
    path.chmod(0o600)
    with pytest.raises(TokenError, match="not a regular file"):
        read_token(path)


@pytest.mark.parametrize("text", ["", " \n", "two words", "SLURM_JWT="])
def test_no_token_in_the_text_is_a_token_error(text: str) -> None:
    with pytest.raises(TokenError):
        clean(text)


def test_check_tells_the_expiry_and_asks_c2_when_it_can(tmp_path: Path) -> None:
    asked: list[str] = []

    class Client:
        def ping(self) -> None:
            asked.append("ping")

    def connect(claims: Claims, token: Secret) -> Client:
        asked.append(claims.user)
        return Client()

    path = tmp_path / "token"
    install_token(token(30 * 86400 + 60), path)
    report = check_token(path, connect=connect)
    assert asked == ["center_snellius", "ping"]
    assert report.expiry.startswith("expires in 30 days, ")
    assert report.warnings == []
    assert "accepted for" in report.c2


def test_check_warns_in_the_last_week(tmp_path: Path) -> None:
    path = tmp_path / "token"
    install_token(token(86400 + 60), path)
    (warning,) = check_token(path).warnings
    assert "expires in 1 day" in warning


def test_check_refuses_an_expired_token_before_asking_c2(tmp_path: Path) -> None:
    def connect(claims: Claims, token: Secret) -> object:
        raise AssertionError("C2 was asked")

    path = tmp_path / "token"
    install_token(token(60), path)
    with pytest.raises(TokenError, match="expired"):
        check_token(path, connect=connect, now=time.time() + 61)  # type: ignore[arg-type]


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("topsecret")
    assert "topsecret" not in f"{secret} {secret!r} {secret!s} {[secret]} {secret:>20}"


def test_a_token_of_the_environment_is_checked_as_well() -> None:
    text = jwt.encode({"sun": "center_snellius", "exp": int(time.time()) + 99}, "k" * 32, algorithm="HS256")
    report = check_token(Secret(f" {text}\n"))
    assert (report.path, report.claims.user) == ("SLURM_JWT in the environment", "center_snellius")


def test_a_token_that_is_renewed_meanwhile_is_the_new_one_at_the_next_request(tmp_path: Path) -> None:
    path, old, new = tmp_path / "token", token(3600), token(7200)
    install_token(old, path)
    held = FileToken(path)
    assert held == Secret(old)
    replace_token(path, Secret(new))
    assert held.reveal() == new
    path.chmod(0o666)
    path.write_text("others wrote this")
    assert held.reveal() == new
    path.unlink()
    assert held.reveal() == new
    assert new not in repr(held)


def test_a_replaced_token_keeps_its_rights_and_a_link_its_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    old, new = token(3600), token(7200)
    install_token(old, tmp_path / "real" / "token")
    (tmp_path / "real" / "token").chmod(0o640)
    (tmp_path / "token").symlink_to(tmp_path / "real" / "token")
    replace_token(tmp_path / "token", Secret(new))
    assert (tmp_path / "token").is_symlink()
    assert mode(tmp_path / "real" / "token") == 0o640
    assert read_token(tmp_path / "token") == Secret(new)
    with pytest.raises(TokenError, match="Cannot replace"):
        replace_token(tmp_path / "none", Secret(new))
