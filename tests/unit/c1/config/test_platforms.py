"""Several platforms in one configuration: which is meant, what holds for it, and what never crosses to another."""

from __future__ import annotations

import pytest

from qslurm.c1.config.center_config import load_config, load_token, require_url
from qslurm.c1.config.platforms import load_platforms
from qslurm.errors import ConfigError, TokenError

TWO = """
[c2]
url = "http://c2"
token_file = "/etc/qslurm/token"
[job]
shots = 100
account = "snellius"
[platform.tuna]
url = "http://tuna"
user = "center_a"
[platform.tuna.job]
account = "center_a"
[platform.tuna.agent]
socket = "/run/tuna.sock"
"""


@pytest.fixture
def load(tmp_path):
    """Loads what a file says, beside flags and environment."""

    def load(text=TWO, flags=None, **environ):
        file = tmp_path / "config.toml"
        file.write_text(text)
        return load_platforms(flags, environ={"HOME": "/", "QSLURM_CONFIG": str(file), **environ})

    return load


def test_the_simple_way_is_one_platform_of_which_nobody_needs_the_name(load):
    found = load('[c2]\nurl = "http://c2"\n')
    assert found.names == ("c2",)
    assert (found.config().c2.url, found.config().prefix) == ("http://c2", "")


def test_each_platform_has_settings_of_its_own_and_shares_those_of_jobs(load):
    found = load()
    assert found.names == ("c2", "tuna")
    tuna = found.config("tuna")
    assert (tuna.c2.url, tuna.c2.token_file, tuna.agent.socket) == ("http://tuna", "", "/run/tuna.sock")
    assert (tuna.job.shots, tuna.job.account, found.config("c2").job.account) == (100, "center_a", "snellius")
    assert found.config("c2").agent.socket == ""
    assert tuna.agent.state != found.config("c2").agent.state, "two agents never share an outbox"


@pytest.mark.parametrize(
    ("text", "flags", "environ", "meant", "prefix"),
    [
        (TWO, {}, {}, "c2", ""),
        (TWO, {"platform": "tuna"}, {}, "tuna", "tuna:"),
        (TWO, {}, {"QSLURM_PLATFORM": "tuna"}, "tuna", ""),
        (TWO, {"platform": "c2"}, {"QSLURM_PLATFORM": "tuna"}, "c2", "c2:"),
        (TWO.replace("[job]", '[job]\nplatform = "tuna"'), {}, {}, "tuna", ""),
        (TWO.replace("[job]", '[job]\nplatform = "tuna"'), {}, {"QSLURM_PLATFORM": "c2"}, "c2", ""),
        ('[platform.tuna]\nurl = "http://tuna"', {}, {}, "tuna", ""),
    ],
)
def test_a_flag_names_a_platform_before_the_environment_before_the_files(
    text, flags, environ, meant, prefix, load
):
    config = load(text, flags, **environ).config()
    assert (config.platform, config.prefix) == (meant, prefix)


def test_of_several_none_is_taken_by_chance(load):
    found = load('[platform.a]\nurl = "http://a"\n[platform.b]\nurl = "http://b"\n')
    assert found.wanted == ("a", "b")
    with pytest.raises(ConfigError, match=r"No platform given.*--platform NAME \(configured: a, b\)"):
        found.config()
    assert found.config("b").prefix == "b:"


@pytest.mark.parametrize(
    ("flags", "environ", "wanted"),
    [
        ({}, {}, ("c2", "tuna")),
        ({"platform": "tuna"}, {}, ("tuna",)),
        ({}, {"QSLURM_PLATFORM": "tuna"}, ("tuna",)),
        ({"url": "http://x"}, {}, ("c2",)),
    ],
)
def test_who_names_no_platform_looks_at_all(flags, environ, wanted, load):
    assert load(TWO, flags, **environ).wanted == wanted


def test_the_environments_token_goes_to_the_platform_that_it_is_for(load):
    given = {"SLURM_JWT": "not.for.everybody", "QSLURM_C2_URL": "http://env", "QUSER": "me"}
    found = load(**given)
    assert found.config("c2").token is not None
    assert (found.config("c2").c2.url, found.config("c2").c2.user) == ("http://env", "me")
    tuna = found.config("tuna")
    assert (tuna.token, tuna.c2.url, tuna.c2.user) == (None, "http://tuna", "center_a")
    other = load(QSLURM_PLATFORM="tuna", **given)
    assert (other.config("c2").token, other.config("c2").c2.url) == (None, "http://c2")
    assert other.config("tuna").token is not None


