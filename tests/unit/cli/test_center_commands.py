"""A center's first configuration."""

from __future__ import annotations

import json
import re
import stat
import tomllib

import pytest

from qslurm.c1.config.center_config import load_config
from qslurm.c1.config.new_file import config_text, toml
from qslurm.c1.config.platforms import load_platforms
from qslurm.c1.config.settings import PLATFORM_SECTIONS, C2Settings, settings, settings_of
from qslurm.cli.app import run

URL = "http://127.0.0.1:9/slurm"  # where nobody is


@pytest.fixture(autouse=True)
def shell(tmp_path, monkeypatch):
    """A user's shell, in which nothing is said."""
    for name in [setting.env for setting in settings()] + ["QSLURM_CONFIG", "SLURM_JWT"]:
        if name:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def read(path):
    return load_config(environ={"QSLURM_CONFIG": str(path)})


def test_every_setting_stands_there_with_its_meaning_and_works_when_it_is_uncommented(tmp_path):
    text = config_text({})
    for setting in settings():
        assert f"# {setting.doc}" in text
        assert not setting.env or f"[{setting.env}]" in text
    assert tomllib.loads(text) == {"c2": {}, "job": {}, "agent": {}}
    path = tmp_path / "all.toml"
    path.write_text(
        re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE).replace("platform =", "#platform =")
    )
    config = read(path)
    for setting in settings():
        if setting.name not in ("platform", "users"):
            assert getattr(getattr(config, setting.section), setting.name) == setting.example
    assert config.agent.users["ann"].max_open_jobs == 500


