"""Quantum runtimes that only compute are of a user of their own, and end with the dispatcher all the same."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.errors import ConfigError
from qslurm.protocol.messages import Admitted, Finish
from qslurm.runtimes.quantum.process_starter import fork_starter
from qslurm.wire.credentials import Munge
from tests.unit.c2.dispatcher.running import Running, circuit_job, is_gone, slow_circuit
from tests.unit.waiting import until
from tests.unit.wire.test_credentials import munge  # noqa: F401 -- a fixture

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")

DISPATCHER = 65_533  # a user that nobody is
USER = "nobody"
_CAPABILITIES = "+setuid,+setgid,+kill"


def as_dispatcher(capabilities: str = _CAPABILITIES) -> list[str]:
    """As its unit starts it."""
    ids = (f"--reuid={DISPATCHER}", f"--regid={DISPATCHER}", "--clear-groups")
    return ["setpriv", *ids, f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", "--"]


@pytest.fixture
def running(
    munge: Munge,  # noqa: F811 -- the fixture
    home: Path,
    open_checkout: Path,
    open_python: Path,
) -> Iterator[Running]:
    folder = home / "run"
    folder.mkdir()
    folder.chmod(0o755)
    os.chown(folder, DISPATCHER, DISPATCHER)
    with Running(
        folder, munge_socket=f"{home}/s", log=home / "dispatcher.log", python=open_python, root=open_checkout,
        before=as_dispatcher(), runtime_user=USER, execution_limit_s=20.0,
    ) as running:  # fmt: skip
        yield running.ready()


def facts(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def runtimes(running: Running) -> list[int]:
    (starter,) = running.workers()
    text = Path(f"/proc/{starter}/task/{starter}/children").read_text()
    return [int(word) for word in text.split()]


def test_a_runtime_is_another_user_without_any_capability_and_the_dispatcher_has_none_left(
    running: Running,
) -> None:
    (runtime,) = runtimes(running)
    uid = str(pwd.getpwnam(USER).pw_uid)
    assert facts(runtime)["Uid"] == [uid] * 4
    for pid in (runtime, running.process.pid):
        assert [facts(pid)[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [["0" * 16]] * 4
        assert facts(pid)["NoNewPrivs"] == ["1"]
    assert facts(runtime)["Seccomp"] == ["2"]
    assert facts(running.process.pid)["Uid"] == [str(DISPATCHER)] * 4
    files = {str(fd.readlink()) for fd in Path(f"/proc/{runtime}/fd").iterdir()}
    assert running.config.store not in files


def test_it_executes_is_killed_and_replaced(running: Running) -> None:
    assert running.ask(circuit_job(1, uid=1)) == Admitted()
    until(lambda: running.reader().task("a", 1).state == "finished")  # type: ignore[union-attr]
    (before,) = runtimes(running)
    assert running.ask(circuit_job(2, slow_circuit(24), uid=1)) == Admitted()
    until(lambda: running.executing() == 1)
    running.ask(Finish(job_id=2, restart=0, state="CANCELLED"))
    until(lambda: is_gone(before))
    assert running.ask(circuit_job(3, uid=1)) == Admitted()
    until(lambda: running.reader().task("a", 3).state == "finished")  # type: ignore[union-attr]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_dispatcher(running: Running, end: signal.Signals) -> None:
    processes = [*running.workers(), *runtimes(running)]
    running.process.send_signal(end)
    assert running.process.wait(60) == (0 if end == signal.SIGTERM else -end)
    until(lambda: all(is_gone(pid) for pid in processes))


def test_without_what_starts_them_the_dispatcher_ends_in_a_sentence_to_be_started_again(
    running: Running,
) -> None:
    (starter,) = running.workers()
    processes = runtimes(running)
    os.kill(starter, signal.SIGKILL)
    assert running.process.wait(60) == 1
    assert "The process that starts quantum runtimes has ended." in running.log.read_text()
    assert "Traceback" not in running.log.read_text()
    until(lambda: all(is_gone(pid) for pid in processes))


def test_a_dispatcher_that_must_not_become_another_says_so(
    munge: Munge,  # noqa: F811 -- the fixture
    home: Path,
    open_checkout: Path,
    open_python: Path,
) -> None:
    folder = home / "run"
    folder.mkdir()
    os.chown(folder, DISPATCHER, DISPATCHER)
    with Running(
        folder, munge_socket=f"{home}/s", log=home / "dispatcher.log", python=open_python, root=open_checkout,
        before=as_dispatcher("-all"), runtime_user=USER,
    ) as running:  # fmt: skip
        assert running.process.wait(60) == 1
    assert "AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL" in running.log.read_text()


def test_a_user_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="qslurm-nobody-at-all"):
        fork_starter("qslurm-nobody-at-all")


def test_it_is_off_unless_it_is_set() -> None:
    assert DispatcherConfig().runtime_user == ""
