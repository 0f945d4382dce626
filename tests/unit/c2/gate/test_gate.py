"""The gate asks squeue only for what nobody else has just read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.config.file import C2Config, GateConfig, SlurmConfig
from qslurm.c2.gate.gate import Gate
from qslurm.protocol.messages import Done, Ends, Finish, GetEnds, GetStatus, Status, TaskStatus
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable

NOW = 1_000_000
RUNNING = JobInfo(job_id=7, state="RUNNING", partition="p_qx", start=NOW, name="bell")
LINE = f"7|RUNNING|None|p_qx|center_a|a|normal|{NOW}|{NOW}|{NOW + 60}|0|0|5:00|7|N/A|7|qi1|{NOW}|"


class Dispatcher:
    """Has one task, of job 7, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.status = Status(
            version="1",
            pid=1,
            started=NOW,
            ready=True,
            reason="",
            backends=[],
            scope="all",
            tasks=[
                TaskStatus(
                    job_id=7, restart=0, center="a", backend="qx", kind="circuit", state="running",
                    since=NOW, executions=0,
                )
            ],
        )  # fmt: skip

    def ask(self, question: Any, timeout_s: float | None = None) -> object:
        del timeout_s
        match question:
            case GetStatus():
                return self.status
            case GetEnds():
                return Ends(ends=[])
        self.told.append(question)
        return Done()


class Slurm:
    """Slurm's commands, as scripts that count how often they are started."""

    def __init__(self, folder: Path) -> None:
        self._calls = folder / "calls"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.has("sinfo", "")
        self.has("scontrol", "PartitionName=p_qx State=DOWN")
        self.has("squeue", LINE)

    def has(self, command: str, says: str) -> None:
        script = self.bin / command
        script.write_text(f"#!/bin/sh\necho {command} $1 >>{self._calls}\necho '{says}'\n")
        script.chmod(0o755)

    def squeues(self) -> int:
        """How many were started, but for the one that runs on to watch."""
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        return sum(call.startswith("squeue --noheader") for call in calls)


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


def gate_of(tmp_path: Path, slurm: Slurm, dispatcher: Dispatcher, queue: JobTable | None) -> Gate:
    config = C2Config(
        slurm=SlurmConfig(bin=str(slurm.bin)),
        gate=GateConfig(state=str(tmp_path)),
        backend=[BackendConfig(name="qx")],
    )
    return Gate(config, dispatcher, lambda *_, **__: None, lambda: queue)  # type: ignore[arg-type]


def looks(gate: Gate, seconds: int) -> None:
    for tick in range(seconds):
        gate.check(NOW + tick, tick)
    gate.close()


def test_with_a_job_that_runs_squeue_is_asked_once_a_look_and_not_at_all_if_the_queue_is_known(
    tmp_path: Path, slurm: Slurm
) -> None:
    looks(gate_of(tmp_path, slurm, Dispatcher(), None), 20)
    assert slurm.squeues() >= 20
    before, queue = slurm.squeues(), JobTable()
    queue.apply([RUNNING])
    looks(gate_of(tmp_path, slurm, Dispatcher(), queue), 20)
    assert slurm.squeues() == before


@pytest.mark.parametrize("is_known", [False, True])
def test_the_end_of_a_job_is_found_in_whatever_reading_there_is(
    tmp_path: Path, slurm: Slurm, is_known: bool
) -> None:
    slurm.has("squeue", LINE.replace("RUNNING|None", "FAILED|NonZeroExitCode").replace("|0|0|", "|768|0|"))
    dispatcher, queue = Dispatcher(), JobTable()
    ended = {"state": "FAILED", "reason": "NonZeroExitCode", "status": 768, "end": NOW + 60}
    queue.apply([JobInfo(**{"job_id": 7, "partition": "p_qx", **ended})])
    looks(gate_of(tmp_path, slurm, dispatcher, queue if is_known else None), 12)
    assert dispatcher.told[0] == Finish(
        job_id=7, restart=0, state="FAILED", exit_code=3, reason="NonZeroExitCode", ended_at=NOW + 60.0
    )


def test_a_job_that_slurmctld_holds_after_its_launch_is_released_once_for_each_change(
    tmp_path: Path, slurm: Slurm
) -> None:
    queue = JobTable()
    held = {"job_id": 9, "state": "PENDING", "partition": "p_qx", "reason": "launch_failed_requeued_held"}
    queue.apply([RUNNING, JobInfo(**held)])
    gate = gate_of(tmp_path, slurm, Dispatcher(), queue)
    calls = tmp_path / "calls"
    looks(gate, 20)
    assert calls.read_text().count("scontrol release") == 1
