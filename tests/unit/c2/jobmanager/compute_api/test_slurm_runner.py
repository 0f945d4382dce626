"""What the Compute API says of jobs that have started: it is read from the dispatcher's store."""

from __future__ import annotations

import socket

import msgspec
import pytest

from qslurm.c2.jobmanager.compute_api.runner import ApiCaller, Progress
from qslurm.c2.jobmanager.compute_api.slurm_runner import SlurmRunner
from qslurm.errors import UnreachableError
from tests.unit.c2.jobmanager.conftest import Manager

CALLER = ApiCaller("snellius", "a.to.ken")


@pytest.fixture
def runner(manager: Manager) -> SlurmRunner:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    section = msgspec.structs.replace(manager.config.jobmanager, slurmrestd=url)
    return SlurmRunner(msgspec.structs.replace(manager.config, jobmanager=section), list)


@pytest.mark.parametrize(
    ("state", "progress"),
    [
        ("admitted", Progress("planned")),
        ("running", Progress("running")),
        ("finished", Progress("completed", "", 3.0)),
        ("failed", Progress("failed", "why", 3.0)),
        ("timed_out", Progress("failed", "why", 3.0)),
        ("cancelled", Progress("cancelled", "why", 3.0)),
    ],
)
def test_a_tasks_state_is_the_jobs_progress(
    runner: SlurmRunner, manager: Manager, state: str, progress: Progress
) -> None:
    manager.insert_task(7, state=state, reason=progress.message)
    assert runner.progress(CALLER, [7]) == {7: progress}


def test_of_what_has_not_started_slurm_is_asked(runner: SlurmRunner, manager: Manager) -> None:
    manager.insert_task(7, state="withdrawn")
    for run in (7, 8):
        with pytest.raises(UnreachableError) as caught:
            runner.progress(CALLER, [run])
        assert "a.to.ken" not in repr(caught.value)


def test_results_are_the_executions_that_gave_one(runner: SlurmRunner, manager: Manager) -> None:
    task = manager.insert_task(7)
    manager.insert_execution(task, '{"00": 3, "11": 1}', 4, '["00", "00", "11", "00"]')
    (measured,) = runner.measured(CALLER, 7, 0, 50)
    assert (bytes(measured.counts), bytes(measured.raw_data or b"")) == (
        b'{"00": 3, "11": 1}',
        b'["00", "00", "11", "00"]',
    )
    assert runner.results(CALLER, 7) == (1, 42)
    assert runner.measured(CALLER, 7, 1, 50) == []
    assert (measured.shots_requested, measured.shots_done, measured.seconds, measured.at) == (4, 4, 0.5, 3.0)
    assert runner.measured(CALLER, 8, 0, 50) == runner.measured(ApiCaller("lumi", ""), 7, 0, 50) == []


def test_a_final_result_is_finalizes(runner: SlurmRunner, manager: Manager) -> None:
    manager.insert_task(7, kind="hybrid", final_result='{"energy": -1.1}')
    assert bytes(runner.final_result(CALLER, 7) or b"") == b'{"energy": -1.1}'
    assert runner.final_result(CALLER, 8) is None


def test_a_log_is_lines(runner: SlurmRunner, manager: Manager) -> None:
    manager.log(7).write_text("one\ntwo\n")
    assert runner.log(CALLER, 7) == ["one", "two"]
    assert runner.log(CALLER, 8) == []
