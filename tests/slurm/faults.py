"""Faults between a center and C2: cut connections, killed and frozen daemons, a full disk; and programs that submit
meanwhile.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from people import eventually, frozen
from testbed import Testbed, users

GIVES_UP_S = 4
"""How long the agent under fire waits for an answer of C2."""

Choose = Callable[[str], str]
"""What happens to a request, from its first line: one of FAULTS, or "" for nothing."""

FAULTS = ("before", "during", "after", "late", "slow")


class Relay:
    """A TCP relay to slurmrestd that parses HTTP requests and fails at a given point.

    before: C2 gets nothing; during: it gets half of the request; after: its response is lost; late: the request arrives
    after the center's time-out; slow: it is delayed.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.choose: Choose = lambda _: ""
        self.done: Counter[str] = Counter()
        self._late: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()
        for thread in self._late:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            while True:
                request = _message(client)
                fault = self.choose(request.partition(b"\r\n")[0].decode())
                self.done[fault] += 1
                answer = self._passed(request, fault)
                if answer is None:
                    return
                client.sendall(answer)

    def _passed(self, request: bytes, fault: str) -> bytes | None:
        if fault == "before":
            return None
        if fault == "late":
            thread = threading.Thread(target=self._deliver_late, args=(request,))
            self._late.append(thread)
            thread.start()
            return None
        if fault == "slow":
            time.sleep(1.0)
        with socket.create_connection(self._target, 30) as c2:
            if fault == "during":
                c2.sendall(request[: len(request) // 2])
                return None
            c2.sendall(request)
            answer = _message(c2)
        return None if fault == "after" else answer

    def _deliver_late(self, request: bytes) -> None:
        time.sleep(2.0)
        with suppress(OSError, EOFError), socket.create_connection(self._target, 30) as c2:
            c2.sendall(request)
            _message(c2)


def _message(link: socket.socket) -> bytes:
    """A complete HTTP request or response."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _piece(link)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _piece(link)
    return head + b"\r\n\r\n" + body


def _piece(link: socket.socket) -> bytes:
    piece = link.recv(1 << 16)
    if not piece:
        raise EOFError
    return piece


class Agent:
    """An agent of the center with its own outbox, which reaches C2 through a relay.

    With `room` the outbox is on a disk of that size, in a mount namespace.
    """

    def __init__(self, testbed: Testbed, port: int, *, room: str = "") -> None:
        layout = testbed.layout
        self._python = layout.python
        self.folder = layout.folder / "fire"
        self.socket = self.folder / "agent.sock"
        self.outbox = self.folder / "state" / "outbox.db"
        self.config = self.folder / "agent.toml"
        self.users_config = self.folder / "users.toml"
        self._user = pwd.getpwnam(users.AGENT)
        self._process: subprocess.Popen[bytes] | None = None
        self._disk: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        self.folder.mkdir(exist_ok=True)
        os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.folder.chmod(0o755)
        self.config.write_text(
            f'[c2]\nurl = "http://127.0.0.1:{port}"\nresults_url = "{testbed.results_url}"\n'
            f'user = "center_snellius"\ntoken_file = "{layout.agent_token}"\ntimeout_s = {GIVES_UP_S}\n'
            f'[agent]\nsocket = "{self.socket}"\nstate = "{self.outbox.parent}"\n'
        )
        self.users_config.write_text(f'[agent]\nsocket = "{self.socket}"\n')
        if room:
            self._disk = self._mounted(room)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        enter = [] if self._disk is None else ["nsenter", f"--mount=/proc/{self._disk.pid}/ns/mnt"]
        become = ["setpriv", f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        serve = [self._python, "-I", "-m", "qslurm", "agent", "serve", "--config", self.config]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*enter, *become, *serve], stdout=log, stderr=log, cwd="/",
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            )  # fmt: skip
        eventually(self._listens, "the agent to listen", seen=lambda: self.log()[-2000:])

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)
        self.deaths += 1

    def stop(self) -> None:
        """Stop it with SIGTERM, and remove its files."""
        self._end(signal.SIGTERM)
        if self._disk is not None:
            self._disk.kill()
            self._disk.wait()
        shutil.rmtree(self.folder)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Fill the outbox's disk meanwhile."""
        assert self._disk is not None
        filler = Path(f"/proc/{self._disk.pid}/root{self.outbox.parent}/filler")
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 1024)
        try:
            yield
        finally:
            filler.unlink()

    def _mounted(self, room: str) -> subprocess.Popen[bytes]:
        """A process whose mount namespace has a small disk at the outbox's folder."""
        self.outbox.parent.mkdir(exist_ok=True)
        options = f"size={room},mode=0700,uid={self._user.pw_uid},gid={self._user.pw_gid}"
        script = 'mount -t tmpfs -o "$1" outbox "$2" && echo mounted && exec sleep infinity'
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", options]
        disk = subprocess.Popen([*command, self.outbox.parent], stdout=subprocess.PIPE)
        assert disk.stdout is not None
        assert disk.stdout.readline() == b"mounted\n"
        disk.stdout.close()
        return disk

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of its outbox."""
        with closing(sqlite3.connect(f"file:{self.outbox}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(sql).fetchall()

    def losses(self) -> int:
        """How often it has found that C2 lost a job."""
        ((count,),) = self.query("SELECT coalesce(sum(resent + (state = 'lost')), 0) FROM submissions")
        return int(count)

    def log(self) -> str:
        """Its output."""
        return (self.folder / "log").read_text()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0


SUBMIT = """
import sys, threading, time
from qslurm.c1.config.center_config import load_config
from qslurm.c1.connection.center_connection import open_connection
from qslurm.c1.submission.sending import Batch
from qslurm.payload.spec import JobSpec
from qslurm.errors import QslurmError, UnreachableError
from qslurm.payload.comment import Comment

config = load_config(environ={"QSLURM_CONFIG": sys.argv[1]})
counter, first, last = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
numbers = iter(range(first, last))
lock = threading.Lock()

def submit_some():
    center = open_connection(config)
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        script = f"#!/bin/sh\\necho {number} $SLURM_JOB_ID >> {counter}\\n"
        payload = Batch(config, [JobSpec(source=script, backend="qx")], {}).packages[0].payload
        key = Comment.parse(payload["job"]["comment"]).key
        while True:
            try:
                job_id = center.slurm.submit(payload).job_id
                break
            except UnreachableError:
                time.sleep(0.2)  # its user presses the arrow and enter
            except QslurmError as error:
                print(number, key, "refused:", error, flush=True)
                return
        print(number, key, job_id, flush=True)

threads = [threading.Thread(target=submit_some) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


class Submitter:
    """A researcher's program that submits small scripts, sixteen at a time, until all are accepted."""

    def __init__(self, testbed: Testbed, agent: Agent, user: str, counter: Path, numbers: range) -> None:
        config, who = agent.users_config, pwd.getpwnam(user)
        self.said = agent.folder / f"{user}.out"
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                [testbed.layout.python, "-I", "-c", SUBMIT, config, counter, str(numbers.start), str(numbers.stop)],
                stdout=out, stderr=subprocess.STDOUT, cwd="/", user=who.pw_uid, group=who.pw_gid, extra_groups=[],
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": user, "HOME": "/"},
            )  # fmt: skip

    def jobs(self) -> dict[int, tuple[str, str]]:
        """Key and job id of each accepted submission, by its number."""
        found = {}
        for line in self.said.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):  # it is still being written
                break
            number, key, job_id, *rest = line.split()
            assert number.isdigit() and job_id.isdigit() and not rest, self.said.read_text()
            found[int(number)] = (key, job_id)
        return found


