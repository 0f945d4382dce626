"""`qslurm run` where the system gives it little: it runs, or says in a sentence why not; and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from qslurm.system.child_process import command
from tests.unit.c2.dispatcher.running import BELL
from tests.unit.local.local_runs import ENDS_S, environment, nothing_is_left, run
from tests.unit.waiting import until


@pytest.fixture
def bell(tmp_path: Path) -> Path:
    path = tmp_path / "bell.cq"
    path.write_text(BELL)
    return path


@pytest.mark.parametrize(
    "shell",
    [
        "ulimit -v 4000000; {run}",  # what QX may take at most is more: the hard limit holds
        "ulimit -n 40; {run}",
        "{run} <&-",
        "{run} <&- 2>&-",
    ],
)
def test_it_runs_within_limits_that_login_nodes_set(bell: Path, shell: str) -> None:
    ended = run(bell, "--shots", "10", "--json", shell=shell)
    assert (ended.code, '"shots":10' in ended.stdout) == (0, True), ended.stderr


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("ulimit -n 12; {run}", "`ulimit -n` is 12"),  # not even its dispatcher
        ("ulimit -f 0; {run}", "`ulimit -f` is 0"),  # its dispatcher has no folder
        (
            "ulimit -f 1; {run}",
            "quantum runtime cannot start: File too large",
        ),  # each of three quantum runtimes
        ("{run} > /dev/full", "No space left on device"),
    ],
)
def test_what_it_lacks_is_said_in_a_sentence(bell: Path, shell: str, said: str) -> None:
    ended = run(bell, shell=shell)
    assert (ended.code, said in ended.sentence) == (1, True), ended.stderr


def test_no_output_at_all_costs_nothing_but_the_output(bell: Path) -> None:
    ended = run(bell, shell="{run} <&- >&- 2>&-")
    assert (ended.code, ended.stderr) == (0, "")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody who may start nothing")
@pytest.mark.parametrize(
    ("suffix", "text"), [(".cq", BELL), (".py", "def execute(qi): pass\ndef finalize(m): return {}\n")]
)
def test_who_may_start_no_process_is_told_so(bell: Path, suffix: str, text: str) -> None:
    """As a user of its own, whom the limit holds for (getrlimit(2)); this one can read little, so nothing else runs."""
    bell.parent.chmod(0o755)
    nobody = (
        "exec setpriv --reuid=65432 --regid=65432 --clear-groups bash -c 'ulimit -u 1; \"$@\"' bash {run}"
    )
    probe = subprocess.run(
        ["bash", "-c", nobody.format(run=f"{sys.executable} -c 'import qslurm'")],
        env=environment(""),
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip("this checkout is nobody else's to read")
    source = Path("/dev/shm") / f"{uuid.uuid4().hex}{suffix}"
    source.write_text(text)
    try:
        ended = run(source, shell=nobody)
    finally:
        source.unlink()
    assert (ended.code, "`ulimit -u` is 1" in ended.sentence) == (1, True), ended.stderr


def test_a_foreign_json_on_the_path_is_none_of_its_business(bell: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('foreign')\n")
    ended = run(bell, PYTHONPATH=f"{tmp_path}:{environment('')['PYTHONPATH']}")
    assert ended.code == 0, ended.stderr


@pytest.mark.parametrize("module", ["qslurm.local.local_dispatcher", "qslurm.runtimes.quantum.process"])
@pytest.mark.parametrize("said", [b"", b'{"parent": 1, "conn'])
def test_what_it_starts_ends_quietly_if_it_ends_before_it_has_said_everything(
    module: str, said: bytes
) -> None:
    """As when Ctrl-C comes a tenth of a second after the start."""
    done = subprocess.run(command(module), input=said, capture_output=True, timeout=ENDS_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_ctrl_c_at_any_moment_is_no_traceback(bell: Path) -> None:
    """From when it has begun (before that it is Python's own start), as a terminal sends it: to all of them."""
    for begun in ("dispatcher", "dispatcher's word", "quantum runtime"):
        mark = uuid.uuid4().hex
        process = subprocess.Popen(
            [sys.executable, "-m", "qslurm", "run", str(bell)],
            env=environment(mark),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        (dispatcher,) = until(lambda pid=process.pid: _children(pid))
        if begun == "quantum runtime":
            until(lambda pid=dispatcher: _children(pid))
        elif begun == "dispatcher's word":
            until(lambda pid=dispatcher: Path(f"/proc/{pid}/comm").exists())
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=ENDS_S)
        assert process.returncode in {130, -signal.SIGINT}, said
        assert b"Traceback" not in said
        nothing_is_left(mark)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in path.read_text().split()]
        except OSError:
            continue
    return found