def test_what_was_said_is_set_and_all_else_as_it_would_be(tmp_path, capsys):
    path = tmp_path / "new" / "config.toml"
    words = ["center", "init", "--file", str(path), "--url", URL, "--user", "center_a", "--backend", "qx"]
    assert run([*words, "--timeout-s", "5", "--set", "job.shots=7", "--set", "agent.state=/x", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    config = read(path)
    assert (config.c2.url, config.c2.user, config.c2.timeout_s) == (URL, "center_a", 5)
    assert (config.job.backend, config.job.shots, config.agent.state) == ("qx", 7, "/x")
    assert config.c2.token_file == str(path.parent / "token")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert document["file"] == str(path)
    assert document["next"][0].startswith(f"qslurm token install --file {path.parent}/token")
    assert document["next"][-1].startswith(f"QSLURM_CONFIG={path} qslurm doctor")
    assert ("token", "fail") in [(one["name"], one["state"]) for one in document["findings"]]


def test_a_user_gets_one_at_home_and_root_gets_the_centers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run(["center", "init", "--url", URL, "--no-check"]) == 0
    path = tmp_path / "home" / ".config" / "qslurm" / "config.toml"
    assert f"Written: {path}" in capsys.readouterr().out
    assert read(path).c2.url == URL
    from qslurm.cli.center_commands import default_config_file

    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert str(default_config_file()) == "/etc/qslurm/config.toml"


def test_with_an_agent_the_token_is_the_agents(tmp_path, capsys):
    path = tmp_path / "config.toml"
    assert run(["center", "init", "--file", str(path), "--url", URL, "--agent", str(tmp_path / "sock")]) == 0
    said = capsys.readouterr().out
    assert read(path).c2.token_file == "/var/lib/qslurm-agent/token"
    assert "systemctl enable --now qslurm-agent" in said
    assert "did not answer" in said


def test_a_further_platform_has_all_its_settings_explained_and_is_checked(tmp_path, capsys):
    path = tmp_path / "config.toml"
    words = ["center", "init", "--file", str(path), "--url", URL, "--platform", f"tuna={URL}/tuna"]
    more = [
        "platform.tuna.agent.socket=/x/sock",
        "platform.tuna.job.shots=7",
        "platform.far.agent.address=127.0.0.1:9",
    ]
    assert run([*words, *(word for one in more for word in ("--set", one)), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    platforms = load_platforms(environ={"QSLURM_CONFIG": str(path)})
    assert platforms.names == ("c2", "tuna", "far")
    tuna, far = platforms.config("tuna"), platforms.config("far")
    assert (tuna.c2.url, tuna.agent.socket, tuna.job.shots) == (f"{URL}/tuna", "/x/sock", 7)
    assert tuna.c2.token_file == "/var/lib/qslurm-agent-tuna/token"
    assert (far.agent.address, far.c2.token_file) == ("127.0.0.1:9", "")
    text = path.read_text().partition("[platform.tuna]")[2].partition("[platform.far]")[0]
    for table, struct in PLATFORM_SECTIONS.items():
        for setting in settings_of(table, struct):
            assert f"# {setting.doc}" in text
    assert "QSLURM_" not in text  # the environment is about the usual one
    assert "tuna: slurmrestd" in [one["name"] for one in document["findings"]]
    assert "systemctl enable --now qslurm-agent@tuna, on one host of the center" in document["next"]
    (tmp_path / "all.toml").write_text(re.sub(r"^#(?=[a-z_]+ = )", "", path.read_text(), flags=re.MULTILINE))
    everything = load_platforms(
        environ={"QSLURM_CONFIG": str(tmp_path / "all.toml"), "QSLURM_PLATFORM": "tuna"}
    )
    assert len({everything.config(name).agent.state for name in ("c2", "tuna", "far")}) == 3


def test_there_need_be_no_first_platform_and_an_example_shows_how_to_add_one(tmp_path):
    path = tmp_path / "config.toml"
    assert run(["center", "init", "--file", str(path), "--platform", f"tuna={URL}", "--no-check"]) == 0
    assert load_platforms(environ={"QSLURM_CONFIG": str(path)}).names == ("tuna",)
    example = config_text({}).partition("# [platform.tuna]\n")[2]
    assert set(tomllib.loads(re.sub("^# ", "", example, flags=re.MULTILINE))) <= set(
        C2Settings.__struct_fields__
    )


def test_what_is_there_is_kept_unless_force_is_said(tmp_path, capsys):
    path = tmp_path / "config.toml"
    path.write_text("# mine\n")
    words = ["center", "init", "--file", str(path), "--url", URL, "--no-check"]
    assert run(words) == 2
    assert "already" in capsys.readouterr().err
    assert path.read_text() == "# mine\n"
    assert run([*words, "--force"]) == 0
    assert read(path).c2.url == URL


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "No URL given for C2"),
        (["--url", "c2.example.org"], "Invalid C2 URL"),
        (["--url", "https://u:p@c2.example.org"], "contains a user name or password"),
        (["--url", URL, "--results-url", "ftp://x"], "Invalid C2 URL"),
        (["--url", URL, "--pinned-key", "sha256//x"], "Invalid pinned_key"),
        (["--url", URL, "--set", "agent.max_open_job=3"], "Did you mean max_open_jobs?"),
        (["--url", URL, "--set", "agent.max_open_jobs=many"], "max_open_jobs under [agent]: expected"),
        (["--url", URL, "--set", "agents.socket=x"], "Invalid setting"),
        (["--url", URL, "--set", "socket"], "Invalid setting"),
        (["--url", URL, "--platform", "tuna"], "Invalid platform 'tuna'"),
        (["--url", URL, "--platform", f"2x={URL}"], "invalid platform name '2x'"),
        (["--url", URL, "--platform", f"c2={URL}"], "and [c2] are the same platform"),
        (["--url", URL, "--platform", "tuna=tuna.org"], "Invalid C2 URL"),
        (["--url", URL, "--set", "platform.tuna.job.shots=7"], "No URL given for platform tuna"),
        (["--url", URL, "--set", "platform.tuna.jobs.shots=7"], "Invalid setting"),
        (["--url", URL, "--platform", f"tuna={URL}", "--set", "platform.tuna.urll=x"], "Did you mean url?"),
        (["--agent", "/x/a", "--set", "platform.tuna.agent.socket=/x/a"], "have the same socket"),
        (["--url", URL, "--timeout-s", "-1"], "timeout_s under [c2]: expected"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(words, said, tmp_path, capsys):
    path = tmp_path / "config.toml"
    assert run(["center", "init", "--file", str(path), *words]) == 2
    assert said in capsys.readouterr().err
    assert not path.exists()


def test_a_folder_that_can_not_be_written_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(["center", "init", "--file", str(tmp_path / "file" / "c.toml"), "--url", URL]) == 2
    assert "Cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value",
    ["", 'a"b\\c\n\x7f\x1f', "é\U0001f600", 7, 1.5, True, ["a", "b"], [], {"ann": {"max_open_jobs": 3}}],
)
def test_values_are_written_as_toml_reads_them(value):
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value
