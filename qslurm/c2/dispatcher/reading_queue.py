"""Which job's circuit or file is read next, before the job is admitted: no center has all the places.

Reading takes a process and up to some seconds of it (runtimes/quantum/circuit_reader.py), and what is read is
anybody's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import Admit

AT_A_TIME = 4
OF_ONE = 2
"""Of these, of one center."""

ReadJob = Callable[[Envelope, int], str]
Then = Callable[[str], None]


@dataclass(eq=False)
class _Reading:
    """One job's; asked for again, it is not done twice."""

    job: Admit
    envelope: Envelope
    qubits: int
    then: list[Then] = field(default_factory=list)
    began: bool = False


class ReadingQueue:
    """Has jobs read by threads, the next one of the center that has the fewest under way."""

    def __init__(self, threads: WorkerThreads, read: ReadJob) -> None:
        self._threads = threads
        self._read = read
        self._readings: dict[tuple[int, int, str], _Reading] = {}  # in the order in which they were asked for
        self._under_way: Counter[str] = Counter()  # by center

    def ask(self, job: Admit, envelope: Envelope, qubits: int, then: Then) -> None:
        """Call `then`, in the loop, with what speaks against the job's data (nothing: "")."""
        name = (job.job_id, job.restart, job.key)
        reading = self._readings.setdefault(name, _Reading(job, envelope, qubits))
        reading.then.append(then)
        self._begin()

    def _begin(self) -> None:
        while self._under_way.total() < AT_A_TIME:
            waiting = [
                (name, one)
                for name, one in self._readings.items()
                if not one.began and self._under_way[one.job.center] < OF_ONE
            ]
            if not waiting:
                return
            name, reading = min(waiting, key=lambda each: self._under_way[each[1].job.center])
            reading.began = True
            self._under_way[reading.job.center] += 1
            self._have_read(name, reading)

    def _have_read(self, name: tuple[int, int, str], reading: _Reading) -> None:
        job = reading.job

        def read() -> str:
            return self._read(reading.envelope, reading.qubits)

        def done(found: str | None) -> None:
            self._under_way[job.center] -= 1
            del self._readings[name]
            self._begin()
            for then in reading.then if found is not None else ():
                then(found or "")

        self._threads.do("read", read, done, failed=lambda: done(None), job=job.job_id, center=job.center)
