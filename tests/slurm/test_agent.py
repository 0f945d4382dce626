"""A center with an agent: users without a token see their own jobs and no others."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from people import AgentUser, AgentUserOnANode, eventually, operator
from testbed.users import RESEARCH_GROUP

pytestmark = pytest.mark.slurm


@pytest.fixture
def center(testbed):
    """Both partitions are enabled."""
    for partition in ("p_qx", "p_spin2"):
        operator(testbed, "partition", "enable", partition)
    return testbed


@pytest.fixture(params=[AgentUser, AgentUserOnANode])
def alice(request, center):
    return request.param(center)


def kill(testbed, name):
    pid = testbed.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_a_user_without_a_token_submits_waits_and_gets_results(alice):
    done = alice.types("submit", alice.has_example("bell.cq"), "--backend", "qx", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document["results"]["counts"]) == {"00", "11"}
    assert document["origin"].endswith(":qs_alice")
    job_id = str(document["job_id"])
    assert alice.gets("show", job_id)["state"] == "COMPLETED"
    assert alice.gets("results", job_id)["shots"] > 0
    assert "shots" in alice.types("logs", job_id).stdout
    assert job_id in alice.types("queue", "--all").stdout


def test_the_origins_user_is_who_asks_whatever_the_environment_says(alice):
    job_id = alice.submits(alice.has_example("bell.cq"), "--backend", "qx", "--hold")
    environment = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_USER": "root",
        "SLURM_CLUSTER_NAME": "snellius",
        "USER": "root",
    }
    done = alice.types("submit", "bell.cq", "--backend", "qx", "--hold", "--parsable", **environment)
    other = int(done.stdout)
    assert alice.gets("show", str(job_id))["origin"].endswith(":qs_alice")
    assert alice.gets("show", str(other))["origin"] == "slurm:snellius:7:qs_alice"
    assert alice.types("cancel", str(job_id), str(other)).returncode == 0


@pytest.fixture(params=["DOMAIN\\ann", "Ann de Vries"])
def ann(request, center):
    """A user of C1 whose name has characters of a directory service."""
    name = request.param
    subprocess.run(
        ["useradd", "--badname", "--no-create-home", "--gid", RESEARCH_GROUP, name], check=True, timeout=60
    )
    home = center.work_folder(name)
    home.mkdir(exist_ok=True)
    shutil.chown(home, name)
    yield name
    subprocess.run(["userdel", name], check=True, timeout=60)


@pytest.mark.parametrize("way", [AgentUser, AgentUserOnANode])
def test_whatever_users_are_called_they_find_their_own_jobs(ann, way, center):
    somebody = way(center, ann)
    somebody.has_example("bell.cq")
    somebody.writes("next.sbatch", "#!/bin/bash\n#SBATCH --mem=10\ntrue\n")
    held = somebody.submits("bell.cq", "--backend", "qx", "--hold")
    assert [job["job_id"] for job in somebody.gets("queue", "--me")["jobs"]] == [held]
    assert [job["job_id"] for job in somebody.gets("queue", "-u", ann)["jobs"]] == [held]
    assert somebody.types("cancel", "--me").returncode == 0
    assert somebody.ends_as(held) == "CANCELLED"
    done = somebody.gets("submit", "bell.cq", "--backend", "qx", "--then", "next.sbatch")
    assert somebody.ends_as(done["job_id"]) == "COMPLETED"
    eventually(
        lambda: done["job_id"] in [job["job_id"] for job in somebody.gets("history", "--me")["jobs"]],
        "the accounting to have the job",
    )
    assert ann in [row["user"] for row in somebody.gets("usage", "--by", "user")["usage"]]
    follow_up = ("squeue", "--noheader", f"--jobs={done['follow_up']}", "--states=all", "--format=%T")
    eventually(
        lambda: center.c1(follow_up).stdout.strip() == "COMPLETED",
        "the follow-up to end",
        seen=lambda: f"; it is {center.c1(follow_up)}",
    )


def test_another_users_job_does_not_exist(alice):
    bob = type(alice)(alice.testbed, "qs_bob")
    job_id = str(alice.submits(alice.has_example("bell.cq"), "--backend", "qx", "--hold"))
    key = alice.gets("show", job_id)["key"]
    try:
        for words in (
            ("show", job_id),
            ("cancel", job_id),
            ("results", job_id),
            ("logs", job_id),
            ("release", job_id),
        ):
            done = bob.types(*words)
            assert done.returncode == 3, words
            assert job_id in done.stderr
        assert job_id not in [str(job["job_id"]) for job in bob.gets("queue", "--all")["jobs"]]
        assert bob.gets("queue", "--key", key)["jobs"] == []
        assert alice.sees(int(job_id)) == "PENDING"
    finally:
        assert alice.types("cancel", job_id).returncode == 0
    assert alice.ends_as(int(job_id)) == "CANCELLED"


def test_many_files_are_one_array_and_each_has_a_result_of_its_own(center):
    alice, bob = AgentUser(center), AgentUser(center, "qs_bob")
    circuits = {f"bits_{number:02}.cq": number for number in range(20)}
    for name, number in circuits.items():
        flips = "".join(f"X q[{bit}]\n" for bit in range(5) if number >> bit & 1)
        alice.writes(name, f"version 3.0\nqubit[5] q\nbit[5] b\n{flips}b = measure q\n")
    jobs = alice.gets("submit", *circuits, "--backend", "qx", "--shots", "10")["jobs"]
    (array,) = {job["job_id"] for job in jobs}
    assert [(job["file"], job["id"]) for job in jobs] == [
        (name, f"{array}_{number}") for name, number in circuits.items()
    ]
    waited = alice.types("wait", str(array))
    assert waited.returncode == 0, waited.stderr
    tasks = alice.gets("results", str(array))["tasks"]
    assert {(f"{task['parameters']['file']}.cq", *task["counts"].items()) for task in tasks} == {
        (name, (f"{number:05b}", 10)) for name, number in circuits.items()
    }
    assert "10 shots" in alice.types("results", jobs[7]["id"]).stderr
    assert "shots" in alice.types("logs", jobs[7]["id"]).stdout
    for words in (("results", f"{array}_7"), ("logs", str(tasks[7]["job_id"]))):
        assert bob.types(*words).returncode == 3


def test_the_token_is_to_be_had_by_nobody(center):
    alice = AgentUser(center)
    token = center.layout.agent_token.read_text().strip()
    reading = center.c1(("cat", center.layout.agent_token), user="qs_alice")
    assert reading.returncode != 0
    alice.types("submit", alice.has_example("bell.cq"), "--backend", "qx", "--wait")
    log = (center.layout.logs / "agent.log").read_text()
    state = b"".join(path.read_bytes() for path in center.layout.agent_state.iterdir())
    assert token not in log
    assert token.encode() not in state
    pid = center.pid("agent")
    for file in ("cmdline", "environ"):
        assert token.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()


def test_what_is_submitted_while_c2_is_away_is_sent_when_it_is_back(center, pool):
    alice = AgentUser(center)
    alice.has_example("bell.cq")
    center.stop("slurmrestd")
    try:
        waiting = pool.submit(alice.types, "submit", "bell.cq", "--backend", "qx", "--wait", "--json")
        eventually(
            lambda: [job for job in alice.gets("queue")["jobs"] if job["job_id"] == 0],
            "the outbox to have it",
        )
    finally:
        center.up()
    done = waiting.result()
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["results"]["counts"]) == {"00", "11"}


def _keys_on(center):
    """The keys of all jobs on C2, once for each array."""
    lines = center.c2(("squeue", "--all", "--noheader", "--states=all", "--format=%F %k")).stdout.splitlines()
    jobs = {(job, word) for job, *words in map(str.split, lines) for word in words if word.startswith("key=")}
    return [key for _, key in jobs]


def test_a_killed_agent_has_lost_nothing_and_sends_nothing_twice(center, pool):
    alice = AgentUser(center)
    source = alice.has_example("bell.cq")
    before = set(_keys_on(center))
    running = [pool.submit(alice.types, "submit", source, "--backend", "qx", "--json") for _ in range(6)]
    eventually(
        lambda: {f"key={job['key']}" for job in alice.gets("queue", "--all")["jobs"]} - before,
        "the agent to have some",
    )
    kill(center, "agent")
    center.up()
    jobs, failures = [], 0
    for done in [process.result() for process in running]:
        if done.returncode == 0:
            jobs.append(json.loads(done.stdout)["job_id"])
        else:  # it had not heard of the submission yet, so its user was told to try again
            assert done.returncode == 5, done.stderr
            failures += 1
    for job_id in jobs:
        assert alice.ends_as(job_id) == "COMPLETED"
    keys = [key for key in _keys_on(center) if key not in before]
    assert len(keys) == len(set(keys))
    assert len(jobs) + failures == 6


def test_rubbish_and_silence_hurt_nobody(center):
    alice = AgentUser(center)
    path = str(center.layout.agent_socket)
    links = []
    for message in (
        b"",
        b"\xff" * 100,
        b"\0\0\0\0\0\0\0\x03abc",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\0" + b"\0\x10\0\0x",
    ):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.connect(path)
        link.sendall(message)
        links.append(link)
    for _ in range(200):
        link = socket.create_connection(("127.0.0.1", center.ports["agent"]))
        links.append(link)
    assert alice.gets("queue")["jobs"] is not None
    for link in links:
        link.close()


def test_by_the_network_only_a_credential_of_this_centers_munge_is_taken(center):
    from qslurm.c1.connection.agent_messages import GetJobs, encode, response_decoder
    from qslurm.wire.blocking import BlockingConnection
    from qslurm.wire.frames import NO_REQUEST, signed_frame

    body = encode(GetJobs())
    for credential in (b"", b"MUNGE:AwQDAAB:", b"MUNGE:" + b"A" * 300):
        with socket.create_connection(("127.0.0.1", center.ports["agent"]), timeout=30) as link:
            link.sendall(signed_frame(NO_REQUEST, body, credential))
            with BlockingConnection(link, 1 << 16) as connection:
                _, answer = connection.receive(time.monotonic() + 30)
            assert response_decoder.decode(answer).kind == "permission"
