"""A loop on C1 whose circuits C2 executes: a session is a job on C2, and circuits go directly to the dispatcher."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from people import Researcher, eventually, operator

pytestmark = pytest.mark.slurm

LOOP = '''
import json, os, pathlib, sys, time
from qslurm import Center

BELL = """version 3.0
qubit[2] q
bit[2] b
Ry(1.5707963) q[0]
CNOT q[0], q[1]
b = measure q
"""
with Center(backend="qx").session(idle_limit_s=float(sys.argv[1]), name="loop") as qi:
    print(qi.job_id, flush=True)
    qi.execute_circuit(BELL, 100)
    if len(sys.argv) > 2:
        pathlib.Path(sys.argv[2]).touch()
        time.sleep(300)
    futures = [qi.submit(BELL, 10) for _ in range(20)]
    assert [sum(future.result(60).results.values()) for future in futures] == [10] * 20
    qi.final_result = {"where": os.environ["SLURM_JOB_ID"]}
'''

WORKER = """
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from qslurm import Session

FLIP = "version 3.0; qubit q; bit b; X q; b = measure q"

def work(number):
    with Session.current() as qi:
        return qi.execute_circuit(FLIP, number).results["1"]

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(work, range(1, 9))) == list(range(1, 9))
    secrets = [name for name in os.environ if "SECRET" in name or "KEY" in name]
    print("worked", secrets)
"""


LONG_LOOP = """
import pathlib
from qslurm import Session

FLIP = "version 3.0; qubit q; bit b; X q; b = measure q"
with Session.current() as qi:
    qi.execute_circuit(FLIP, 10)
    pathlib.Path("begun").touch()
    while not pathlib.Path("enough").exists():
        qi.execute_circuit(FLIP, 10)
    print(len(qi.results), {tuple(counts.items()) for counts in qi.results})
