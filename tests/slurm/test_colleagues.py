"""Researchers of a center share a unix user on C2, and their jobs cannot reach each other."""

from __future__ import annotations

import json
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest
from c2_platform import HAND_OVER, Platform
from harm import ASKS, ASKS_AS_HYBRID
from testbed.process import with_above

from qslurm.payload.envelope import Envelope, pack

pytestmark = pytest.mark.slurm

WAITS = """
import time
def execute(qi):
    print("begun", flush=True)
    time.sleep(1000)
def finalize(m):
    return {}
"""

SCRIPT = """
import json
print(json.dumps(attack()))
"""


def hybrid(platform: Platform, source: str) -> int:
    data = pack(Envelope(kind="hybrid", source=source, file="job.py"))
    return platform.submit(f"{HAND_OVER}{data}\n", "--chdir=/tmp", kind="hybrid")


def log_of(platform: Platform, job_id: int) -> str:
    path = platform.testbed.layout.job_logs / "center_snellius" / f"{job_id}.out"
    return path.read_text() if path.exists() else ""


def running_jobs(platform: Platform) -> tuple[int, int]:
    """A running hybrid job and a running script of a colleague."""
    job_id = hybrid(platform, WAITS)
    platform.until(lambda: "begun" in log_of(platform, job_id), seen=lambda: log_of(platform, job_id))
    return job_id, platform.submit_endless()


def past_job(platform: Platform) -> int:
    job_id = platform.submit_bell()
    platform.until_state(job_id, "COMPLETED")
    return job_id


def said_by_script(platform: Platform, source: str) -> Any:
    """The JSON in the last line of a script's output."""
    job_id = platform.submit_script(f"{sys.executable} -I - <<'END'\n{source}END")
    platform.until_state(job_id, "COMPLETED")
    return json.loads(log_of(platform, job_id).strip().splitlines()[-1])


@pytest.mark.parametrize("kind", ["hybrid", "script"])
def test_a_job_gets_nothing_of_a_colleagues_job_and_does_nothing_to_it(platform: Platform, kind: str) -> None:
    past, (victim, script) = past_job(platform), running_jobs(platform)
    attack = ASKS.replace("JOB_IDS", str([past, victim, script]))
    if kind == "hybrid":
        attacker = hybrid(platform, attack + ASKS_AS_HYBRID)
        platform.until(
            lambda: platform.stored(attacker).get("finished_at"), seen=lambda: log_of(platform, attacker)
        )
        said = platform.ask(f"jobs/{attacker}/results").json()["final_result"]
    else:
        said = said_by_script(platform, attack + SCRIPT)
    assert said
    assert {tuple(answer) for answer in said.values()} == {("Refused", "permission")}, said
    assert victim in platform.open_tasks()
    assert script in platform.open_tasks()
    assert platform.stored(victim)["state"] == "running"


LOOK = """
import json, os
from pathlib import Path
said = {}
for process in Path("/proc").iterdir():
    try:
        if not process.name.isdigit():
            continue
        status = (process / "status").read_text()
        own = f"Uid:\\t{os.getuid()}\\t" in status and process.name != str(os.getpid())
    except OSError:
        continue
    for name in ("mem", "environ", "fd/0") if own else ():
        try:
            os.close(os.open(process / name, os.O_RDONLY))
        except OSError as error:
            said.setdefault(process.name, []).append(type(error).__name__)
        else:
            said.setdefault(process.name, []).append("open")
print(json.dumps(said))
"""


def test_a_script_reads_nothing_out_of_a_colleagues_warm_runtime(platform: Platform) -> None:
    job_id = hybrid(platform, WAITS)
    platform.until(lambda: "begun" in log_of(platform, job_id), seen=lambda: log_of(platform, job_id))
    said = said_by_script(platform, LOOK)
    service = platform.testbed.pid("runtimes")
    assert service is not None
    runtimes = [each for pid, each in said.items() if service in with_above(int(pid))]
    assert runtimes, said
    assert all(each == ["PermissionError"] * 3 for each in runtimes), said


def test_what_parses_circuits_is_no_user_who_can_read_what_the_dispatcher_keeps(platform: Platform) -> None:
    testbed = platform.testbed
    platform.until_state(platform.submit_bell(), "COMPLETED")
    dispatcher = testbed.pid("dispatcher")
    (starter,) = children(dispatcher)
    user = pwd.getpwnam("qslurm-quantum")
    for runtime in children(starter):
        lines = Path(f"/proc/{runtime}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        assert status["Uid"].split() == [str(user.pw_uid)] * 4
        assert status["Seccomp"] == "2"
    for secret in (testbed.layout.store, testbed.layout.store.with_name("sessions.key")):
        assert secret.exists()
        done = testbed.c2(["cat", str(secret)], user="qslurm-quantum")
        assert done.returncode != 0
        assert "Permission denied" in done.stderr


def children(pid: int | None) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
