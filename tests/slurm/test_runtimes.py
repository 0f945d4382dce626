"""Classical runtimes on real Slurm: warm, the job's user's, behind a wall, and ended when they use too much."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from harm import HARM
from testbed.layout import Layout
from testbed.process import environment, everything

from qslurm.payload.envelope import Envelope, pack
from qslurm.runtimes.classical.view import WORK

from .conftest import HAND_OVER, Platform

pytestmark = pytest.mark.slurm

FINALIZE = "\ndef finalize(m):\n    return found\n"
NOTHING = "found = {'calm': True}\ndef execute(qi):\n    pass\n" + FINALIZE
ENDLESS = (
    """
import time
def execute(qi):
    print("begun", flush=True)
    time.sleep(1000)
found = {}
"""
    + FINALIZE
)


class Jobs:
    """What a center's user sends, and what becomes of it."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.layout = platform.testbed.layout

    def submit(self, source: str, *options: str, user: str = "center_snellius") -> int:
        data = pack(Envelope(kind="hybrid", source=source, file="job.py"))
        return self.platform.submit(f"{HAND_OVER}{data}\n", *options, user=user, kind="hybrid")

    def ended(self, job_id: int, *, center: str = "snellius") -> dict[str, object]:
        """The job as it is stored, once it has ended."""
        self.platform.until(lambda: self.platform.stored(job_id, center=center).get("finished_at"))
        self.platform.until(lambda: self.platform.state(job_id) not in {"RUNNING", "COMPLETING"})
        return self.platform.stored(job_id, center=center)

    def found(self, source: str, *options: str, user: str = "center_snellius") -> dict[str, object]:
        """The final result of a hybrid file, which must have one."""
        return self.result(self.submit(source, *options, user=user), user)

    def result(self, job_id: int, user: str = "center_snellius") -> dict[str, object]:
        """The final result of a job, once it has ended; it must have one."""
        center = user.removeprefix("center_")
        job = self.ended(job_id, center=center)
        assert job["state"] == "finished", (job, self.log(job_id, user))
        result = self.platform.ask(f"jobs/{job_id}/results", center=center).json()["final_result"]
        assert isinstance(result, dict)
        return result

    def log(self, job_id: int, user: str = "center_snellius") -> str:
        path = self.layout.job_logs / user / f"{job_id}.out"
        return path.read_text()[:10_000] if path.exists() else ""

    def service_log(self) -> str:
        return (self.layout.logs / "runtimes.log").read_text()

    def runtime_of(self, job_id: int) -> int:
        """The process that watches over a job."""
        words = f'event="warm runtime assigned" job={job_id} '
        line = next(line for line in self.service_log().splitlines() if words in line)
        return int(line.rsplit("pid=", 1)[1])


@pytest.fixture
def jobs(platform: Platform) -> Jobs:
    return Jobs(platform)


@pytest.fixture(params=["warm", "cold"])
def either(request: pytest.FixtureRequest, jobs: Jobs) -> Iterator[Jobs]:
    """With the service, and without it."""
    if request.param == "cold":
        jobs.platform.testbed.stop("runtimes")
    yield jobs
    if request.param == "cold":
        jobs.platform.testbed.start("runtimes")


# --- warm --------------------------------------------------------------------------------------------


def test_a_warm_runtime_is_the_jobs_user_without_any_privilege(jobs: Jobs) -> None:
    source = (
        """
import os, pathlib, sys
imported = "scipy.optimize" in sys.modules
def execute(qi):
    global found
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\\t", 1) for line in lines if ":" in line)
    found = {
        "imported": imported, "uids": os.getresuid(), "gids": os.getresgid(), "new": status["NoNewPrivs"],
        "capabilities": sorted({status[name] for name in status if name.startswith("Cap")}),
        "folder": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd"))[:3], "job": os.environ["SLURM_JOB_ID"],
        "random": __import__("numpy").random.random(), "other": __import__("random").random(),
    }
"""
        + FINALIZE
    )
    import pwd

    entry = pwd.getpwnam("center_snellius")
    one, two = jobs.found(source), jobs.found(source)
    for found in (one, two):
        assert found["imported"] is True
        assert found["uids"] == [entry.pw_uid] * 3
        assert found["gids"] == [entry.pw_gid] * 3
        assert found["new"] == "1"
        assert found["capabilities"] == ["0" * 16]
        assert found["folder"] == str(WORK)
    assert one["job"] != two["job"]
    assert one["random"] != two["random"]
    assert one["other"] != two["other"]


