"""Where settings come from, which of them wins, and what a mistake in them says."""

from __future__ import annotations

import base64
import json
import os
import time

import pytest

from qslurm.c1.config.center_config import load_config, load_token, require_url
from qslurm.c1.config.settings import settings
from qslurm.errors import ConfigError, TokenError
from qslurm.tokens.secret import Secret


def _token(**claims):
    parts = ({"alg": "RS256", "kid": "snellius"}, {"sun": "center_snellius", "iat": 1, **claims})
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, "c2lnbmF0dXJl"])


@pytest.fixture
def places(tmp_path):
    """The four places a setting may stand in: flags and environment are arguments, the two files are written."""

    class Places:
        system = tmp_path / "etc" / "config.toml"
        user = tmp_path / "home" / ".config" / "qslurm" / "config.toml"

        def write(self, file, text):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            return file

        def load(self, flags=None, **environ):
            environ = {"HOME": str(tmp_path / "home"), **environ}
            return load_config(flags, environ=environ, system_file=self.system)

    return Places()


def test_without_anything_there_are_defaults(places):
    config = places.load()
    assert (config.c2.api_version, config.c2.timeout_s, config.job.shots) == ("auto", 30.0, None)


def test_a_flag_wins_over_the_environment_over_the_users_file_over_the_centers(places):
    places.write(
        places.system, '[c2]\nurl = "http://system"\nuser = "system"\nresults_url = "http://system"\n'
    )
    assert places.load().c2.url == "http://system"
    places.write(places.user, '[c2]\nurl = "http://user"\nuser = "user"\n')
    config = places.load()
    assert (config.c2.url, config.c2.user, config.c2.results_url) == ("http://user", "user", "http://system")
    assert places.load(QSLURM_C2_URL="http://env").c2.url == "http://env"
    assert places.load({"url": "http://flag"}, QSLURM_C2_URL="http://env").c2.url == "http://flag"
    assert places.load({"url": None}, QSLURM_C2_URL="").c2.url == "http://user"


def test_the_named_file_is_read_instead_of_both(places, tmp_path):
    places.write(places.system, '[c2]\nurl = "http://system"\n')
    places.write(places.user, "not even toml")
    named = places.write(tmp_path / "mine.toml", '[job]\nbackend = "qx"\n')
    config = places.load(QSLURM_CONFIG=str(named))
    assert (config.c2.url, config.job.backend) == ("", "qx")


def test_the_papers_variables_are_enough(places):
    config = places.load(
        QSLURM_C2_URL="https://c2", QUSER="center_snellius", SLURM_JWT=_token(exp=int(time.time()) + 60)
    )
    assert config.c2.user == "center_snellius"
    assert load_token(config).reveal().startswith("eyJ")


@pytest.mark.parametrize("name", ["QSLURM_C2_URL", "QSLURM_RESULTS_URL"])
@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://c2", True),
        ("HTTP://c2:6820/slurm", True),
        ("http://10.0.0.7:6820", True),
        ("http://127.0.0.1.example.org", True),
        ("http://localhost.example.org", True),
        ("http://[fe80::1]:6820", True),
        ("https://c2", False),
        ("http://127.0.0.1:6820", False),
        ("http://127.8.0.1:6820", False),
        ("http://localhost:6820", False),
        ("http://[::1]:6820", False),
    ],
)
def test_a_token_leaves_this_host_by_tls_alone(places, name, url, refused):
    given = {"QSLURM_C2_URL": "https://c2", "SLURM_JWT": _token(exp=int(time.time()) + 60), name: url}
    load_token(places.load(**given, QSLURM_TLS="optional"))
    if refused:
        with pytest.raises(ConfigError, match="is not https: the token would be sent unencrypted"):
            load_token(places.load(**given))
    else:
        load_token(places.load(**given))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[c2]\nulr = "x"\n', "config.toml: unknown setting ulr under [c2]. Did you mean url?"),
        ("[jobs]\n", "config.toml: unknown section [jobs]. Did you mean [job]?"),
        ('url = "x"\n', "unknown section [url]. Move it under [c2]."),
        ("c2 = 3\n", "c2 must be a table"),
        ("[c2]\nurl = 3\n", "url under [c2]: expected `str`, got `int`"),
        ("[c2]\ntimeout_s = 0\n", "timeout_s under [c2]: "),
        ("[job]\nshots = -1\n", "shots under [job]: "),
        ("[c2]\nurl = \n", "Invalid TOML "),
        ("[job]\nflavour = 1\n", "Available: backend, shots, "),
        (
            "[agent.users.ann]\nmax_job = 1\n",
            "unknown setting max_job under [agent.users.ann]. Did you mean max_open_jobs?",
        ),
        ("[agent.users.ann]\nbackends = 1\n", "backends under [agent.users.ann]: expected "),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(text, said, places):
    places.write(places.user, text)
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert said in str(caught.value)


