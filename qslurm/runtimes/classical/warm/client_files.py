"""The files by which a job's step finds warm runtimes: the compiled client, and the shell lines that start it."""

from __future__ import annotations

import os
import py_compile
import shlex
import socket
import sys
from pathlib import Path

from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.errors import ConfigError
from qslurm.runtimes.classical.warm import warm_client


def client_command(settings: RuntimesConfig) -> list[str]:
    """The command that requests a warm runtime; the job's script follows it.

    The interpreter itself starts 1 ms sooner than a virtual environment's link to it, and so does compiled
    code. Its full path names the version that can read it.
    """
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return [python, "-I", "-S", str(settings.client), settings.socket, sys.executable]


def write_client(settings: RuntimesConfig) -> None:
    """Write the compiled client, and the shell lines that start it."""
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH  # its source is elsewhere
    command = client_command(settings)
    compiled, starter = settings.client.with_suffix(".new"), settings.starter.with_suffix(".new")
    py_compile.compile(warm_client.__file__, str(compiled), doraise=True, invalidation_mode=unchecked)
    condition = f"-x {shlex.quote(command[0])}"
    if not settings.confines_scripts:
        condition += f' ] && [ "$1" != {warm_client.SCRIPT}'  # scripts run unconfined then
    starter.write_text(
        f"# read by qslurm-step; a missing interpreter is no reason to fail\n"
        f'if [ {condition} ]; then\n  exec {shlex.join(command)} "$@"\nfi\n'
    )
    for new, path in ((compiled, settings.client), (starter, settings.starter)):
        new.chmod(0o644)
        new.replace(path)


def remove_client(settings: RuntimesConfig) -> None:
    """Remove the files; from now on steps start cold."""
    settings.starter.unlink(missing_ok=True)
    settings.client.unlink(missing_ok=True)


def listen(path: Path, backlog: int) -> socket.socket:
    """The socket for steps; ConfigError if other users can write to its folder."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    facts = path.parent.stat()
    if facts.st_uid != 0 or facts.st_mode & 0o022:
        raise ConfigError(
            f"{path.parent} must be owned by root and writable by no other user: job steps run a program there."
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen(backlog)
    listener.setblocking(False)
    return listener