def test_a_job_ends_with_its_step_whatever_ends_that(jobs: Jobs) -> None:
    """scancel, and a step that is killed: the runtime, which Slurm did not start, is gone at once."""
    for end in ("scancel", "kill"):
        job_id = jobs.submit(ENDLESS)
        jobs.platform.until(lambda job_id=job_id: "begun" in jobs.log(job_id))
        runtime = jobs.runtime_of(job_id)
        assert Path(f"/proc/{runtime}").exists()
        if end == "scancel":
            jobs.platform.testbed.c2(["scancel", str(job_id)])
        else:
            os.kill(step_of(job_id, jobs.layout), signal.SIGKILL)
        jobs.platform.until(lambda runtime=runtime: not Path(f"/proc/{runtime}").exists())
        job = jobs.ended(job_id)
        assert job["state"] == ("cancelled" if end == "scancel" else "failed"), (job, jobs.log(job_id))


def step_of(job_id: int, layout: Layout) -> int:
    """The process of a job's step, by the environment that Slurm gave it; and of which testbed."""
    wanted = {"SLURM_JOB_ID": str(job_id), "SLURM_CONF": str(layout.c2_conf)}
    for one in everything():
        if wanted.items() <= environment(one).items() and "client.py" in command_line(one.pid):
            return one.pid
    raise AssertionError(f"job {job_id} has no step")


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


_WAITS_FOR_A_SIGNAL = (
    """
import signal, time
found = {}
def note(number, frame):
    found["signal"] = number
signal.signal(signal.SIGUSR1, note)
def execute(qi):
    print("begun", flush=True)
    while not found:
        time.sleep(0.05)
"""
    + FINALIZE
)


def _signal(jobs: Jobs, job_id: int) -> None:
    jobs.platform.testbed.c2(["scancel", "--batch", "--signal=USR1", str(job_id)])


def test_signals_reach_the_users_code(jobs: Jobs) -> None:
    job_id = jobs.submit(_WAITS_FOR_A_SIGNAL)
    jobs.platform.until(lambda: "begun" in jobs.log(job_id))
    _signal(jobs, job_id)
    assert jobs.ended(job_id)["state"] == "finished"


def test_a_restart_of_the_service_leaves_a_running_job_alone(jobs: Jobs) -> None:
    job_id = jobs.submit(_WAITS_FOR_A_SIGNAL)
    jobs.platform.until(lambda: "begun" in jobs.log(job_id))
    service = jobs.platform.testbed.pid("runtimes")
    assert service is not None
    os.kill(service, signal.SIGKILL)  # the testbed's own `kill` and `up` would end the job, too
    _signal(jobs, job_id)
    assert jobs.ended(job_id)["state"] == "finished"
    jobs.platform.testbed.up()


# --- behind the wall ---------------------------------------------------------------------------------


def test_a_job_sees_the_system_its_own_folder_and_no_secret(either: Jobs) -> None:
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


def test_what_a_job_leaves_in_any_folder_nobody_finds(either: Jobs) -> None:
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


def test_whatever_folder_a_payload_asks_for_a_job_has_its_own(jobs: Jobs) -> None:
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
    """C2 has a partition of another kind, too."""
    platform.scontrol("create", "PartitionName=classical", "Nodes=ALL", "State=UP")
    yield
    platform.scontrol("delete", "PartitionName=classical")


@pytest.mark.usefixtures("classical")
def test_nobody_moves_a_job_that_waits_to_another_folder_log_or_partition(jobs: Jobs) -> None:
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
def no_processes(jobs: Jobs) -> Iterator[None]:
    """The service may have no more than one process beside itself, so that no runtime can be made."""
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
def test_a_host_that_is_short_of_processes_confines_every_job_all_the_same(jobs: Jobs) -> None:
    source = SEES.format(logs=str(jobs.layout.job_logs / "center_lumi"))
    offset = len(jobs.service_log())
    for _ in range(4):  # the first ones get runtimes that were there before
        assert jobs.found(source) == {"logs": False, "devices": ["fd"], "here": str(WORK)}
    assert "cannot prepare a warm runtime" in jobs.service_log()[offset:]


# --- scripts -----------------------------------------------------------------------------------------


