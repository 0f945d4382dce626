"""A researcher on C1 and an operator on C2, by the commands that they would type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from testbed import Testbed
from testbed.command import checked

from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import GetStatus, Status, TaskStatus

WAITING_OR_RUNNING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")


class Researcher:
    """A user of C1: sbatch, squeue, qslurm."""

    def __init__(self, testbed: Testbed, user: str) -> None:
        self._testbed = testbed
        self.user = user
        self.folder = testbed.work_folder(user)

    def write(self, name: str, text: str) -> Path:
        """Write a file in the user's home as that user: root would follow symbolic links there."""
        new = 'rm -f -- "$1" && cat > "$1"'
        checked(self._testbed.c1(("sh", "-c", new, "sh", name), user=self.user, stdin=text))
        return self.folder / name

    def sbatch(self, script: Path) -> int:
        """Submit a script to C1; the C1 job id."""
        return int(self._run("sbatch", "--parsable", script.name).split(";")[0])

    def is_running(self, c1_job_id: int) -> bool:
        """Whether the job is in C1's queue."""
        listed = self._run("squeue", "--noheader", "--format=%i %T", "--states=all")
        states = dict(line.split() for line in listed.splitlines())
        return states.get(str(c1_job_id)) in WAITING_OR_RUNNING

    def qslurm(self, *arguments: str) -> Any:
        """The JSON document of a qslurm command."""
        return json.loads(self._run("qslurm", *arguments, "--json"))

    def _run(self, *arguments: str) -> str:
        return checked(self._testbed.c1(arguments, user=self.user))


class Operator:
    """An operator on C2's head node: partitions, and the dispatcher's open jobs."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._dispatcher = DispatcherClient(
            str(testbed.layout.dispatcher_socket), munge_socket=str(testbed.layout.munge_socket("c2"))
        )

    def qslurm(self, *arguments: str) -> str:
        """The output of a qslurm command."""
        return checked(self._testbed.c2(("qslurm", *arguments)))

    def slurm_version(self) -> str:
        """The version of C2's Slurm; C1 runs the host's."""
        return checked(self._testbed.c2(("sinfo", "--version"))).split()[-1]

    def open_task(self, c2_job_id: int) -> TaskStatus | None:
        """The dispatcher's status of a job, or None if the job is not open."""
        status = self._dispatcher.ask(GetStatus(jobs=True))
        assert isinstance(status, Status)
        return next((task for task in status.tasks if task.job_id == c2_job_id), None)
