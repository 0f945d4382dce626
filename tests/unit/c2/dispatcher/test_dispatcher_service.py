"""The dispatcher and its quantum runtimes are killed, stopped, started again, in the middle of something."""

from __future__ import annotations

import os
import signal
import stat
from itertools import count
from pathlib import Path

import pytest

from qslurm.c2.store.store import Store
from qslurm.errors import PermissionDeniedError
from qslurm.protocol.messages import (
    Admitted,
    Attach,
    Attached,
    Execute,
    Finish,
    NotAdmitted,
    Pending,
    SetBackend,
)
from tests.unit.c2.dispatcher.running import Running, circuit_job, hybrid_job, is_gone, slow_circuit
from tests.unit.logfmt import read_all
from tests.unit.waiting import until

UID = os.getuid()
HYBRID = "def execute(qi): pass\ndef finalize(m): return {}\n"


def journal(running: Running, task_id: int) -> list[str]:
    store = Store(running.config.store)
    states = [row["state"] for row in store.journal(task_id) if row["seq"] is not None]
    store.close()
    return states


def test_sigterm_ends_everything_and_removes_the_socket(home: Path) -> None:
    with Running(home, workers=2) as running:
        running.ready()
        workers = until(lambda: len(running.workers()) == 2 and running.workers())
        until(lambda: running.status().backends[0].runtimes == 2)
        assert stat.S_IMODE(Path(running.config.socket).stat().st_mode) == 0o666
        assert stat.S_IMODE(Path(running.config.store).stat().st_mode) == 0o640
        assert running.stop() == 0
        assert all(is_gone(pid) for pid in workers)
        assert {path.name for path in home.iterdir()} == {"log", "store.db"}


def test_a_killed_dispatcher_takes_its_runtimes_with_it_and_the_next_one_goes_on(home: Path) -> None:
    with Running(home) as running:
        workers = running.ready().freeze()
        running.ask(circuit_job(5, uid=UID, shots=1))
        until(running.executing)
        running.kill()
        until(lambda: all(is_gone(pid) for pid in workers))
        running.start()  # on the socket that was left behind
        running.ready()
        task = until(lambda: (t := running.reader().task("a", 5)) and t.state == "finished" and t)
        assert task.executions == 1
        assert journal(running, task.id) == ["queued", "running", "queued", "running", "done"]


def test_a_second_dispatcher_on_the_socket_is_refused_in_a_sentence(home: Path) -> None:
    with Running(home) as running:
        first = running.ready().process
        second = running.start()
        running.process = first
        assert second.wait(timeout=20) == 1
        assert f"A dispatcher (process {first.pid}) is already listening on" in running.log.read_text()
        assert running.status().pid == first.pid


def test_a_killed_runtime_is_replaced_and_its_circuit_executed_once_more(home: Path) -> None:
    with Running(home) as running:
        (worker,) = running.ready().freeze()
        running.ask(circuit_job(5, uid=UID, shots=1))
        until(running.executing)
        os.kill(worker, signal.SIGKILL)
        task = until(lambda: (t := running.reader().task("a", 5)) and t.state == "finished" and t)
        assert journal(running, task.id) == ["queued", "running", "queued", "running", "done"]
        assert running.workers() != [worker]


def test_a_circuit_that_kills_its_runtime_twice_fails_and_its_neighbour_goes_on(home: Path) -> None:
    with Running(home, workers=2) as running:
        running.ready()
        until(lambda: running.status().backends[0].runtimes == 2)
        running.ask(circuit_job(4, slow_circuit(18), uid=UID, shots=1))
        running.ask(circuit_job(5, slow_circuit(23), uid=UID, shots=1))
        first = busiest(running)
        os.kill(first, signal.SIGKILL)
        os.kill(busiest(running, but=first), signal.SIGKILL)
        task = until(lambda: (t := running.reader().task("a", 5)) and t.state == "failed" and t)
        assert task.reason == "The circuit crashed its quantum runtime (signal 9) twice."
        neighbour = until(lambda: (t := running.reader().task("a", 4)) and t.state == "finished" and t)
        assert journal(running, neighbour.id) == ["queued", "running", "done"]


