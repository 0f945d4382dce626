"""A quantum runtime on another host: a network namespace with a virtual link, which is cut by setting it down."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig, RemoteConfig
from qslurm.protocol.curve.key_files import make_keys
from qslurm.protocol.messages import Admitted
from tests.unit.c2.dispatcher.running import ROOT, Running, circuit_job, slow_circuit
from tests.unit.waiting import until

pytestmark = pytest.mark.slurm

UID = os.getuid()
NETWORK = ip_network((int(ip_address("198.18.0.0")) + 4 * (os.getpid() % (1 << 15)), 30))
"""Of those for measurements, which are nobody's (RFC 2544): each run of the tests on this host has one of its own."""
HERE, THERE = map(str, NETWORK.hosts())
_JOIN = """
import sys
sys.path.insert(0, sys.argv[1])
from qslurm.cli import main
sys.argv = ["qslurm", "runtimes", "join", *sys.argv[2:]]
main()
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


@pytest.fixture
def host() -> Iterator[str]:
    """Another host's name, and a wire to it: `<name>0` is its end here."""
    name = f"qs{os.getpid()}"
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed")
    ip("netns", "add", name)
    try:
        ip("link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1", "netns", name)
        ip("addr", "add", f"{HERE}/30", "dev", f"{name}0")
        ip("link", "set", f"{name}0", "up")
        ip("-n", name, "addr", "add", f"{THERE}/30", "dev", f"{name}1")
        ip("-n", name, "link", "set", f"{name}1", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


def test_a_circuit_is_executed_once_on_another_host_though_its_wire_is_cut(host: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    allowed = folder / "allowed" / "qx"
    allowed.mkdir(parents=True)
    make_keys(folder / "dispatcher.key")
    (allowed / "lab.pub").write_bytes(make_keys(folder / "lab.key").public)
    backend = BackendConfig(name="qx", runtime="qx", qubits=20, workers=0, remote=1)
    remote = RemoteConfig(
        listen=f"tcp://{HERE}:*",
        key=str(folder / "dispatcher.key"),
        allowed=str(folder / "allowed"),
        beat_s=0.2,
    )
    with Running(folder, backend=backend, remote=remote, execution_limit_s=600.0) as running:
        said = f"tcp://{HERE}:"
        port = until(
            lambda: running.log.read_text().partition(said)[2].split("\n")[0].strip('"').split(" ")[0]
        )
        with (folder / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                [
                    "ip", "netns", "exec", host, str(running.python), "-c", _JOIN, str(ROOT),
                    "--connect", f"{said}{port}", "--backend", "qx", "--key", str(folder / "lab.key"),
                    "--dispatcher-key", str(folder / "dispatcher.pub"),
                ],
                stderr=log,
            )  # fmt: skip
        try:
            running.ready()
            assert running.ask(circuit_job(1, slow_circuit(17), uid=UID, shots=1)) == Admitted()
            ip("link", "set", f"{host}0", "down")
            until(lambda: running.status().backends[0].runtimes == 0, 60.0)
            ip("link", "set", f"{host}0", "up")
            task = until(
                lambda: (found := running.reader().task("a", 1)) and found.finished_at is not None and found,
                300.0,
            )
            assert (task.state, task.shots, task.executions) == ("finished", 1, 1)
        finally:
            agent.terminate()
            agent.wait(30)
    shutil.rmtree(folder)