"""


def test_a_loop_in_an_sbatch_script_is_a_job_on_c2_and_accounted(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    alice.writes("loop.py", LOOP)
    output = alice.folder / "loop.sh.out"
    output.unlink(missing_ok=True)
    c1_job = alice.sbatches("loop.sh", f"#!/bin/bash\n{testbed.layout.python} -I loop.py 60\n")
    job_id = int(eventually(lambda: _number(output), "the session's job id", seen=lambda: _read(output)))
    assert alice.ends_as(job_id) == "COMPLETED"
    results = eventually(lambda: _results(alice, job_id), "the results")
    assert (results["final_result"], results["executions"]) == ({"where": str(c1_job)}, 21)
    shown = alice.gets("show", str(job_id))
    assert (shown["kind"], shown["name"]) == ("session", "loop")
    assert shown["platform"]["shots"] == 300
    history = testbed.c2(("sacct", "-nPX", "-j", str(job_id), "-o", "Account,State"))
    assert history.stdout.strip() == "snellius|COMPLETED"


def test_a_command_has_the_session_by_its_environment_in_all_its_processes(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    alice.writes("worker.py", WORKER)
    done = alice.types("session", "--backend", "qx", "--", str(testbed.layout.python), "worker.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "worked []\n"
    job_id = _job_of(done.stderr)
    assert alice.ends_as(job_id) == "COMPLETED"
    assert alice.gets("show", str(job_id))["platform"]["executions"] == 8

    broken = alice.types("session", "--backend", "qx", "--", "sh", "-c", "exit 3")
    assert broken.returncode == 3
    failed = _job_of(broken.stderr)
    assert alice.ends_as(failed) == "FAILED"
    assert "code 3" in alice.gets("show", str(failed))["platform"]["reason"]


def test_a_hybrid_file_runs_here_as_it_runs_there(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    document = alice.gets("session", "--backend", "qx", "--seed", "7", alice.has_example("vqe_h2.py"))
    assert document["final_result"]["energy"] < -1.0
    there = alice.gets("results", str(document["job_id"])) if alice.ends_as(document["job_id"]) else {}
    assert there["final_result"] == document["final_result"]


def test_cancel_and_the_idle_limit_end_a_session(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    alice.writes("loop.py", LOOP)
    python = str(testbed.layout.python)
    output, mark = alice.folder / "held.sh.out", alice.folder / "in-use"
    for path in (output, mark):
        path.unlink(missing_ok=True)
    alice.sbatches("held.sh", f"#!/bin/bash\nexec {python} -I loop.py 2 {mark}\n")
    eventually(mark.exists, "the loop to be in its middle", seen=lambda: _read(output))
    idle = int(_number(output))
    assert alice.ends_as(idle) == "FAILED"
    assert "idle limit" in alice.gets("show", str(idle))["platform"]["reason"]

    for path in (output, mark):
        path.unlink(missing_ok=True)
    alice.sbatches("held.sh", f"#!/bin/bash\nexec {python} -I loop.py 600 {mark}\n")
    eventually(mark.exists, "the loop to be in its middle", seen=lambda: _read(output))
    cancelled = int(_number(output))
    assert alice.types("cancel", str(cancelled)).returncode == 0
    assert alice.ends_as(cancelled) == "CANCELLED"


def test_a_program_that_is_cancelled_here_ends_its_session_there_and_leaves_none_that_waits(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    alice.writes("loop.py", LOOP)
    output, mark = alice.folder / "told.sh.out", alice.folder / "in-use"

    def begins(is_there):
        for path in (output, mark):
            path.unlink(missing_ok=True)
        here = alice.sbatches("told.sh", f"#!/bin/bash\nexec {testbed.layout.python} -I loop.py 600 {mark}\n")
        eventually(is_there, "the program to get there", seen=lambda: _read(output))
        return here

    here = begins(mark.exists)
    there = int(_number(output))
    assert testbed.c1(("scancel", str(here))).returncode == 0
    assert alice.ends_as(there) == "FAILED"
    assert "SIGTERM" in alice.gets("show", str(there))["platform"]["reason"]

    operator(testbed, "partition", "drain", "p_qx")
    here = begins(lambda: re.search(r"\bjob \d+", _read(output)))
    assert testbed.c1(("scancel", str(here))).returncode == 0
    assert alice.ends_as(_job_of(_read(output))) == "CANCELLED"
    operator(testbed, "partition", "enable", "p_qx")


def test_what_waits_says_why_and_gives_up(testbed):
    operator(testbed, "partition", "drain", "p_qx")
    alice = Researcher(testbed)
    done = alice.types("session", "--backend", "qx", "--wait-limit", "1", "--", "true")
    operator(testbed, "partition", "enable", "p_qx")
    assert done.returncode == 8, done.stderr
    assert "Waiting" in done.stderr
    assert alice.ends_as(_job_of(done.stderr)) == "CANCELLED"


def _job_of(said: str) -> int:
    found = re.search(r"\bjob (\d+)", said)
    assert found, said
    return int(found[1])


def _finding(doctor: str) -> dict[str, str]:
    return next(one for one in json.loads(doctor)["findings"] if one["name"] == "sessions")


def _number(path: Path) -> str:
    found = re.search(r"^\d+$", _read(path), re.MULTILINE)
    return found[0] if found else ""


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _results(alice: Researcher, job_id: int):
    done = alice.types("results", str(job_id), "--json")
    return json.loads(done.stdout) if done.returncode == 0 else None


def test_a_killed_dispatcher_interrupts_a_loop_and_nothing_runs_twice(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    begun, enough, output = (alice.folder / name for name in ("begun", "enough", "long.sh.out"))
    for path in (begun, enough, output):
        path.unlink(missing_ok=True)
    alice.writes("long.py", LONG_LOOP)
    python = testbed.layout.python
    alice.sbatches("long.sh", f"#!/bin/bash\nqslurm session --backend qx -- {python} -I long.py 2>&1\n")
    eventually(begun.exists, "the loop to have begun", seen=lambda: _read(output))
    testbed.kill("dispatcher")
    testbed.up()
    enough.touch()
    job_id = _job_of(_read(output))
    assert alice.ends_as(job_id) == "COMPLETED"
    said = eventually(
        lambda: re.search(r"^(\d+) (.*)$", _read(output), re.MULTILINE), "what the loop has seen"
    )
    assert said[2] == "{(('1', 10),)}"
    assert alice.gets("show", str(job_id))["platform"]["executions"] == int(said[1])


def test_a_user_of_the_centers_agent_needs_no_token_for_a_session(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    layout, bob = testbed.layout, Researcher(testbed, "qs_bob")
    config = layout.folder / "etc" / "c1" / "agents-users.toml"
    place, munge = f"127.0.0.1:{testbed.ports['agent']}", layout.munge_socket("c1")
    config.write_text(f'[agent]\naddress = "{place}"\nmunge_socket = "{munge}"\n')
    bob.writes("worker.py", WORKER)
    agent = {"QSLURM_CONFIG": str(config), "QSLURM_AGENT": str(layout.agent_socket)}
    words = ("session", "--backend", "qx", "--", str(layout.python), "worker.py")
    done = bob.types(*words, **agent)
    assert (done.returncode, done.stdout) == (0, "worked []\n"), done.stderr
    job_id = str(_job_of(done.stderr))
    eventually(
        lambda: json.loads(bob.types("show", job_id, "--json", **agent).stdout)["state"] == "COMPLETED",
        f"job {job_id} to be completed",
    )
    assert _finding(bob.types("doctor", "--json", **agent).stdout)["state"] == "ok"


def test_the_operator_sees_that_sessions_can_be_entered(testbed):
    assert str(testbed.ports["sessions"]) in str(_finding(operator(testbed, "doctor", "--json")))