@pytest.fixture
def confined_scripts(jobs: Jobs) -> Iterator[Jobs]:
    """C2 as it is shipped, where the stories of scripts have it otherwise."""
    testbed = jobs.platform.testbed
    file = testbed.layout.c2_qslurm
    text = file.read_text()
    assert "\nconfine_scripts = false\n" in text
    file.write_text(text.replace("\nconfine_scripts = false\n", "\nconfine_scripts = true\n"))
    testbed.restart("runtimes")
    yield jobs
    testbed.up()


ATTACKS = """
cat {logs}/center_snellius/{colleague}.out {logs}/center_lumi/*
echo forged >>{logs}/center_snellius/{colleague}.out
cat {spool}/job*/slurm_script
touch {work}/center_snellius/left /tmp/{left} /var/tmp/{left} /dev/shm/{left}
timeout 5 scancel {colleague}
timeout 5 sbatch --partition=p_qx --wrap=true
echo id=$(id -un) folder=$(pwd) privileges=$(grep -c 'NoNewPrivs:.1' /proc/self/status)
"""


@pytest.mark.parametrize("how", ["warm", "cold"])
def test_a_script_can_do_nothing_to_its_colleagues(confined_scripts: Jobs, how: str) -> None:
    jobs, layout = confined_scripts, confined_scripts.layout
    if how == "cold":
        jobs.platform.testbed.stop("runtimes")
    colleague = jobs.submit(ENDLESS)
    jobs.platform.until(lambda: "begun" in jobs.log(colleague))
    left = f"left-by-{jobs.platform.testbed.name}"
    lines = ATTACKS.format(
        logs=layout.job_logs, colleague=colleague, spool=layout.spool("c2"), work=layout.work, left=left
    )
    job_id = jobs.platform.submit_script(lines)
    jobs.platform.until_state(job_id, "COMPLETED")
    said = jobs.log(job_id)
    assert "id=center_snellius folder=/tmp/job privileges=1" in said
    assert "execute" not in said
    assert "Submitted batch job" not in said
    assert jobs.log(colleague).splitlines()[-1] == "begun"
    assert jobs.platform.state(colleague) == "RUNNING"
    assert not [place for place in ("/tmp", "/var/tmp", "/dev/shm") if Path(place, left).exists()]
    assert list((layout.work / "center_snellius").iterdir()) == []


def test_a_confined_script_ends_as_it_says_and_as_it_is_told(confined_scripts: Jobs) -> None:
    jobs, platform = confined_scripts, confined_scripts.platform
    fails = platform.submit_script("exit 3")
    dies = platform.submit_script("kill -SEGV $$")
    sleeps = platform.submit_script("echo begun; sleep 300")
    platform.until_state(fails, "FAILED")
    assert platform.job(fails)["ExitCode"] == "3:0"
    platform.until_state(dies, "FAILED")
    assert platform.job(dies)["ExitCode"] == "0:11"
    platform.until(lambda: "begun" in jobs.log(sleeps))
    platform.testbed.c2(["scancel", str(sleeps)])
    platform.until_state(sleeps, "CANCELLED")
    assert jobs.ended(sleeps)["state"] == "cancelled"


def test_a_script_that_is_not_confined_has_a_folder_of_its_own_all_the_same(jobs: Jobs) -> None:
    line = "pwd; ls -A; touch left"
    for job_id in [jobs.platform.submit_script(line), jobs.platform.submit_script(line)]:
        jobs.platform.until_state(job_id, "COMPLETED")
        (folder,) = jobs.log(job_id).split()
        assert Path(folder).is_relative_to(jobs.layout.work / "center_snellius")
    assert list((jobs.layout.work / "center_snellius").iterdir()) == []


ENVIRONMENTS = {
    "BASH_ENV": "$({run})",
    "ENV": "$({run})",
    "BASH_FUNC_exec%%": "() {{ {run}; }}",
    "BASH_FUNC_command%%": "() {{ {run}; }}",
    "SHELLOPTS": "xtrace",
    "PS4": "$({run})",
}


