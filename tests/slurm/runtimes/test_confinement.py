"""What a job sees of its node: the system, its own folder, and nothing of others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from c2_platform import Platform
from hybrid_jobs import FINALIZE, NOTHING, HybridJobs
from testbed.layout import Layout

from qslurm.runtimes.classical.view import WORK
from qslurm.runtimes.classical.warm.warm_status import query_warm_status

pytestmark = pytest.mark.slurm


def test_a_job_sees_the_system_its_own_folder_and_no_secret(either: HybridJobs) -> None:
    layout = either.layout
    port = either.platform.testbed.ports["jobmanager"]
    own = f"own-of-{either.platform.testbed.name}.txt"
    secrets = [layout.keys, layout.gate / "hooks.log", layout.store, layout.job_logs / "center_lumi"]
    source = (
        f"""
import os, socket
def attempt(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "done"
def readable(path):
    try:
        return os.listdir(path) if os.path.isdir(path) else open(path).read(1)
    except OSError:
        return False
def execute(qi):
    global found
    found = {{
        "seen": [path for path in {[str(path) for path in secrets]!r} if readable(path)],
        "system": attempt(lambda: open("/usr/lib/qslurm-was-here", "w")),
        "own": attempt(lambda: open("own.txt", "w").close()),
        "tmp": [os.listdir("/tmp"), attempt(lambda: open("/tmp/{own}", "w").close())],
        "network": attempt(lambda: socket.create_connection(("127.0.0.1", {port}), 2)),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")) < 8,
        "devices": sorted(os.listdir("/dev"))[:2],
    }}
    qi.execute_circuit("version 3.0; qubit[1] q; bit[1] b; b = measure q", 10)
"""
        + FINALIZE
    )
    found = either.found(source)
    assert found["seen"] == []
    assert found["system"] in {"OSError", "PermissionError"}
    assert found["own"] == "done"
    assert found["tmp"] == [[WORK.name], "done"]
    assert found["network"] in {
        "OSError",
        "ConnectionRefusedError",
    }  # there is nothing, or a loopback of its own
    assert found["processes"] is True
    assert not Path("/tmp", own).exists()


LEAVES = """
import os
def execute(qi):
    global found
    places = (".", "/tmp", "/var/tmp", "/dev/shm", "{work}")
    found = {{"seen": [name for place in places if os.path.isdir(place) for name in os.listdir(place)]}}
    for place in places:
        try:
            open(f"{{place}}/left-by-{name}-{{os.environ['SLURM_JOB_ID']}}", "w").write("x")
        except OSError:
            pass
""" + FINALIZE.replace("{", "{{").replace("}", "}}")


def test_what_a_job_leaves_in_any_folder_nobody_finds(either: HybridJobs) -> None:
    work, name = either.layout.work, either.platform.testbed.name
    # what unconfined scripts left that were killed
    before = {left for user in work.iterdir() for left in user.iterdir()}
    for user in ("center_lumi", "center_snellius", "center_snellius"):
        found = either.found(LEAVES.format(work=work / user, name=name), user=user)
        assert found["seen"] == [WORK.name]
    places = ("/tmp", "/var/tmp", "/dev/shm")
    assert not [left for place in places for left in Path(place).glob(f"left-by-{name}-*")]
    assert {left for user in work.iterdir() for left in user.iterdir()} <= before


FOLDERS: dict[str, Callable[[Layout], Path]] = {
    "everybody's": lambda _: Path("/tmp"),
    "its center's logs": lambda layout: layout.job_logs / "center_snellius",
    "all logs": lambda layout: layout.job_logs,
    "what contains them": lambda layout: layout.folder,
    "everything": lambda _: Path("/"),
    "another center's": lambda layout: layout.work / "center_lumi",
    "none": lambda layout: layout.folder / "there-is-none",
}


def test_whatever_folder_a_payload_asks_for_a_job_has_its_own(jobs: HybridJobs) -> None:
    """Also with its input from there: Slurm opens that before anything of ours runs."""
    layout = jobs.layout
    colleague = jobs.submit(NOTHING)
    jobs.ended(colleague)
    log = layout.job_logs / "center_snellius" / f"{colleague}.out"
    before = log.read_text()
    source = (
        f"""
import os, sys
def execute(qi):
    global found
    def log():
        try:
            return open({str(log)!r}, "r+").read()
        except OSError as error:
            return None
    found = {{"here": os.getcwd(), "names": os.listdir("."), "log": log(), "input": sys.stdin.read()}}
"""
        + FINALIZE
    )
    asked = {
        which: jobs.submit(source, f"--chdir={folder(layout)}", f"--input={log}")
        for which, folder in FOLDERS.items()
    }
    for which, job_id in asked.items():
        assert jobs.result(job_id) == {"here": str(WORK), "names": [], "log": None, "input": ""}, which
    assert log.read_text() == before


@pytest.fixture
def classical(platform: Platform) -> Iterator[None]:
    """C2 with a further partition that is not a backend's."""
    platform.scontrol("create", "PartitionName=classical", "Nodes=ALL", "State=UP")
    yield
    platform.scontrol("delete", "PartitionName=classical")


@pytest.mark.usefixtures("classical")
def test_nobody_moves_a_job_that_waits_to_another_folder_log_or_partition(jobs: HybridJobs) -> None:
    layout, platform = jobs.layout, jobs.platform
    log = layout.job_logs / "center_snellius" / "1.out"
    job_id = jobs.submit(NOTHING, "--hold")
    names = ("WorkDir", "StdOut", "StdErr", "StdIn", "Partition")
    before = {name: platform.job(job_id)[name] for name in names}
    for name, value in zip(names, (layout.job_logs, log, log, log, "classical"), strict=True):
        command = ["scontrol", "update", f"JobId={job_id}", f"{name}={value}"]
        assert platform.testbed.c2(command, user="center_snellius").returncode != 0, name
    assert {name: platform.job(job_id)[name] for name in names} == before
    platform.testbed.c2(["scontrol", "release", str(job_id)], user="center_snellius")
    assert jobs.ended(job_id)["state"] == "finished"


SEES = """
import os
def execute(qi):
    global found
    found = {{"logs": os.path.exists({logs!r}), "devices": sorted(os.listdir("/dev"))[:1], "here": os.getcwd()}}
""" + FINALIZE.replace("{", "{{").replace("}", "}}")


@pytest.fixture
def no_processes(jobs: HybridJobs) -> Iterator[None]:
    """Limit the service to one child process, so that it cannot fork enough runtimes."""
    places = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]
    place = next((one for one in places if (one / "cgroup.procs").exists()), None)
    if place is None:
        pytest.skip("there is no cgroup that counts processes")
    group = place / f"qslurm-{jobs.platform.testbed.name}-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / "pids.max").exists():
            pytest.skip("there is no cgroup that counts processes")
        (group / "cgroup.procs").write_text(str(jobs.platform.testbed.pid("runtimes")))
        (group / "pids.max").write_text("2")
        yield
    finally:
        jobs.platform.testbed.stop("runtimes")
        for pid in (group / "cgroup.procs").read_text().split():
            (place / "cgroup.procs").write_text(pid)
        group.rmdir()
        jobs.platform.testbed.start("runtimes")


@pytest.mark.usefixtures("no_processes")
def test_a_host_that_is_short_of_processes_confines_every_job_all_the_same(jobs: HybridJobs) -> None:
    source = SEES.format(logs=str(jobs.layout.job_logs / "center_lumi"))
    for _ in range(4):  # the first ones get runtimes that were there before
        assert jobs.found(source) == {"logs": False, "devices": ["fd"], "here": str(WORK)}
    status = query_warm_status(str(jobs.layout.runtimes_socket))
    assert status is not None
    assert status.ready < status.wanted