def busiest(running: Running, *, but: int = 0) -> int:
    """The worker that executes the large circuit: it is the one with much memory."""

    def memory(pid: int) -> int:
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:  # it has just been killed
            return 0

    return until(lambda: next((pid for pid in running.workers() if pid != but and memory(pid) > 20_000), 0))


def test_a_circuit_that_takes_too_long_is_ended_with_a_reason(home: Path) -> None:
    with Running(home, execution_limit_s=0.3) as running:
        running.ready().ask(circuit_job(5, slow_circuit(24), uid=UID, shots=1))
        task = until(lambda: (t := running.reader().task("a", 5)) and t.state == "failed" and t)
        assert task.reason == "The circuit exceeded its time limit of 0.3 s."
        until(lambda: running.status().backends[0].state == "idle")
        jobs = count(6)
        until(lambda: ends_well(running, next(jobs)))


def ends_well(running: Running, job_id: int) -> bool:
    """Whether a job of little work ends well; on a busy machine even that may take too long for a short limit."""
    running.ask(circuit_job(job_id, uid=UID))
    ends = {"finished", "failed"}
    return (
        until(lambda: (t := running.reader().task("a", job_id)) and t.state in ends and t).state == "finished"
    )


def test_an_operators_word_outlives_the_dispatcher(home: Path) -> None:
    with Running(home) as running:
        running.ready().ask(SetBackend(backend="qx", online=False, reason="maintenance"))
        running.kill()
        running.start()
        until(lambda: Path(running.config.socket).exists())
        until(lambda: running.status().backends[0].runtimes == 1)
        answer = running.ask(circuit_job(5, uid=UID))
        assert isinstance(answer, NotAdmitted)
        assert "maintenance" in answer.reason


def test_a_hybrid_job_waits_for_its_step_over_a_restart(home: Path) -> None:
    with Running(home) as running:
        running.ready().ask(hybrid_job(5, HYBRID, uid=UID))
        running.kill()
        running.start()
        running.ready()
        with running.client() as client:
            attached = client.ask(Attach(job_id=5, restart=0, client="step"))
            assert isinstance(attached, Attached)
            assert attached.envelope is not None
            question = Execute(task=attached.task, seq=0, circuit=slow_circuit(24), shots=1, wait=False)
            assert isinstance(client.exchange(question, secret=attached.secret), Pending)


def test_the_log_has_a_line_for_each_event_with_its_job_and_nothing_secret(home: Path) -> None:
    with Running(home) as running:
        assert running.ready().ask(circuit_job(5, uid=UID)) == Admitted()
        until(lambda: (t := running.reader().task("a", 5)) and t.state == "finished")
        running.ask(circuit_job(6, "version 3.0\nqubit q\nNonsense q\n", uid=UID))
        running.ask(hybrid_job(7, HYBRID, uid=UID))
        with running.client() as client:
            attached = client.ask(Attach(job_id=7, restart=0, client="step"))
            assert isinstance(attached, Attached)
            question = Execute(task=attached.task, seq=0, circuit=slow_circuit(24), shots=1)
            client.exchange(question, secret=attached.secret)
            until(running.executing)
            (worker,) = running.workers()
            os.kill(worker, signal.SIGKILL)
            until(lambda: running.workers() not in ([], [worker]))
            client.ask(Finish(job_id=7, restart=0, state="CANCELLED"))
        running.ask(hybrid_job(8, HYBRID, uid=UID + 1))
        with running.client() as client, pytest.raises(PermissionDeniedError):
            client.ask(Attach(job_id=8, restart=0, client="step"))
        running.stop()
        text = running.log.read_text()
        events = [(line["event"], line.get("job")) for line in read_all(text)]
        for job, expected in (
            ("5", ["job changes"] * 3),
            ("6", ["job changes"] * 2 + ["job refused"]),
            ("7", ["job changes"] * 2 + ["step attaches", "execution lost", "job changes"]),
            ("8", ["job changes", "step attaches"]),
        ):
            assert [event for event, about in events if about == job] == expected
        assert {"listening", "quantum runtime ended", "stopped"} <= {one for one, _ in events}
        for secret in ("CNOT", "Nonsense", attached.secret.hex(), repr(attached.secret)[2:-1]):
            assert secret not in text
