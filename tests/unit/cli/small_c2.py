"""Connections to a small C2: one that takes arrays of at most five tasks, and one that also runs them."""

from __future__ import annotations

import threading

from qslurm.c1.submission.sending import INVALID_ARRAY
from qslurm.errors import RefusedError
from qslurm.payload.envelope import unpack
from qslurm.slurm.rest import Submitted
from tests.unit.jobs import job_info


class SmallC2:
    """Takes arrays of at most five tasks."""

    prefix, has_job_manager, submissions_at_once = "", False, 4

    def __init__(self, config):
        self.config, self.slurm = config, self
        self.taken, self.tasks_sent, self.firsts = [], [], []
        self.lock, self.api_version = threading.Lock(), "v0.0.38"

    def submit(self, payload):
        last = payload["job"].get("array", "0-0").partition("-")[2].partition("%")[0]
        if int(last) > 4:
            error = RefusedError("Invalid job array specification.")
            error.slurm_error = INVALID_ARRAY
            raise error
        envelope = unpack(payload["script"])
        with self.lock:
            return self.take(payload, envelope, last)

    def take(self, payload, envelope, last):
        self.taken.append([one.file for one in envelope.sources] or [payload["job"]["name"]])
        self.firsts.append(envelope.of_task(0) if last else envelope)
        self.tasks_sent += [envelope.of_task(index) for index in range(int(last) + 1) if envelope.sweep]
        return Submitted(len(self.taken))

    def close(self):
        pass


class RunC2(SmallC2):
    """Runs jobs at once. They complete, but for those that have a state by the name of their file."""

    has_job_manager = True

    def __init__(self, config, **states):
        super().__init__(config)
        self.states, self.ended = states, {}
        self.job_manager = Results(self.ended)

    def submit(self, payload):
        submitted = super().submit(payload)
        names = [name.removesuffix(".cq") for name in self.taken[-1]]
        if names == ["refused"]:
            raise RefusedError("No such account.")
        last = int(payload["job"].get("array", "0-0").partition("-")[2].partition("%")[0])
        names = names if len(names) > 1 else names * (last + 1)
        array = submitted.job_id if last else None
        self.ended[submitted.job_id] = [
            job_info(
                job_id=submitted.job_id * 100 + index if last else submitted.job_id,
                name=name,
                state=self.states.get(name, "COMPLETED"),
                comment=payload["job"]["comment"],
                array_job_id=array,
                array_task_id=index if last else None,
            )
            for index, name in enumerate(names)
        ]
        return submitted

    def tasks(self, job_id):
        return self.ended[job_id]

    def accounted_tasks(self, job_id):
        return []

    def delay(self, waited):
        return 0.0

    def wait_for_change(self, seconds, job):
        pass


class Results:
    """Has counts for every job, by which it can be told from others."""

    def __init__(self, ended):
        self._ended = ended

    def job(self, job_id):
        return {}

    def limits(self):
        return [{"name": "qx", "qubits": 2, "max_shots": 1000}, {"name": "one", "qubits": 1, "max_shots": 10}]

    def starts(self, key):
        return []

    def results(self, job_id):
        key = "key#0" if any(job.array_job_id == job_id for job in self._ended.get(job_id, ())) else "key"
        about = {"job_id": job_id, "key": key, "kind": "circuit", "state": "completed"}
        return {**about, "counts": {"0": job_id}}

    def many_results(self, job_ids):
        return [self.results(job_id) for job_id in job_ids]