OPERATIONS = {
    "comment": ["update JobId={} Comment=moved_by_ops"],
    "no comments": ["update JobId={} Comment= AdminComment="],
    "another's marks": ["update JobId={} Comment=key=0123456789abcdef AdminComment=key=0123456789abcdef"],
    "name": ["update JobId={} JobName=renamed"],
    "nice": ["update JobId={} Nice=10"],
    "priority": ["update JobId={} Priority=100000"],
    "time limit": ["update JobId={} TimeLimit=20"],
    "hold": ["hold {}", "release {}"],
    "partition": ["update JobId={} Partition=p_spin2", "update JobId={} Partition=p_qx"],
    "requeue": ["update JobId={} Requeue=0"],
    "dependency": ["update JobId={} Dependency=singleton", "update JobId={} Dependency="],
    "suspend": ["suspend {}", "resume {}"],
}
"""What an operator does to a job, in scontrol's words; slurmctld refuses some of it, by the job's state."""

AT_A_TIME = 5
"""Jobs that an operator touches, at most, before the next daemon dies."""


class RandomFaults:
    """Kills and freezes daemons and changes jobs as an operator, in an order given by a seed."""

    def __init__(self, testbed: Testbed, agent: Agent, seed: int) -> None:
        self._testbed, self._agent = testbed, agent
        self._dice = random.Random(seed)
        self.done: Counter[str] = Counter()

    def some(self) -> str:
        """One fault; all daemons run again when it returns."""
        what, daemon = self._dice.choice(
            [
                *[("kill", "agent")] * 2,
                *[("kill", "slurmctld-c2")] * 3,
                *[("freeze", "slurmctld-c2")] * 1,
                *[("kill", "slurmrestd")] * 2,
                *[("freeze", "slurmrestd")] * 1,
                *[("kill", "slurmdbd")] * 1,
                *[("freeze", "slurmdbd")] * 1,
                *[("operate", "")] * 10,
            ]
        )
        if what == "operate":
            return self._operate()
        for_s = self._dice.uniform(0.2, 2.0) if what == "kill" else GIVES_UP_S + 2
        after_s = self._dice.uniform(2.0, 8.0)
        self._do(what, daemon, for_s)
        time.sleep(after_s)
        self.done[f"{what} {daemon}"] += 1
        return f"{what} {daemon} {for_s:.1f} s, quiet {after_s:.1f} s"

    def _operate(self) -> str:
        """Change some pending or running jobs."""
        words = (
            *("squeue", "--noheader", "--states=PENDING,RUNNING"),
            *("--user=center_snellius", "--format=%i %T"),
        )
        jobs = dict(line.split() for line in self._testbed.c2(words).stdout.splitlines())
        said = []
        for job_id in self._dice.sample(list(jobs), min(len(jobs), AT_A_TIME)):
            # what is suspended while slurmctld prepares it is never launched when it is resumed, and counts as running
            can = OPERATIONS if jobs[job_id] == "RUNNING" else OPERATIONS.keys() - {"suspend"}
            operation = self._dice.choice(sorted(can))
            for words in OPERATIONS[operation]:
                self._testbed.c2(("scontrol", *(word.format(job_id) for word in words.split(" "))))
            self.done[f"operator: {operation}"] += 1
            said.append(f"{operation} of {job_id}")
        return f"operator: {', '.join(said) or 'no jobs'}"

    def _do(self, what: str, daemon: str, for_s: float) -> None:
        if daemon == "agent":
            self._agent.kill()
            time.sleep(for_s)
            self._agent.start()
        elif what == "kill":
            self._testbed.kill(daemon)
            time.sleep(for_s)
            eventually(lambda: self._is_back(daemon), f"{daemon} to be back")
        else:
            with frozen(self._testbed, daemon):
                time.sleep(for_s)

    def _is_back(self, daemon: str) -> bool:
        """Another testbed that looks for free ports may have held the daemon's for a moment, so that it gave up."""
        self._testbed.start(daemon)
        time.sleep(0.5)
        return self._testbed.pid(daemon) is not None
