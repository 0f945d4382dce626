"""How the state of things looks on a terminal."""

from __future__ import annotations

import time
from typing import Any

import pytest

from qslurm.cli.dispatcher_status import print_status
from qslurm.protocol.messages import BackendStatus, HoldStatus, Status, TaskStatus, WaitingStatus
from qslurm.runtimes.classical.warm.warm_status import WarmStatus


def status(**more: Any) -> Status:
    backend = BackendStatus(
        name="qx", state="executing", reason="", since=0.0, qubits=26, max_shots=10, default_shots=5,
        runtimes=1, queued=2, executing=1,
    )  # fmt: skip
    return Status(
        version="1", pid=4, started=time.time() - 65, ready=True, reason="", backends=[backend], **more
    )


def test_everything_there_is_stands_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    seen = status(
        scope="all",
        open_jobs=2,
        tasks=[
            TaskStatus(
                job_id=12, restart=0, center="snellius", backend="qx", kind="hybrid", state="running",
                since=now - 3700, executions=38, queued=2,
            )
        ],
        holds=[
            HoldStatus(backend="qx", job_id=11, center="lumi", by="lane", since=now - 3, idle_s=0.25),
            HoldStatus(backend="qx", job_id=10, center="lumi", by="session", since=now - 3, until=now + 9),
        ],
        queue=[
            WaitingStatus(
                backend="qx", position=1, job_id=12, restart=0, center="snellius", seq=38, shots=1024,
                since=now - 2, reason="1 of 2 in the queue of qx",
            )
        ],
        queue_left={"qx": 41, "spin2": 0},
    )  # fmt: skip
    print_status(seen, WarmStatus(ready=2, wanted=2, given=7, confined=True, pid=1, cold=1))
    out, err = capsys.readouterr()
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "warm runtimes 2 of 2 ready on this host, 7 used by jobs, 1 cold starts" in rows
    assert "12 snellius qx hybrid running 1 h 1 min 38 0 2" in rows
    assert "qx 11 lumi lane 3 s 250 ms others wait" in rows
    assert "qx 1 12 snellius 38 1024 2 s 1 of 2 in the queue of qx" in rows
    assert rows[-1] == "41 more queued for qx"
    assert err == ""


@pytest.mark.parametrize(
    ("scope", "why", "said"),
    [
        ("own", "", "qslurm: Only your own jobs are listed; the counts include all jobs.\n"),
        ("none", "No munge.", "qslurm: No jobs are listed: No munge.\n"),
    ],
)
def test_who_does_not_see_all_is_told(
    scope: Any, why: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(status(tasks=[], scope=scope, scope_reason=why), None)
    out, err = capsys.readouterr()
    assert err == said
    assert "JOBID" not in out
    assert "POSITION" not in out


def test_a_name_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hold = HoldStatus(backend="q\x1b[2Jx", job_id=1, center="a\nb", by="lane", since=0.0)
    print_status(status(tasks=[], scope="all", holds=[hold]), None)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a\nb" not in out
