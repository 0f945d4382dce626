"""Key files, and the folder of keys that are allowed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig, RemoteConfig
from qslurm.c2.dispatcher.dispatcher_service import check_config
from qslurm.cli.app import qslurm
from qslurm.errors import ConfigError, InvalidInputError
from qslurm.protocol.curve.allowed_keys import AllowedKeys, KeyOwner
from qslurm.protocol.curve.key_files import make_keys, read_keys, read_public


def test_keys_are_made_once_and_the_secret_one_is_its_owner_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "lab.key"
    done = CliRunner().invoke(qslurm, ["runtimes", "keygen", str(file)])
    assert done.exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    pair = read_keys(file)
    assert read_public(tmp_path / "lab.pub") == pair.public
    assert pair.public.decode() in done.output
    assert pair.secret.decode() not in done.output + repr(pair)
    with pytest.raises(InvalidInputError, match="exists"):
        make_keys(file)
    assert read_keys(file) == pair


def test_files_that_are_no_keys_or_not_safe_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "lab.key"
    with pytest.raises(ConfigError, match="keygen"):
        read_keys(file)
    for text in ("", "x" * 39, "x" * 41, "\0" * 40):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match="has no key"):
            read_keys(file)
    file.unlink()
    make_keys(file)
    for mode in (0o644, 0o640, 0o602):
        file.chmod(mode)
        with pytest.raises(ConfigError, match="other users can read it"):
            read_keys(file)
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_keys(file)


def test_the_folder_says_who_is_allowed_and_what_can_not_be_trusted_allows_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = AllowedKeys(tmp_path)
    allowed.reload()
    assert allowed.keys == {}
    (tmp_path / "spin2").mkdir()
    pair = make_keys(tmp_path / "spin2" / "lab.key")
    other = make_keys(tmp_path / "spin2" / "open.key")
    (tmp_path / "spin2" / "open.pub").chmod(0o666)
    with caplog.at_level(logging.WARNING):
        allowed.reload()
        allowed.reload()
    assert allowed.keys == {pair.public: KeyOwner("spin2", "lab")}
    assert caplog.text.count("key ignored") == 1
    (tmp_path / "spin2" / "open.pub").chmod(0o644)
    (tmp_path / "spin2" / "lab.pub").unlink()
    allowed.reload()
    assert allowed.keys == {other.public: KeyOwner("spin2", "open")}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"listen": "ipc:///x"}, "listen"),
        ({"grace_s": 1.0}, "grace_s"),
        ({"key": "/nowhere/key"}, "nowhere"),
    ],
)
def test_settings_that_can_not_work_are_named(tmp_path: Path, change: dict[str, object], word: str) -> None:
    make_keys(tmp_path / "key")
    remote = {"listen": "tcp://127.0.0.1:4210", "key": str(tmp_path / "key"), **change}
    with pytest.raises(ConfigError, match=word):
        check_config(
            DispatcherConfig(socket="/run/d"),
            [BackendConfig(name="qx", workers=0, remote=1)],
            RemoteConfig(**remote),  # type: ignore[arg-type]
        )


def test_places_on_other_hosts_need_a_listener_and_a_device_that_one_process_holds_has_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="listen is not set"):
        check_config(DispatcherConfig(socket="/run/d"), [BackendConfig(name="qx", remote=1)])
    make_keys(tmp_path / "key")
    backend = BackendConfig(name="spin2", runtime="hardware", remote=1, options={"host": "x"})
    with pytest.raises(ConfigError, match="must be at most 1"):
        check_config(
            DispatcherConfig(socket="/run/d"),
            [backend],
            RemoteConfig(listen="tcp://127.0.0.1:1", key=str(tmp_path / "key")),
        )
