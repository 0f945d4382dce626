"""A user attacks the center's agent, and another user's jobs go on."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from people import AgentUser, AgentUserOnANode, eventually, operator
from testbed.process import peak_memory_mb

pytestmark = pytest.mark.slurm

BEGIN = """
import os, socket, sys, time, uuid, threading
from concurrent.futures import ThreadPoolExecutor
from qslurm.c1.connection.agent_messages import *
from qslurm.wire.frames import OVERHEAD, frame, read_head, signed_frame
PATH, PORT = sys.argv[1], int(sys.argv[2])

def connected(by_network=False):
    if by_network:
        return socket.create_connection(("127.0.0.1", PORT), timeout=30)
    link = socket.socket(socket.AF_UNIX)
    link.connect(PATH)
    return link

def asked(link, question):
    link.sendall(signed_frame(0, encode(question), b""))
    _, size = read_head(link.recv(OVERHEAD, socket.MSG_WAITALL), 1 << 30)
    return response_decoder.decode(link.recv(size, socket.MSG_WAITALL))

def payload(**job):
    key = uuid.uuid4().hex
    job = {"name": "x", "partition": "p_qx", "current_working_directory": "/tmp", "environment": ["PATH=/usr/bin:/bin"],
           "comment": f"qslurm key={key} kind=script", **job}
    return key, {"job": job, "script": "#!/bin/bash\\ntrue\\n"}
"""

NONSENSE = """
with connected() as link:
    for _ in range(8):
        asked(link, Submit(*payload(dependency="afterok:99999999999999999999"), patience_s=0))
    for run in ("x:0", "1,y:0", "-1:0", "1_[2-:0"):
        asked(link, Submit(*payload(hold=True), patience_s=30, waits=f"{sys.argv[3]}:{run}"))
    asked(link, GetJob(2**63))
"""

SLOW = """
def work(_):
    while True:
        try:
            with connected() as link:
                while True:
                    asked(link, GetAccounted(0))
        except OSError:
            time.sleep(0.1)
list(ThreadPoolExecutor(200).map(work, range(200)))
"""

HALVES = """
while True:
    links, half = [], frame(0, bytes(8 << 20))[:-10]
    for _ in range(250):
        links.append([connected(), half])
        links[-1][0].setblocking(False)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for one in links:
            try:
                one[1] = one[1][one[0].send(one[1][:1 << 18]):]
            except OSError:
                continue
        time.sleep(0.001)
    for link, _ in links:
        link.close()
"""

SILENCE = """
while True:
    links = []
    try:
        for number in range(900):
            links.append(connected(by_network=number % 2))
    except OSError:
        pass
    time.sleep(1)
    for link in links:
        link.close()
"""


@pytest.fixture
def center(testbed):
    testbed.up()
    operator(testbed, "partition", "enable", "p_qx")
    return testbed


@contextmanager
def bob_does(center, what):
    """Run Python code as another user of the center, until the context ends."""
    layout, ports = center.layout, center.ports
    command = [sys.executable, "-c", BEGIN + what, str(layout.agent_socket), str(ports["agent"]), "snellius"]
    process = subprocess.Popen(
        ["setpriv", "--reuid=qs_bob", "--regid=qs_snellius", "--clear-groups", *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ""},
        cwd="/",
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_what_one_user_submits_stops_and_cancels_nobody_elses(center):
    """The waiting C1 job is looked up together with those that the attacker's submissions claim to have."""
    alice = AgentUser(center)
    alice.has_example("bell.cq")
    layout = center.layout
    said = alice.folder / "waits.sbatch.out"
    c1_job = alice.sbatches(
        "waits.sbatch",
        "#!/bin/bash\n#SBATCH --mem=10\n"
        f"export QSLURM_CONFIG={layout.folder}/etc/c1/users.toml QSLURM_AGENT={layout.agent_socket}\n"
        "qslurm submit bell.cq --backend qx --hold --wait --json\n",
    )
    try:
        (waiting,) = eventually(
            lambda: [
                job
                for job in alice.gets("queue")["jobs"]
                if job["job_id"] and job["origin"].split(":")[2] == str(c1_job)  # 0 while it is on its way
            ],
            "the waiting job's job on C2",
            seen=lambda: said.read_text() if said.exists() else "",
        )
        with bob_does(center, NONSENSE) as bob:
            assert bob.wait(120) == 0
        done = alice.types("submit", "bell.cq", "--backend", "qx", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        # the releaser looks for who waits every ten seconds, and has seen a follow-up through since then
        alice.writes("next.sbatch", "#!/bin/bash\n#SBATCH --mem=10\n")
        follow_up = alice.gets("submit", "bell.cq", "--backend", "qx", "--then", "next.sbatch")["follow_up"]
        eventually(
            lambda: "JobHeldUser" not in center.c1(("scontrol", "show", "job", str(follow_up))).stdout,
            "the follow-up to be released",
        )
        assert alice.sees(waiting["job_id"]) == "PENDING"
    finally:
        center.c1(("scancel", str(c1_job)))
        center.c2(("scancel", "--user=center_snellius"))


@pytest.mark.parametrize("attack", [SLOW, HALVES, SILENCE], ids=["slow questions", "halves", "silence"])
def test_a_user_is_served_while_another_does_all_they_can(center, attack):
    alice = AgentUser(center)
    alice.has_example("bell.cq")
    pid = center.pid("agent")
    with bob_does(center, attack) as bob:
        for user in (alice, AgentUserOnANode(center)):
            done = user.types("submit", "bell.cq", "--backend", "qx", "--wait", "--json")
            assert done.returncode == 0, done.stderr
        assert bob.poll() is None
    assert center.pid("agent") == pid
    assert peak_memory_mb(pid) < 400
