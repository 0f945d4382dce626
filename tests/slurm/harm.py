"""Hostile code of jobs: against the node, against other jobs, and against their data."""

from __future__ import annotations

HARM = {
    "forks": (
        "import os, time\ndef execute(qi):\n    while True:\n        try:\n            os.fork()\n"
        "        except OSError:\n            time.sleep(0.1)\n",
        "processes",
    ),
    "fills the disk": (
        "def execute(qi):\n    for n in range(1000):\n        with open(f'bulk{n}', 'wb') as file:\n"
        "            for _ in range(100):\n                file.write(bytes(10**6))\n            file.flush()\n"
        "            __import__('os').fsync(file.fileno())\n",
        "No space left",
    ),
    "writes one large file": (
        "def execute(qi):\n    with open('bulk0', 'wb') as file:\n"
        "        while True:\n            file.write(bytes(10**7))\n",
        "File too large",
    ),
    "allocates everything": (
        "def execute(qi):\n    held = []\n    while True:\n        held.append(bytearray(50_000_000))\n",
        "MemoryError",
    ),
    "allocates everything in many processes": (
        "import os, time\ndef execute(qi):\n    for _ in range(8):\n        if os.fork() == 0:\n"
        "            held = bytearray(b'x') * 400_000_000\n            time.sleep(100)\n    time.sleep(100)\n",
        "1000 MB",
    ),
    "prints 1 GB": (
        "def execute(qi):\n    for _ in range(1000):\n        print('x' * 1_000_000)\n",
        "printed",
    ),
    "crashes": ("import ctypes\ndef execute(qi):\n    ctypes.string_at(0)\n", "signal 11"),
    "ends itself": ("import os\ndef execute(qi):\n    os.kill(os.getpid(), 9)\n", "signal 9"),
}  # fmt: skip

ASKS = """
import pwd
import sys
from pathlib import Path
from qslurm.c2.config.file import load_c2_config
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Attach, Begin, Conclude, End
job_ids = JOB_IDS
def attack():
    config = load_c2_config(None).dispatcher
    said = {}
    with DispatcherClient(config.socket, munge_socket=config.munge_socket) as client:
        for job_id in job_ids:
            questions = [Attach(job_id=job_id, restart=0, client=word) for word in ("", "mine")]
            questions += [Begin(job_id=job_id, restart=0, launch="mine"), End(job_id=job_id, restart=0)]
            for question in questions:
                answer = client.exchange(question)
                said[f"{job_id} {type(question).__name__}"] = [type(answer).__name__, getattr(answer, "kind", "")]
                secret = getattr(answer, "secret", b"")
                if secret:
                    client.exchange(Conclude(task=answer.task, final_result='{"energy": -999}'), secret=secret)
    return said
"""

ASKS_AS_HYBRID = """
found = {}
def execute(qi):
    found.update(attack())
def finalize(m):
    return found
"""

FINALIZE = "\ndef finalize(m):\n    return {}\n"

READS = """
import os
PLACES = ["/proc", "/tmp", "/var/tmp", "/dev/shm", *FOLDERS]
def execute(qi):
    for place in PLACES:
        for folder, _, names in os.walk(place):
            if folder.startswith(("/proc/sys", "/usr", "/lib", "/bin")) or folder.count("/") > 8:
                continue
            for name in names:
                try:
                    descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                except OSError:
                    continue
                try:
                    found = os.read(descriptor, 1 << 16)
                except OSError:
                    continue
                finally:
                    os.close(descriptor)
                if b"MARK" in found:
                    print("found", folder, name, found[:1000])
""".replace('b"MARK"', 'b"mark-" + b"of-snellius"') + FINALIZE  # fmt: skip
"""Whatever there is to read, for what is in all that is snellius'."""

KILLS = """
import os, signal
def execute(qi):
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
        for pid in range(2, 40_000):
            if pid in (os.getpid(), os.getppid()):
                continue
            try:
                os.kill(pid, number)
            except OSError:
                pass
""" + FINALIZE  # fmt: skip

TRACES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def execute(qi):
    for pid in range(1, 40_000):
        if libc.ptrace(16, pid, 0, 0) == 0:
            print("traces", pid)
        try:
            os.pidfd_open(pid)
        except OSError:
            pass
""" + FINALIZE  # fmt: skip

LEAVES = """
import os
def execute(qi):
    for place in (".", "/tmp", "/var/tmp", "/dev/shm", *FOLDERS):
        for name in ("left-by-lumi-TESTBED", "__init__.py", "json.py", "numpy.py", "sitecustomize.py"):
            try:
                open(os.path.join(place, name), "w").write("raise SystemExit('lumi was here')")
            except OSError:
                pass
""" + FINALIZE  # fmt: skip

BUSY = """
def execute(qi):
    while True:
        qi.execute_circuit("version 3.0; qubit[2] q; bit[2] b; H q[0]; b = measure q", 10)
""" + FINALIZE  # fmt: skip

REFUSED = """
def execute(qi):
    while True:
        for circuit in ("nonsense", "version 3.0; qubit[99999] q", "version 3.0; qubit q; " + "H q; " * 1000):
            try:
                qi.execute_circuit(circuit, 10)
            except Exception:
                pass
""" + FINALIZE  # fmt: skip

LARGE_RESULT = """
def execute(qi):
    pass
def finalize(m):
    return {"a": [[]] * 1_500_000}
"""

DEEP_RESULT = """
def execute(qi):
    pass
def finalize(m):
    deep = []
    for _ in range(5000):
        deep = [deep]
    return {"a": deep}
"""

STRANGE_RESULT = """
class Odd(dict):
    def items(self):
        raise SystemExit(3)
def execute(qi):
    pass
def finalize(m):
    return Odd(a=1)
"""

WRITES_TO_WHAT_IT_INHERITED = """
import os
def execute(qi):
    for descriptor in range(3, 256):
        try:
            os.write(descriptor, b"x" * 100_000)
            os.close(descriptor)
        except OSError:
            pass
""" + FINALIZE  # fmt: skip
"""Its lane and its watcher's pipe among them."""

KILLS_AS_A_SCRIPT = """#!/bin/bash
for n in STOP TERM KILL; do
    for p in /proc/[0-9]*; do [ ${p#/proc/} = $$ ] || kill -$n ${p#/proc/}; done
done 2>/dev/null
kill -KILL -1
"""
READS_AS_A_SCRIPT = """#!/bin/bash
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline LOGS/*/* WORK/*/* SPOOL/*/* STORE/* 2>&1 | tr '\\0' ' ' | head -c 4000000
ls -laR /tmp /var/tmp /dev/shm 2>&1 | head -c 100000
"""
