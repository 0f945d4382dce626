"""The queue of jobs whose circuit or file is checked before admission, fair between centers.

Each check runs in a process of its own and may take seconds (runtimes/quantum/circuit_reader.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import Admit

AT_A_TIME = 4
AT_A_TIME_PER_CENTER = 2

ReadJob = Callable[[Envelope, int], str]
Then = Callable[[str], None]


@dataclass(eq=False)
class _Reading:
    """One job's check; a repeated request waits for the same check."""

    job: Admit
    envelope: Envelope
    qubits: int
    then: list[Then] = field(default_factory=list)
    started: bool = False


class ReadingQueue:
    """Runs the checks in threads; next is a job of the center with the fewest checks under way."""

    def __init__(self, threads: WorkerThreads, read: ReadJob) -> None:
        self._threads = threads
        self._read = read
        self._readings: dict[tuple[int, int, str], _Reading] = {}  # oldest first
        self._under_way: Counter[str] = Counter()  # by center

    def submit(self, job: Admit, envelope: Envelope, qubits: int, then: Then) -> None:
        """Call `then`, in the main loop, with the error in the job's data ("" if there is none)."""
        name = (job.job_id, job.restart, job.key)
        reading = self._readings.setdefault(name, _Reading(job, envelope, qubits))
        reading.then.append(then)
        self._start_next()

    def _start_next(self) -> None:
        while self._under_way.total() < AT_A_TIME:
            waiting = [
                (name, one)
                for name, one in self._readings.items()
                if not one.started and self._under_way[one.job.center] < AT_A_TIME_PER_CENTER
            ]
            if not waiting:
                return
            name, reading = min(waiting, key=lambda each: self._under_way[each[1].job.center])
            reading.started = True
            self._under_way[reading.job.center] += 1
            self._start(name, reading)

    def _start(self, name: tuple[int, int, str], reading: _Reading) -> None:
        job = reading.job

        def read() -> str:
            return self._read(reading.envelope, reading.qubits)

        def done(error: str | None) -> None:
            self._under_way[job.center] -= 1
            del self._readings[name]
            self._start_next()
            for then in reading.then if error is not None else ():
                then(error or "")

        self._threads.submit("read", read, done, failed=lambda: done(None), job=job.job_id, center=job.center)
