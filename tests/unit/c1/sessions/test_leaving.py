"""What leaving a session's block does with what `submit` has under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from qslurm.c1.api.session import Session
from qslurm.c1.sessions.termination import TerminatedError, TerminationSignals
from qslurm.errors import TimedOutError
from qslurm.runtimes.interface import ExecuteCircuitResult
from tests.unit.c1.sessions.conftest import Place
from tests.unit.waiting import until

CIRCUIT = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def failure(place: Place, job_id: int) -> tuple[str, str]:
    task = place.dispatcher.reader().task("a", job_id)
    assert task is not None
    return task.state, task.reason


def test_it_waits_for_all_of_it_says_so_and_keeps_their_outcomes(place: Place) -> None:
    held = place.hold()

    def let_go() -> None:
        until(lambda: any("before the session ends" in said for said in held.said))
        place.let_go()

    helper = threading.Thread(target=let_go)
    with Session(held.client(), held.job_id) as qi:
        futures = [qi.submit(CIRCUIT, shots) for shots in range(1, 21)]
        until(lambda: place.begun() == 4)
        helper.start()
    helper.join()
    assert [future.result(0).shots_done for future in futures] == list(range(1, 21))
    assert len(qi.results) == 20
    assert held.wait().state == "finished"


def test_what_none_of_comes_for_too_long_is_said_and_ends_the_session_as_failed(place: Place) -> None:
    held = place.hold()
    futures: list[Future[ExecuteCircuitResult]] = []
    with (
        pytest.raises(TimedOutError, match="2 circuits are pending"),
        Session(held.client(), held.job_id, leave_s=0.05) as qi,
    ):
        futures += [qi.submit(CIRCUIT, shots) for shots in (1, 2)]
    assert all(future.exception(60) is not None for future in futures)
    held.wait()
    assert failure(place, held.job_id) == (
        "failed",
        "No outcome for 0.05 s; 2 circuits are pending. The session was closed without them.",
    )


@pytest.mark.parametrize("ended_by", [KeyError("theta"), KeyboardInterrupt()])
def test_a_block_that_raises_waits_for_nothing(place: Place, ended_by: BaseException) -> None:
    held = place.hold()
    with pytest.raises(type(ended_by)), Session(held.client(), held.job_id) as qi:
        future = qi.submit(CIRCUIT, 1)
        raise ended_by
    assert future.exception(60) is not None
    held.wait()
    assert failure(place, held.job_id)[0] == "failed"


def test_a_signal_ends_the_wait(place: Place) -> None:
    """As at a job's time limit: SIGTERM, while the block is being left."""
    held = place.hold()
    died: list[int] = []

    def tell() -> None:
        until(lambda: any("before the session ends" in said for said in held.said))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    helper = threading.Thread(target=tell)
    session = Session(held.client(), held.job_id, signals=TerminationSignals(died.append))
    with pytest.raises(TerminatedError), session as qi:
        future = qi.submit(CIRCUIT, 1)
        helper.start()
    helper.join()
    assert died == [signal.SIGTERM]
    assert future.exception(60) is not None
    held.wait()
    assert failure(place, held.job_id) == ("failed", "The program was terminated (SIGTERM).")
