"""Commands that Slurm users know, on C1."""

import json
from xml.etree import ElementTree

import pytest
from people import Researcher, eventually, operator

pytestmark = pytest.mark.slurm

RABI = """// #QSLURM --backend qx --shots 200
version 3.0
qubit q
bit b
Rx({{ theta }}) q
b = measure q
"""

HYBRID = """#QSLURM --backend qx
def execute(qi):
    qi.execute_circuit("version 3.0; qubit q; bit b; X q; b = measure q", 10)
    print("theta is", qi.parameters["theta"], flush=True)

def finalize(results):
    return {"as written": "{{ theta }}"}
"""

SCRIPT = """#!/bin/bash
#QSLURM --partition p_qx --time 5
echo "task $SLURM_ARRAY_TASK_ID has theta $theta and phi $phi, of here $HERE, and [$HQ_JOB_ID]"
"""


@pytest.fixture
def alice(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    researcher = Researcher(testbed)
    researcher.has_example("bell.cq")
    researcher.writes("rabi.cq", RABI)
    return researcher


def test_a_sweep_is_one_job_whose_tasks_have_values_and_results_of_their_own(alice):
    job = alice.submits("rabi.cq", "--sweep", "theta=0:3.14159265/3")
    done = alice.types("wait", str(job))
    assert done.returncode == 0, done.stderr
    tasks = alice.gets("results", str(job))["tasks"]
    assert [task["id"] for task in tasks] == [f"{job}_{index}" for index in range(3)]
    assert [task["parameters"]["theta"] for task in tasks] == ["0", "1.570796325", "3.14159265"]
    assert (tasks[0]["counts"], tasks[2]["counts"]) == ({"0": 200}, {"1": 200})
    assert set(tasks[1]["counts"]) == {"0", "1"}
    assert alice.gets("results", f"{job}_2")["counts"] == {"1": 200}
    assert [one["array_task_id"] for one in alice.gets("show", str(job))["tasks"]] == [0, 1, 2]

    rows = alice.types("results", str(job), "--csv").stdout.splitlines()
    assert (rows[0], rows[1]) == ("task,theta,bits,count,share", f"{job}_0,0,0,200,1.0")
    assert alice.types("results", str(job), "--plot", "rabi.svg").returncode == 0
    ElementTree.parse(alice.folder / "rabi.svg")
    assert "200" in alice.types("logs", f"{job}_0").stdout
    assert f"{job}_0" in alice.types("logs", str(job)).stderr


def test_a_hybrid_file_and_a_batch_script_find_the_values_of_their_task(alice):
    alice.writes("sweep.py", HYBRID)
    hybrid = alice.submits("sweep.py", "--sweep", "theta=0.5,1.5")
    alice.writes("sweep.sh", SCRIPT)
    grid = ("--sweep", "theta=0.5,1.5", "--sweep", "phi=a,b", "--array", "1-2")
    script = alice.submits("sweep.sh", *grid, "--export", "HERE=yes")
    assert alice.types("wait", str(hybrid)).returncode == 0
    assert "theta is 1.5" in alice.types("logs", f"{hybrid}_1").stdout
    assert alice.gets("results", f"{hybrid}_0")["final_result"] == {"as written": "{{ theta }}"}
    assert alice.types("wait", str(script)).returncode == 0
    assert "task 1 has theta 0.5 and phi b, of here yes, and []" in alice.types("logs", f"{script}_1").stdout
    assert "task 2 has theta 1.5 and phi a" in alice.types("logs", f"{script}_2").stdout


def test_a_task_can_be_cancelled_alone_and_the_worst_end_counts(alice):
    alice.writes("sleep.sh", "#!/bin/bash\nsleep 600\n")
    job = alice.submits("sleep.sh", "--backend", "qx", "--array", "0-2%2", "--hold")
    held = alice.gets("queue", "--name", "sleep")["jobs"]
    assert [(one["id"], one["reason"], one["position"]) for one in held] == [
        (f"{job}_[0-2%2]", "JobHeldUser", None)
    ]
    assert alice.types("release", str(job)).returncode == 0

    def states():
        return [one["state"] for one in alice.gets("show", str(job))["tasks"]]

    eventually(lambda: states() == ["RUNNING", "RUNNING", "PENDING"], "two tasks to run")
    done = alice.types("cancel", "--name", "sleep", "--state", "PD")
    assert (done.returncode, done.stderr) == (0, "Cancelled 1 of 1 jobs.\n")
    eventually(lambda: states() == ["RUNNING", "RUNNING", "CANCELLED"], "the one that waited to be cancelled")
    assert alice.types("cancel", f"{job}_1").returncode == 0
    done = alice.types("wait", f"{job}_1")
    assert done.returncode == 7
    assert alice.gets("show", f"{job}_0")["state"] == "RUNNING"
    assert alice.types("cancel", str(job)).returncode == 0
    assert alice.types("wait", str(job)).returncode == 7


def test_a_dependency_begins_when_the_other_job_has_ended_and_history_and_usage_know_both(alice):
    first = alice.submits(
        "bell.cq", "--backend", "qx", "--hold", "--shots", "50", "--comment", "my own key=words"
    )
    second = alice.submits("bell.cq", "--backend", "qx", "--dependency", f"afterok:{first}", "--shots", "70")
    reasons = {one["job_id"]: one["reason"] for one in alice.gets("queue", "--me")["jobs"]}
    assert (reasons[first], reasons[second]) == ("JobHeldUser", "Dependency")
    assert alice.gets("show", str(first))["note"] == "my own key=words"
    assert alice.types("release", str(first)).returncode == 0
    assert alice.types("wait", str(second)).returncode == 0

    def ended():
        jobs = {one["job_id"]: one for one in alice.gets("history", "--me")["jobs"]}
        return jobs if {first, second} <= set(jobs) else None

    jobs = eventually(ended, "the accounting to know both")
    assert (jobs[first]["shots"], jobs[second]["shots"], jobs[second]["state"]) == (50, 70, "COMPLETED")
    used = alice.gets("usage", "--by", "user,backend")["usage"]
    mine = next(row for row in used if (row["user"], row["backend"]) == ("qs_alice", "qx"))
    assert mine["shots"] >= 120
    assert mine["qpu_seconds"] > 0


def test_backends_are_shown_with_what_waits_for_them(alice):
    operator(alice.testbed, "partition", "drain", "p_spin2")
    job = alice.submits("bell.cq", "--backend", "spin2")
    found = eventually(
        lambda: [one for one in alice.gets("info", "spin2")["backends"] if one["waiting"]],
        "the job to be counted",
    )
    assert (found[0]["partition_state"], found[0]["qubits"]) == ("DOWN", 2)
    assert alice.types("cancel", str(job)).returncode == 0


def test_many_files_are_sent_at_once_and_a_pipe_sees_no_progress(alice):
    for number in range(8):
        alice.writes(f"many{number}.cq", RABI.replace("{{ theta }}", str(number)))
    done = alice.types("submit", *(f"many{number}.cq" for number in range(8)), "--parsable")
    assert (done.returncode, done.stderr) == (0, "")
    jobs = [int(line) for line in done.stdout.split()]
    assert len(set(jobs)) == 8
    names = {one["job_id"]: one["name"] for one in alice.gets("queue", "--all")["jobs"]}
    assert [names[job] for job in jobs] == [f"many{number}" for number in range(8)]
    assert alice.types("cancel", *map(str, jobs)).returncode == 0


def test_many_files_are_waited_for_as_jobs_and_as_an_array(alice):
    names = [f"waited{number:02}.cq" for number in range(21)]
    for number, name in enumerate(names):
        alice.writes(name, RABI.replace("{{ theta }}", str(3.14159265 * (number % 2))))
    alice.writes("fails.sh", "#!/bin/bash\n#QSLURM --partition p_qx\nexit 3\n")
    done = alice.types("submit", *names, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    jobs = json.loads(done.stdout)["jobs"]
    assert [one["id"] for one in jobs] == [f"{jobs[0]['job_id']}_{task}" for task in range(21)]
    assert [one["results"]["counts"] for one in jobs] == [{str(number % 2): 200} for number in range(21)]
    done = alice.types("submit", names[0], "fails.sh", names[1], "--wait")
    assert done.returncode == 6
    rows = [line.split() for line in done.stdout.splitlines()[4:]]
    assert [row[1:3] for row in rows] == [
        [names[0], "completed"],
        ["fails.sh", "failed"],
        [names[1], "completed"],
    ]
    assert [rows[0][3:], rows[2][3:]] == [["0:", "200"], ["1:", "200"]]


def test_a_log_is_followed_to_the_jobs_end(alice):
    alice.writes("slow.sh", "#!/bin/bash\nfor n in 1 2 3; do echo line $n; sleep 0.5; done\n")
    job = alice.submits("slow.sh", "--backend", "qx")
    done = alice.types("logs", "--follow", str(job))
    assert (done.returncode, done.stdout) == (0, "line 1\nline 2\nline 3\n")


def test_slurm_takes_what_begin_and_reservation_say_or_refuses_it(alice):
    job = alice.submits("bell.cq", "--backend", "qx", "--begin", "now+1hour")
    assert alice.gets("show", str(job))["reason"] in ("BeginTime", "")
    assert alice.types("cancel", str(job)).returncode == 0
    for options, code in (
        (("--reservation", "none"), 3),
        (("--qos", "none"), 3),
        (("--account", "none"), 3),
        (("--array", "0-2000"), 3),
        (("--dependency", "afterok:4000000"), 2),
    ):
        done = alice.types("submit", "bell.cq", "--backend", "qx", *options, "--json")
        assert done.returncode == code, (options, done.stderr)
        assert json.loads(done.stdout)["error"]["message"]


def test_a_job_of_a_workflow_tool_says_where_it_came_from_and_takes_none_of_it_along(alice):
    alice.writes("env.sh", "#!/bin/bash\nenv\n")
    inside = {"HQ_JOB_ID": "7", "HQ_TASK_ID": "3", "HQ_ACCESS_KEY": "secret", "SLURM_JOB_ID": "99"}
    done = alice.types("submit", "env.sh", "--backend", "qx", "--parsable", **inside)
    job = done.stdout.strip()
    assert alice.types("wait", job).returncode == 0
    assert alice.gets("show", job)["origin"] == "hyperqueue::7_3@99:qs_alice"
    log = alice.types("logs", job).stdout
    assert "HQ_" not in log
    assert f"SLURM_JOB_ID={job}" in log
