"""Users' mistakes and the platform's failures: one sentence, an exit code, and nothing lost."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from people import Researcher, eventually, operator, submit_plugin

pytestmark = pytest.mark.slurm


@pytest.fixture
def alice(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    researcher = Researcher(testbed)
    researcher.has_example("bell.cq")
    return researcher


def sentence(done):
    """The one line that a failed command prints."""
    assert "Traceback" not in done.stderr + done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_an_unknown_backend_is_refused_with_those_there_are(alice):
    done = alice.types("submit", "bell.cq", "--backend", "nope")
    assert done.returncode == 3
    assert "qx, spin2" in sentence(done)


def test_an_unknown_partition_is_refused(alice):
    done = alice.types("submit", "bell.cq", "--partition", "p_nope")
    assert done.returncode == 3
    assert sentence(done)


def test_a_kind_of_job_that_c2_does_not_take_from_the_center_is_refused_in_a_sentence(alice, testbed):
    def circuits_only(text):
        return re.sub(r'(\["snellius"\] = \{)[^}]*', r"\1 circuit = true, ", text)

    with submit_plugin(testbed, circuits_only):
        done = alice.types("submit", alice.has_example("hello.sh"), "--backend", "qx")
        taken = alice.types("submit", "bell.cq", "--backend", "qx")
    assert done.returncode == 3
    assert "C2's operators do not allow jobs of this kind from your center" in sentence(done)
    assert taken.returncode == 0
    assert alice.types("submit", "hello.sh", "--backend", "qx").returncode == 0


def test_errors_are_documents_with_json(alice):
    done = alice.types("submit", "bell.cq", "--backend", "nope", "--json")
    error = json.loads(done.stdout)["error"]
    assert error["code"] == done.returncode == 3
    assert error["message"] and error["hint"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("empty.cq", "", "is empty"),
        ("wrong.cq", "version 3.0\nqubit[2] q\nHH q[0]\n", "wrong.cq:3:1"),
        ("old.cq", "version 1.0\nqubits 65\nmeasure_all\n", "old.cq:2:1: the circuit has 65 qubits"),
        ("older.cq", "version 1.0\nqubits 2\nc-x b[0], q[1]\nmeasure_all\n", "older.cq:3:1"),
        ("noexecute.py", "def finalize(measured):\n    return {}\n", "function 'execute' is missing"),
        ("broken.py", "def execute(qi:\n    pass\n", "broken.py:1"),
    ],
)
def test_a_bad_file_never_leaves_c1(name, text, expected, alice):
    before = {job["id"] for job in alice.gets("queue", "--all")["jobs"]}
    done = alice.types("submit", alice.writes(name, text), "--backend", "qx")
    assert done.returncode == 2
    assert expected in sentence(done)
    after = {job["id"] for job in alice.gets("queue", "--all")["jobs"]}  # Slurm may have purged ended ones
    assert after <= before


def test_an_unreadable_file_says_so(alice):
    alice.writes("secret.cq", "version 3.0")
    (alice.folder / "secret.cq").chmod(0o600)  # root's, and alice is not root
    done = alice.types("submit", "secret.cq", "--backend", "qx")
    assert done.returncode == 2
    assert "permission denied" in sentence(done)


DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def execute(qi):
    while True:
        try:
            qi.execute_circuit("version 1.0; qubits 1; measure_all", 1)
        except BaseException:
            pass
def finalize(measured):
    return {}
"""


def test_code_that_catches_everything_ends_with_its_job(alice):
    job_id = alice.submits(alice.writes("deaf.py", DEAF), "--backend", "qx")
    alice.waits_until(job_id, "RUNNING")
    eventually(lambda: known_of(alice, job_id).get("executions"), "the job to execute circuits")
    assert alice.types("cancel", str(job_id)).returncode == 0
    assert alice.ends_as(job_id) == "CANCELLED"
    eventually(lambda: known_of(alice, job_id)["state"] == "cancelled", "the platform to know")
    assert alice.ends_as(alice.submits("bell.cq", "--backend", "qx")) == "COMPLETED"


HUNGRY = """
SLOW = "version 3.0; qubit[22] q; bit[22] b; H q; b = measure q"
def execute(qi):
    while True:
        try:
            qi.execute_circuit(SLOW, 1)
        except BaseException:
            pass
def finalize(measured):
    return {}
"""


def test_a_job_that_has_used_its_qpu_seconds_ends_and_its_neighbour_runs(alice):
    job_id = alice.submits(alice.writes("hungry.py", HUNGRY), "--backend", "qx", "--qpu-seconds", "2")
    neighbour = alice.submits("bell.cq", "--backend", "qx")
    done = alice.types("wait", str(job_id))
    assert done.returncode == 8
    assert "2 QPU-seconds" in done.stderr
    assert known_of(alice, job_id)["state"] == "timed_out"
    assert alice.ends_as(neighbour) == "COMPLETED"


