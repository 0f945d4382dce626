"""A hybrid job without a result has failed, however its process ended; one with a result has it, whatever it did to
its output."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from _pytest.mark.structures import ParameterSet

from qslurm.runtimes.classical.warm.warm_client import DONE, FAILED, exit_of
from tests.unit.c2.dispatcher.running import BELL, ROOT, Running, hybrid_job
from tests.unit.waiting import until

UID = os.getuid()

_STEP = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import msgspec
from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.wire.credentials import SameUser
from qslurm.runtimes.classical.unconfined import run_in_own_folder
from qslurm.runtimes.classical.step import fail_step, run_step
from qslurm.runtimes.classical.warm.warm_client import DONE, FAILED, TOKEN
config = msgspec.json.decode(sys.argv[2], type=DispatcherConfig)
identity = SameUser()
os.environ[TOKEN] = "a token"
code, reason = run_in_own_folder(lambda: DONE if run_step(Path("job.sh"), config, identity=identity) == 0 else FAILED)
os.environ[TOKEN] = "a token"
sys.exit(fail_step(Path("job.sh"), config, reason, identity=identity) if reason else code)
"""

QSLURM = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from qslurm.cli import main; main()"

SOURCE = """
import atexit, builtins, io, json, os, signal, sys, threading, time
def execute(qi):
    print("begins", flush=True)
    qi.execute_circuit({circuit!r}, 10)
    {does}
def finalize(measurements):
    return {{"n": len(measurements)}}
"""


def ends(running: Running, job_id: int, does: str) -> tuple[int, str, str]:
    running.ask(hybrid_job(job_id, SOURCE.format(circuit=BELL, does=does), uid=UID))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run(
        [sys.executable, "-c", _STEP, str(ROOT), msgspec.json.encode(running.config).decode()],
        env=environment | {"SLURM_JOB_ID": str(job_id), "SLURM_RESTART_COUNT": "0"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


ONCE = 2
"""So many of a table run always; the others need no Slurm, but take as long as if they did."""


def cases(table: Iterable[str]) -> list[ParameterSet]:
    """All of a table by name, of which a few are in every run."""
    return [
        pytest.param(does, id=does, marks=[pytest.mark.slurm] if number >= ONCE else [])
        for number, does in enumerate(table)
    ]


EARLY = {
    "os._exit(0)": "exited with code 0",
    "os._exit(3)": "exited with code 3",
    "sys.exit(0)": "exited with code 0",
    "raise SystemExit": "exited with code None",
    "os.kill(os.getpid(), signal.SIGKILL)": "signal 9",
    "os.kill(os.getpid(), signal.SIGTERM)": "signal 15",
    "os.abort()": "signal 6",
    "os.execv('/bin/true', ['true'])": "exited with code 0",
    "os.execv('/bin/sh', ['sh', '-c', 'exit 7'])": "exited with code 7",
    "threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(60)": "exited with code 0",
    "atexit.register(os._exit, 0); 1 / 0": "ZeroDivisionError",
    "os.fork() or os._exit(0); os._exit(0)": "exited with code 0",
}


@pytest.mark.parametrize("does", cases(EARLY))
def test_who_ends_before_there_is_a_result_has_failed(shared: Running, does: str) -> None:
    job_id, why = 4000 + list(EARLY).index(does), EARLY[does]
    code, out, err = ends(shared, job_id, does)
    assert (code, out) == (1, "begins\n"), err
    task = until(lambda: (t := shared.reader().task("a", job_id)) and t.state == "failed" and t)
    assert why in task.reason
    assert why in err


KEPT = (
    "sys.stdout.close()",
    "os.close(1)",
    "os.close(1); open('/dev/null', 'w')",
    "sys.stdout = None",
    "sys.stdout = io.StringIO()",
    "sys.stdout = object()",
    "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
    "sys.stderr.close(); os.close(2)",
    "builtins.print = None",
    "json.dumps = json.loads = None",
    "sys.modules['json'] = sys.modules['msgspec'] = None",
    "os.write = os._exit = os.getpid = sys.exit = None",
    "atexit.register(os._exit, 0)",
    "atexit.register(os.kill, os.getpid(), signal.SIGKILL)",
)


@pytest.mark.parametrize("does", cases(KEPT))
def test_a_result_is_kept_whatever_the_code_has_done_to_its_output(shared: Running, does: str) -> None:
    job_id = 4100 + KEPT.index(does)
    code, out, err = ends(shared, job_id, does)
    assert code == 0, err
    assert json.loads(out.splitlines()[-1]) == {"n": 1}
    task = shared.reader().task("a", job_id)
    assert task is not None
    assert (task.state, shared.final_result(task)) == ("finished", {"n": 1})


@pytest.mark.parametrize(
    ("verdict", "code", "why"),
    [
        (f"exit {DONE}", 0, ""),
        (f"exit {FAILED}", 1, ""),
        ("exit 0", 1, "exited with code 0"),
        ("exit 3", 1, "exited with code 3"),
        ("signal 9", 1, "signal 9"),
        ("lost", 1, "signal 9"),
        ("limit The job printed too much.", 1, "printed"),
    ],
)
def test_a_runtimes_last_word_is_a_steps_exit_code(verdict: str, code: int, why: str) -> None:
    """The same for a warm runtime and for one that a step makes for itself."""
    found, reason = exit_of(verdict, [])
    assert (found, why in reason, bool(reason)) == (code, True, bool(why))


@pytest.mark.parametrize("does", cases(["os._exit(0)", "os.abort()", "os.execv('/bin/true', ['true'])"]))
def test_qslurm_run_says_so_too(tmp_path: Path, does: str) -> None:
    (tmp_path / "early.py").write_text(SOURCE.format(circuit=BELL, does=does))
    code, out, err = qslurm_run(tmp_path, "early.py", "--json")
    assert code == 6, err
    error = json.loads(out)["error"]
    assert (error["type"], EARLY[does] in error["message"]) == ("job_failed", True)
    assert "Traceback" not in err


@pytest.mark.parametrize("does", cases(["json.dumps = os.write = None", "os.close(1)", "sys.stdout.close()"]))
def test_qslurm_run_prints_the_one_document_whatever_the_code_has_done(tmp_path: Path, does: str) -> None:
    (tmp_path / "kept.py").write_text(SOURCE.format(circuit=BELL, does=f"os.write(1, b'noise'); {does}"))
    code, out, err = qslurm_run(tmp_path, "kept.py", "--json")
    assert code == 0, err
    assert json.loads(out) == {"final_result": {"n": 1}, "executions": 1, "remarks": []}


def qslurm_run(folder: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", QSLURM, "run", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, -15), (signal.SIGHUP, -1), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
)
def test_a_signal_ends_the_users_code_with_the_command(tmp_path: Path, number: int, code: int) -> None:
    does = "print(os.getpid(), flush=True); time.sleep(600)"
    (tmp_path / "sleeps.py").write_text(SOURCE.format(circuit=BELL, does=does))
    heeding = (
        f"import signal; signal.signal({signal.SIGHUP:d}, signal.SIG_DFL); "  # also where tests run by nohup
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", heeding + QSLURM, "run", "sleeps.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as run,
        ExitStack() as cleaning_up,
    ):
        cleaning_up.callback(run.kill)
        assert run.stdout is not None
        assert run.stdout.readline() == "begins\n"
        code_of_user = os.pidfd_open(int(run.stdout.readline()))
        run.send_signal(number)
        assert select.select([code_of_user], [], [], 30)[0]
        os.close(code_of_user)
        assert run.wait(30) == code
        assert run.stderr is not None
        assert "Traceback" not in run.stderr.read()
