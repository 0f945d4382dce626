"""What operators and center admins type about renewals."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from qslurm.c2.tokens.renewal_terms import RenewalTerms, read_terms
from qslurm.cli.app import run

DAY = 86400


@pytest.fixture
def c2(key_pairs, tmp_path, monkeypatch):
    """An operator's C2 with two centers; its tokens' configuration."""
    config = key_pairs("snellius", "lumi")
    path = tmp_path / "c2.toml"
    path.write_text(f'[tokens]\nkeys = "{config.keys}"\njwks = "{config.jwks}"\nrenewable = "100d"\n')
    monkeypatch.setenv("QSLURM_C2_CONFIG", str(path))
    return config


def renewal(capsys, *words):
    assert run(["token", "renewal", "--center", "snellius", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_operator_allows_renewals_and_stops_them(c2, capsys):
    assert renewal(capsys) == {"center": "snellius", "allowed": False, "until": None, "lifetime": "30d"}
    said = renewal(capsys, "--for", "90d", "--lifetime", "7d")
    assert abs(said["until"] - time.time() - 90 * DAY) < 3600
    assert (said["allowed"], said["lifetime"]) == (True, "7d")
    assert read_terms(c2, "snellius") == RenewalTerms(said["until"], "7d")
    assert read_terms(c2, "lumi") == RenewalTerms()
    dated = renewal(capsys, "--until", "2040-06-30")["until"]
    assert abs(dated - time.mktime((2040, 6, 30, 0, 0, 0, 0, 0, 0))) <= 2 * 3600
    assert renewal(capsys, "--stop") == {
        "center": "snellius",
        "allowed": False,
        "until": None,
        "lifetime": "7d",
    }


def test_issuing_a_token_allows_renewals_anew_unless_never_is_said(c2, capsys, tmp_path):
    token = str(tmp_path / "token")
    words = ["token", "issue", "--center", "snellius", "--lifetime", "1h", "-o", token]
    assert run(words) == 0
    assert "can be renewed until" in capsys.readouterr().err
    assert abs(read_terms(c2, "snellius").until - time.time() - 100 * DAY) < 3600
    assert run([*words, "--renewable", "never"]) == 0
    assert "cannot be renewed" in capsys.readouterr().err
    assert read_terms(c2, "snellius") == RenewalTerms()
    assert run(["token", "keys"]) == 0
    assert "RENEWABLE UNTIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--center", "tulip"], "has no key"),
        (["--center", "../x"], "Invalid center name"),
        (["--center", "snellius", "--for", "3 months"], "Invalid lifetime"),
        (["--center", "snellius", "--lifetime", "0d"], "Invalid lifetime"),
        (["--center", "snellius", "--until", "soon"], "does not match"),
        (
            ["--center", "snellius", "--stop", "--for", "1d"],
            "--for, --until and --stop are mutually exclusive",
        ),
    ],
)
def test_bad_input_of_an_operator_is_a_sentence(c2, capsys, words, said):
    assert run(["token", "renewal", *words]) == 2
    assert said in capsys.readouterr().err
    assert read_terms(c2, "snellius") == RenewalTerms()


def test_a_service_without_a_socket_is_not_served(c2, capsys):
    assert run(["token", "serve"]) == 2
    assert "[tokens] socket is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({}, 2, "No token file given"),
        ({"SLURM_JWT": "a.b.c"}, 2, "from the environment"),
        ({"QSLURM_TOKEN_FILE": "/nonexistent"}, 4, "Token file"),
    ],
)
def test_bad_input_of_an_admin_is_a_sentence(tmp_path, monkeypatch, capsys, environment, code, said):
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    for name in ("SLURM_JWT", "QSLURM_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(["token", "renew"]) == code
    assert said in capsys.readouterr().err


def test_without_an_agent_there_is_no_status_of_it(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    assert run(["agent", "status"]) == 2
    assert "No agent configured" in capsys.readouterr().err