def test_a_platform_that_the_environment_is_not_about_says_how_it_would_be(load):
    text = '[c2]\nurl = "http://c2"\n[platform.tuna]\nuser = "a"\n'
    config = load(text, {"platform": "tuna"}, SLURM_JWT="x", QSLURM_C2_URL="http://env").config()
    with pytest.raises(TokenError, match=r"platform tuna.*\[platform.tuna\].*QSLURM_PLATFORM=tuna"):
        load_token(config)
    with pytest.raises(
        ConfigError, match=r"No URL given for platform tuna.*\[platform.tuna\].*QSLURM_PLATFORM=tuna"
    ):
        require_url(config)


def test_a_flag_is_about_the_platform_beside_it(load):
    found = load(TWO, {"platform": "tuna", "url": "http://flag", "token_file": "/t"})
    assert (found.config("tuna").c2.url, found.config("tuna").has_own_token) == ("http://flag", True)
    assert (found.config("c2").c2.url, found.config("c2").has_own_token) == ("http://c2", False)


def test_jobs_that_go_to_a_platform_that_is_none_say_so_everywhere(load):
    found = load('[job]\nplatform = "tuba"\n[platform.tuna]\nurl = "x"\n')
    for ask in (lambda: found.wanted, found.config):
        with pytest.raises(ConfigError, match=r"Unknown platform 'tuba'\. Did you mean tuna"):
            ask()


def test_the_papers_variables_are_a_platform_beside_named_ones(load):
    found = load('[platform.a]\nurl = "x"\n[platform.b]\nurl = "y"\n', QSLURM_C2_URL="http://c2")
    assert found.names == ("c2", "a", "b")
    assert found.config().c2.url == "http://c2"


def test_the_users_file_adds_to_a_platform_of_the_centers(tmp_path):
    system = tmp_path / "system.toml"
    system.write_text('[platform.tuna]\nurl = "http://tuna"\nuser = "center_a"\n')
    own = tmp_path / ".config" / "qslurm" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text('[platform.tuna]\ntoken_file = "/home/me/token"\n')
    config = load_config(environ={"HOME": str(tmp_path)}, system_file=system)
    assert (config.c2.url, config.c2.token_file) == ("http://tuna", "/home/me/token")


@pytest.mark.parametrize("flags", [{"platform": "tuno"}, {}])
def test_an_unknown_platform_is_answered_with_the_nearest(flags, load):
    environ = {} if flags else {"QSLURM_PLATFORM": "tuno"}
    with pytest.raises(ConfigError, match=r"Unknown platform 'tuno'.*Did you mean tuna"):
        load(TWO, flags, **environ).config()
    with pytest.raises(ConfigError, match="Unknown platform 'tuno'"):
        _ = load(TWO, flags, **environ).wanted
    with pytest.raises(ConfigError, match="Available: c2, tuna"):
        load().config("spin")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[platform.tuna]\nulr = "x"\n', "unknown setting ulr under [platform.tuna]. Did you mean url?"),
        ("[platform.tuna]\ntimeout_s = 0\n", "timeout_s under [platform.tuna]: "),
        ("[platform.tuna.agent]\nsokcet = 1\n", "unknown setting sokcet under [platform.tuna.agent]."),
        ('[platform.tuna.job]\nplatform = "x"\n', "unknown setting platform under [platform.tuna.job]."),
        ('[platform]\nurl = "x"\n', "url is under [platform], which needs a platform's name. Move it under"),
        ('[platform.c2]\nurl = "x"\n', "[platform.c2] and [c2] are the same platform."),
        ('[platform."a:b"]\nurl = "x"\n', "invalid platform name 'a:b'."),
        ('[platfrom.tuna]\nurl = "x"\n', "unknown section [platfrom]. Did you mean [platform]?"),
        ('platform = "tuna"\n', "platform must be a table"),
        (
            '[agent]\nsocket = "/a"\n[platform.tuna.agent]\nsocket = "/a"\n',
            "[agent] and [platform.tuna.agent] have the same socket.",
        ),
    ],
)
def test_a_mistake_in_a_platform_is_named_with_its_place(text, said, load):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert said in str(caught.value)