def test_a_file_that_executes_nothing_says_so(alice):
    file = alice.writes("idle.py", "def execute(qi):\n    pass\ndef finalize(measured):\n    return {}\n")
    job_id = alice.submits(file, "--backend", "qx")
    assert alice.ends_as(job_id) == "COMPLETED"
    assert "no circuit" in known_of(alice, job_id)["reason"]


def test_two_jobs_with_the_same_name_and_the_same_file_are_two_jobs(alice):
    operator(alice.testbed, "partition", "drain", "p_qx")
    one, other = (
        alice.submits("bell.cq", "--backend", "qx", "-J", "same", "--shots", "64") for _ in range(2)
    )
    operator(alice.testbed, "partition", "enable", "p_qx")
    for job_id in (one, other):
        assert alice.ends_as(job_id) == "COMPLETED"
        eventually(lambda job_id=job_id: known_of(alice, job_id).get("slurm_state"), "the platform to know")
        assert (known_of(alice, job_id)["name"], known_of(alice, job_id)["reason"]) == ("same", "")
        results = alice.gets("results", str(job_id))
        assert (results["job_id"], sum(results["counts"].values())) == (job_id, 64)
    assert one != other


def known_of(alice, job_id):
    """The job manager's record of a job."""
    return alice.gets("show", str(job_id))["platform"] or {}


def test_an_expired_token_is_refused_before_anything_is_sent(alice):
    token = expired_token(alice.testbed)
    done = alice.types("submit", "bell.cq", "--backend", "qx", SLURM_JWT=token)
    assert done.returncode == 4
    assert "expired" in sentence(done)
    assert token not in done.stderr + done.stdout


def expired_token(testbed):
    """A token that expired an hour ago, signed with the center's key."""
    import time

    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.issue import issue_token

    config = load_c2_config(testbed.layout.c2_qslurm)
    return issue_token(config.tokens, "snellius", "1m", now=time.time() - 3600).token.reveal()


def test_a_foreign_token_is_refused_by_c2(alice):
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    claims = {"sun": "center_snellius", "iat": 1_700_000_000, "exp": 4_000_000_000}
    token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "snellius"})
    for command in (("submit", "bell.cq", "--backend", "qx"), ("queue",), ("results", "1")):
        done = alice.types(*command, SLURM_JWT=token)
        assert done.returncode == 4, done.stderr
        assert token not in done.stderr + done.stdout
        assert sentence(done)


def test_a_token_file_that_others_can_read_is_refused(alice):
    path = alice.folder / "token"
    path.write_text(alice.testbed.token())
    path.chmod(0o644)
    done = alice.types("queue", QSLURM_TOKEN_FILE=str(path))
    path.unlink()
    assert done.returncode == 4
    assert "chmod" in sentence(done)


def test_another_centers_job_is_as_unknown_as_one_that_never_was(alice):
    job_id = alice.submits("bell.cq", "--backend", "qx")
    assert alice.ends_as(job_id) == "COMPLETED"
    lumi = {"SLURM_JWT": alice.testbed.token("lumi"), "QUSER": "center_lumi"}
    for command in ("show", "results", "logs", "wait"):
        theirs = alice.types(command, str(job_id), **lumi)
        never = alice.types(command, "999999", **lumi)
        assert theirs.returncode == never.returncode == 3, (command, theirs.stderr)
        assert sentence(theirs) == sentence(never).replace("999999", str(job_id))
    assert alice.types("cancel", str(job_id), **lumi).returncode in (3, 4)


def test_c2_down_is_exit_code_5_and_says_where_it_was_looked_for(alice):
    alice.testbed.stop("slurmrestd")
    done = alice.types("submit", "bell.cq", "--backend", "qx")
    alice.testbed.start("slurmrestd")
    assert done.returncode == 5
    assert "127.0.0.1" in sentence(done)


def test_ctrl_c_ends_the_waiting_and_not_the_job(alice):
    operator(alice.testbed, "partition", "drain", "p_qx")
    job_id = alice.submits("bell.cq", "--backend", "qx")
    waiting = subprocess.Popen(
        ("qslurm", "wait", str(job_id)),
        env=alice.testbed.env_c1(),
        user=alice.user,
        group="qs_snellius",
        cwd=alice.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: is_connected(waiting.pid), "the wait to talk to C2")
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert f"qslurm wait {job_id}" in said
    assert "Traceback" not in said
    assert alice.sees(job_id) == "PENDING"
    operator(alice.testbed, "partition", "enable", "p_qx")
    assert alice.ends_as(job_id) == "COMPLETED"


def is_connected(pid):
    """Whether a process has a socket: it has begun its request."""
    return any(target_of(fd).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir())


def target_of(fd):
    try:
        return str(fd.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""