def test_a_named_file_must_be_there(places):
    with pytest.raises(ConfigError, match="not found"):
        places.load(QSLURM_CONFIG="/nowhere/config.toml")


def test_a_missing_url_says_the_three_ways_to_give_it(places):
    with pytest.raises(ConfigError) as caught:
        require_url(places.load())
    for way in ("QSLURM_C2_URL", "[c2]", "--url"):
        assert way in caught.value.hint


# --- the token


def test_a_missing_token_says_the_three_ways_to_give_it(places):
    with pytest.raises(TokenError) as caught:
        load_token(places.load())
    for way in ("QSLURM_TOKEN_FILE", "token_file", "SLURM_JWT"):
        assert way in caught.value.hint


def test_a_token_of_another_user_than_is_said_is_told_from_one_that_c2_refuses(places):
    with pytest.raises(TokenError, match="is for user center_snellius, but the configured user is ann"):
        load_token(places.load({"user": "ann"}, SLURM_JWT=_token()))


def test_an_expired_token_is_refused_before_anything_is_sent(places):
    with pytest.raises(TokenError, match="expired"):
        load_token(places.load(SLURM_JWT=_token(exp=int(time.time()) - 7200)))


def test_a_token_comes_from_its_file(places, tmp_path):
    file = tmp_path / "token"
    file.write_text(_token() + "\n")
    file.chmod(0o600)
    assert load_token(places.load(QSLURM_TOKEN_FILE=str(file))) == Secret(_token())


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o604, 0o660])
def test_a_token_that_others_can_read_is_refused(mode, places, tmp_path):
    file = tmp_path / "token"
    file.write_text(_token())
    file.chmod(mode)
    with pytest.raises(TokenError, match="chmod 600"):
        load_token(places.load(QSLURM_TOKEN_FILE=str(file)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_token_of_somebody_else_is_refused(places, tmp_path):
    file = tmp_path / "token"
    file.write_text(_token())
    file.chmod(0o600)
    os.chown(file, 65534, 65534)
    with pytest.raises(TokenError, match="another user"):
        load_token(places.load(QSLURM_TOKEN_FILE=str(file)))


def test_a_token_file_from_a_flag_wins_over_the_environments_token(places, tmp_path):
    file = tmp_path / "token"
    file.write_text(_token(iat=2))
    file.chmod(0o600)
    config = places.load({"token_file": str(file)}, SLURM_JWT=_token(iat=3))
    assert load_token(config) == Secret(_token(iat=2))


def test_no_setting_shows_the_token(places):
    token = _token()
    config = places.load(SLURM_JWT=token)
    assert token not in repr(config) + str(config)


# --- documentation is made from the table


def test_every_setting_says_what_it_is():
    told = list(settings())
    assert len({setting.name for setting in told}) == len(told), "flags go by a setting's name alone"
    for setting in told:
        assert setting.doc.endswith(".")
        assert setting.example is not None
    assert {"QSLURM_C2_URL", "QUSER", "QSLURM_TOKEN_FILE", "QSLURM_API_VERSION", "QSLURM_RESULTS_URL"} <= {
        setting.env for setting in told
    }


@pytest.mark.parametrize("setting", [one for one in settings() if one.env])
def test_a_variable_that_is_no_text_is_refused_unless_it_names_a_file(setting, tmp_path):
    environ = {setting.env: "c2\udce9", "HOME": str(tmp_path)}
    if setting.name in ("token_file", "ca_file", "socket"):
        load_config({}, environ=environ, system_file=tmp_path / "none")
        return
    with pytest.raises(ConfigError):
        load_config({}, environ=environ, system_file=tmp_path / "none")
