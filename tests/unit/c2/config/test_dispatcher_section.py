from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig, SessionsConfig
from qslurm.c2.dispatcher.dispatcher_service import check_config, check_sessions, serve
from qslurm.errors import ConfigError, QslurmError

QX = BackendConfig(name="qx")


def test_the_usual_configuration_is_fine(tmp_path: Path) -> None:
    check_config(DispatcherConfig(socket="/run/d.sock"), [QX])


@pytest.mark.parametrize(
    ("backends", "word"),
    [
        ([], "No backend"),
        ([QX, QX], "Duplicate"),
        ([BackendConfig(name="any")], "Invalid backend name"),
        ([BackendConfig(name="a", runtime="abacus")], "abacus"),
        ([BackendConfig(name="a", workers=0)], "workers"),
        ([BackendConfig(name="a", max_shots=10)], "default_shots"),
        ([BackendConfig(name="a", policy="fifi")], "fifi.*fifo, priority, fair"),
    ],
)
def test_backends_that_can_not_work_are_named(backends: list[BackendConfig], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        check_config(DispatcherConfig(socket="/run/d.sock"), backends)


@pytest.mark.parametrize("socket", ["/nowhere/d.sock", f"/run/{'x' * 100}.sock"])
def test_a_socket_that_can_not_be_is_refused(socket: str) -> None:
    with pytest.raises(ConfigError, match="socket"):
        check_config(DispatcherConfig(socket=socket), [QX])


def test_an_unknown_trusted_user_and_a_store_without_a_folder_are_said_before_anything_runs(
    home: Path,
) -> None:
    socket = f"{home}/d.sock"
    with pytest.raises(ConfigError, match="nobody_has_this_name"):
        serve(DispatcherConfig(socket=socket, trusted_users=["nobody_has_this_name"]), [QX])
    with pytest.raises(QslurmError, match="store"):
        serve(DispatcherConfig(socket=socket, store=f"{home}/none/store.db", trusted_users=[]), [QX])
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("sessions", "word"),
    [
        (SessionsConfig(listen="8044"), "listen: '8044' is not ADDRESS:PORT"),
        (SessionsConfig(listen="127.0.0.1:http"), "listen"),
        (SessionsConfig(listen="127.0.0.1:99999"), "listen"),
        (SessionsConfig(listen="127.0.0.1:8044", address="c2"), "address: 'c2' is not"),
        (SessionsConfig(listen="0.0.0.0:8044"), "address is not set"),
        (SessionsConfig(listen="[::]:8044"), "address is not set"),
    ],
)
def test_a_door_for_sessions_that_nobody_could_enter_is_refused(sessions: SessionsConfig, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        check_sessions(sessions)


def test_a_door_for_sessions_needs_a_place_and_a_name(tmp_path: Path) -> None:
    check_sessions(SessionsConfig(listen="127.0.0.1:0"))
    check_sessions(SessionsConfig(listen="[::]:8044", address="c2.example.org:8044"))


def test_a_port_that_is_taken_is_said_and_nothing_is_left(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sessions = SessionsConfig(
            listen=f"127.0.0.1:{taken.getsockname()[1]}", key=str(home / "sessions.key")
        )
        config = DispatcherConfig(socket=f"{home}/d.sock", store=f"{home}/s.db", trusted_users=[])
        with pytest.raises(QslurmError, match="cannot listen on"):
            serve(config, [QX], sessions=sessions)
    assert not (home / "d.sock").exists()