def test_nothing_in_a_payloads_environment_is_run_before_it_is_confined(jobs: Jobs) -> None:
    ran = jobs.layout.work / "center_snellius" / "ran"
    environment = {name: value.format(run=f"touch {ran}") for name, value in ENVIRONMENTS.items()}
    job = {
        "name": "x",
        "partition": "p_qx",
        "current_working_directory": "/",
        "environment": {"PATH": "/usr/bin:/bin"} | environment,
    }
    data = pack(Envelope(kind="hybrid", source=NOTHING, file="job.py"))
    payload = {"job": job, "script": f"{HAND_OVER}{data}\n"}

    def sent() -> dict[str, Any]:
        token = jobs.platform.testbed.token("snellius")
        headers = {"X-SLURM-USER-NAME": "center_snellius", "X-SLURM-USER-TOKEN": token}
        url = f"{jobs.platform.testbed.rest_url}/slurm/v0.0.38/job/submit"
        answer = requests.post(url, json=payload, headers=headers, timeout=60).json()
        assert isinstance(answer, dict)
        return answer

    job_id = sent()["job_id"]
    assert jobs.ended(job_id)["state"] == "finished", jobs.log(job_id)
    assert not ran.exists()
    log = jobs.layout.job_logs / "center_snellius" / f"{job_id}.out"
    job["environment"] = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(log)}
    refusal = sent()
    assert not refusal.get("job_id"), refusal
    assert refusal["errors"][0]["error_code"] == 2037, refusal


# --- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", HARM)
def test_a_job_that(what: str, jobs: Jobs) -> None:
    """ends with a reason in its result; its neighbours, another center's and its own, don't notice."""
    source, reasons = HARM[what]
    bad = jobs.submit("found = {}\n" + source + FINALIZE)
    assert jobs.found(NOTHING, user="center_lumi") == {"calm": True}
    assert jobs.found(NOTHING) == {"calm": True}
    job = jobs.ended(bad)
    assert job["state"] == "failed"
    assert any(reason in str(job["reason"]) for reason in reasons), job["reason"]
    assert (jobs.layout.job_logs / "center_snellius" / f"{bad}.out").stat().st_size < 70_000_000


def test_a_job_without_a_result_has_failed_and_one_with_a_result_has_it(either: Jobs) -> None:
    """However its code ends the process, and whatever it does to its output; Slurm says the same."""

    def hybrid(does: str) -> int:
        return either.submit(f"import os, sys\nfound = {{'n': 1}}\ndef execute(qi):\n    {does}\n{FINALIZE}")

    early = [hybrid("os._exit(0)"), hybrid("os.execv('/bin/true', ['true'])"), hybrid("sys.exit(0)")]
    kept = [hybrid("sys.stdout.close()"), hybrid("os.close(1)"), hybrid("__import__('json').dumps = None")]
    for job_id in early:
        job = either.ended(job_id)
        assert (job["state"], "exited with code 0 before it had a result" in str(job["reason"])) == (
            "failed",
            True,
        )
        assert either.platform.state(job_id) == "FAILED"
    for job_id in kept:
        assert either.result(job_id) == {"n": 1}
        assert either.platform.state(job_id) == "COMPLETED"
        assert either.log(job_id).splitlines()[-1] == '{"n":1}'


def test_without_the_service_a_job_that_prints_1_gb_ends_with_a_reason_too(jobs: Jobs) -> None:
    jobs.platform.testbed.stop("runtimes")
    try:
        job = jobs.ended(jobs.submit("found = {}\n" + HARM["prints 1 GB"][0] + FINALIZE))
    finally:
        jobs.platform.testbed.start("runtimes")
    assert (job["state"], "printed more than" in str(job["reason"])) == ("failed", True)


def test_rubbish_does_not_hurt_the_service(jobs: Jobs) -> None:
    path = str(jobs.layout.runtimes_socket)
    for message, count in ((b"", 0), (b"1", 0), (b"x" * 5000, 2), (b"1", 5), (b"1", 200), (b"status", 0)):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(path)
        if message:
            socket.send_fds(link, [message], [0] * count)
        link.close()
    idle = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(100)]
    for link in idle:
        link.setblocking(False)
        link.connect_ex(path)
    pid = jobs.platform.testbed.pid("runtimes")
    assert jobs.found(NOTHING) == {"calm": True}
    for link in idle:
        link.close()
    assert jobs.platform.testbed.pid("runtimes") == pid
    assert jobs.found(NOTHING) == {"calm": True}


def test_the_doctor_finds_nothing_wrong_and_then_what_is_missing(jobs: Jobs) -> None:
    testbed = jobs.platform.testbed
    assert testbed.c2(["qslurm", "doctor"]).returncode == 0
    testbed.stop("dispatcher")
    done = testbed.c2(["qslurm", "doctor"])
    testbed.up()
    assert done.returncode == 1
    assert "dispatcher" in done.stdout
    assert testbed.c1(["qslurm", "doctor"]).returncode == 0
