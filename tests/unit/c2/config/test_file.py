"""C2's configuration file: defaults, and words for what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qslurm.c2.config.file import backend_of, load_c2_config, parse_c2_config, partition_of
from qslurm.errors import ConfigError


def test_an_empty_file_gives_the_documented_defaults() -> None:
    config = parse_c2_config("")
    assert config.slurm.conf == "/etc/slurm/slurm.conf"
    assert config.jobmanager.listen == "127.0.0.1:8042"
    assert config.backend == []


def test_every_section_is_read() -> None:
    config = parse_c2_config(
        """
        [slurm]
        user_prefix = "c_"
        [dispatcher]
        execution_limit_s = 60
        [[backend]]
        name = "qx"
        [gate]
        interval_s = 0.5
        [tokens]
        max_lifetime = "30d"
        """
    )
    assert (config.slurm.user_prefix, config.dispatcher.execution_limit_s) == ("c_", 60)
    assert [backend.name for backend in config.backend] == ["qx"]
    assert (config.gate.interval_s, config.tokens.max_lifetime) == (0.5, "30d")


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("[dispatcher]\nsokcet = 'x'", "dispatcher.sokcet", "'socket'"),
        ("[[backend]]\nname='a'\nqbits = 3", "backend.qbits", "'qubits'"),
        ("[[backend]]\nname='a'\nwieghts = {lumi = 2}", "backend.wieghts", "'weights'"),
        ("[gates]\n", "gates", "'gate'"),
        ("[gate]\nzzz = 1", "gate.zzz", "admit_timeout_s"),
    ],
)
def test_a_typo_names_the_key_and_the_nearest_valid_one(text: str, key: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_c2_config(text)
    assert key in caught.value.message
    assert near in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[slurm", "not valid TOML"),
        ("[[backend]]\nqubits = 3", "name"),
        ("[gate]\ninterval_s = 'soon'", "interval_s"),
        ("[gate]\ninterval_s = 0", "interval_s"),
        ("[gate]\nforgotten_s = 0", "gate.forgotten_s: expected `float` >= 1.0"),
        ("[[backend]]\nname='a'\nqubits = 0", "qubits"),
        ("[[backend]]\nname='a'\nworkers = -1", "workers"),
        ("[[backend]]\nname='a'\nhalf_life_s = 0", "half_life_s"),
        ("[[backend]]\nname='a'\nsession_idle_s = -1", "session_idle_s"),
        ("[[backend]]\nname='a'\nsession_max_s = nan", "session_max_s"),
        ("[[backend]]\nname='a'\nqpu_limit_s = inf", "qpu_limit_s"),
        ("[[backend]]\nname='a'\nweights = {lumi = 0}", "weights"),
        ("[dispatcher]\nexecution_limit_s = 0", "execution_limit_s"),
        ("[remote]\nbeat_s = 0", "beat_s"),
        ("[remote]\ngrace_s = 86401", "grace_s"),
        ("[runtimes]\nwarm = 257", "warm"),
        ("[runtimes]\ntmp_mb = 0", "tmp_mb"),
        ("[[backend]]\nname='a'\n[[backend]]\nname='a'", "duplicate"),
        ("slurm = 3", "slurm"),
        ("backend = [1]", "backend"),
    ],
)
def test_nonsense_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_c2_config(text)


def test_a_missing_file_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSLURM_C2_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="QSLURM_C2_CONFIG"):
        load_c2_config()


def test_the_file_named_in_the_call_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSLURM_C2_CONFIG", str(tmp_path / "none.toml"))
    (tmp_path / "c2.toml").write_text("[slurm]\nbin = '/opt/slurm/bin'")
    assert load_c2_config(tmp_path / "c2.toml").slurm.bin == "/opt/slurm/bin"


def test_a_partition_belongs_to_the_backend_in_its_name() -> None:
    assert partition_of("qx") == "p_qx"
    assert backend_of("p_qx") == "qx"
    assert backend_of("rome") == ""
