"""Renewal of tokens: by the agent while its users submit, by a timer without an agent, and never without permission."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from people import Researcher, eventually, operator
from testbed import Testbed

from qslurm.c2.config.file import load_c2_config
from qslurm.c2.tokens.issue import issue_token, sign
from qslurm.c2.tokens.keys import private_key
from qslurm.errors import TokenError, UnreachableError
from qslurm.protocol.token_renewal import request_renewal
from qslurm.tokens.secret import Secret

pytestmark = pytest.mark.slurm


class Center(Researcher):
    """A researcher without a token, at a center with an agent."""

    def __init__(self, testbed: Testbed) -> None:
        layout = testbed.layout
        super().__init__(
            testbed,
            environment={"QSLURM_CONFIG": str(layout.agent_config), "QSLURM_AGENT": str(layout.agent_socket)},
        )

    def trouble(self) -> str:
        return str(self.status()["token"]["trouble"])

    def status(self) -> Any:
        import json

        return json.loads(self.types("agent", "status", "--json").stdout)


@pytest.fixture
def alice(testbed: Testbed) -> Center:
    operator(testbed, "partition", "enable", "p_qx")
    return Center(testbed)


def aged(testbed: Testbed, left_s: int, life: str = "60s") -> str:
    """A token of snellius with this many seconds left."""
    config = load_c2_config(testbed.layout.c2_qslurm)
    lived = int(life[:-1]) - left_s
    return issue_token(config.tokens, "snellius", life, now=time.time() - lived).token.reveal()


def put(path: Path, token: str) -> None:
    """Replace the file as an admin would, with the same owner and mode."""
    facts, draft = path.stat(), path.with_name("new")
    draft.write_text(token + "\n")
    os.chown(draft, facts.st_uid, facts.st_gid)
    draft.chmod(stat.S_IMODE(facts.st_mode))
    draft.rename(path)


@contextmanager
def agent_with(testbed: Testbed, token: str) -> Iterator[None]:
    """Run the agent with this token; afterwards it has a valid one."""
    testbed.stop("agent")
    put(testbed.layout.agent_token, token)
    testbed.start("agent")
    try:
        yield
    finally:
        testbed.stop("agent")
        put(testbed.layout.agent_token, testbed.token("snellius").strip())
        testbed.start("agent")


def renewed(testbed: Testbed, token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(f"{testbed.results_url}/v1/token", headers=headers, timeout=60)


def test_jobs_go_on_past_the_end_of_the_first_token(testbed: Testbed, alice: Center) -> None:
    first = aged(testbed, left_s=24, life="100s")
    path = testbed.layout.agent_token
    before = path.stat()
    with agent_with(testbed, first):
        pid = testbed.pid("agent")
        ends = time.time() + 24
        source = alice.has_example("bell.cq")
        jobs = []
        while time.time() < ends + 1:  # the first token's end is the point
            jobs.append(alice.submits(source, "--backend", "qx"))
        eventually(lambda: path.read_text().strip() != first, "the agent to renew its token")
        assert alice.ends_as(alice.submits(source, "--backend", "qx")) == "COMPLETED"
        for job_id in (jobs[0], jobs[-1]):
            assert alice.ends_as(job_id) == "COMPLETED"
            assert set(alice.gets("results", str(job_id))["counts"]) <= {"00", "11"}
        after = path.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert testbed.pid("agent") == pid
        assert renewed(testbed, first).status_code == 401  # nobody takes the old one any more
        status = alice.status()
        assert status["token"]["trouble"] == ""
        assert status["token"]["expires"] > time.time() + 29 * 86400
        logs = testbed.layout.folder / "log"
        said = (logs / "agent.log").read_text() + (logs / "tokens.log").read_text()
        for token in (first, path.read_text().strip()):
            assert token.split(".")[2] not in said + (logs / "jobmanager.log").read_text()
        assert "event=renewed center=snellius" in said


def test_a_center_that_may_not_renew_is_warned_and_a_token_by_hand_is_taken_up(
    testbed: Testbed, alice: Center
) -> None:
    operator(testbed, "token", "renewal", "--center", "snellius", "--stop")
    try:
        with agent_with(testbed, aged(testbed, left_s=3000, life="3600s")):
            eventually(
                lambda: "snellius" in alice.trouble(),
                "the agent to know",
            )
            assert alice.types("agent", "status").returncode == 1
            pid = testbed.pid("agent")
            put(
                testbed.layout.agent_token, testbed.token("snellius").strip()
            )  # issuing it allows renewals again
            eventually(lambda: not alice.trouble(), "the agent to take the new one up")
            assert alice.status()["token"]["expires"] > time.time() + 86400
            assert (
                alice.ends_as(alice.submits(alice.has_example("bell.cq"), "--backend", "qx")) == "COMPLETED"
            )
            assert testbed.pid("agent") == pid
    finally:
        operator(testbed, "token", "renewal", "--center", "snellius", "--for", "366d")


BEHIND = """
import sys, time
real = time.time
time.time = lambda: real() - 600
sys.argv = ["qslurm", "agent", "serve", "--config", sys.argv[1]]
from qslurm.cli import main
main()
"""


def test_a_clock_that_is_ten_minutes_behind_makes_no_renewal_late(testbed: Testbed, alice: Center) -> None:
    path = testbed.layout.agent_token
    with agent_with(
        testbed, aged(testbed, left_s=726, life="3600s")
    ):  # by that clock, due in a quarter of an hour
        testbed.stop("agent")
        first = aged(testbed, left_s=726, life="3600s")
        put(path, first)
        owner = path.stat()
        command = [testbed.layout.python, "-I", "-c", BEHIND, testbed.layout.agent_config]
        agent = subprocess.Popen(
            command, user=owner.st_uid, group=owner.st_gid, extra_groups=[], cwd="/", env={"PATH": "/usr/bin:/bin"},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(lambda: path.read_text().strip() != first, "the agent to renew its token")
            assert -610 < alice.status()["token"]["clock_off_s"] < -590
            assert (
                alice.ends_as(alice.submits(alice.has_example("bell.cq"), "--backend", "qx")) == "COMPLETED"
            )
        finally:
            agent.terminate()
            agent.wait(60)


def test_who_is_cut_off_or_is_another_center_gets_no_token(testbed: Testbed) -> None:
    config = load_c2_config(testbed.layout.c2_qslurm)
    socket = config.tokens.socket
    operator(testbed, "token", "key", "--center", "tulip")
    tulip = operator(testbed, "token", "issue", "--center", "tulip", "--lifetime", "1h").strip()
    assert renewed(testbed, tulip).status_code == 200
    lumis, now = private_key(config.tokens, "lumi"), int(time.time())
    for forged in (
        sign(lumis, "lumi", "center_snellius", now, now + 600),
        sign(lumis, "snellius", "center_snellius", now, now + 600),
        sign(lumis, "lumi", "root", now, now + 600),
    ):
        assert renewed(testbed, forged.token.reveal()).status_code == 401
        with pytest.raises(TokenError):  # nor by a job manager that does not look
            request_renewal(socket, forged.token)
    operator(testbed, "token", "revoke", "--center", "tulip")
    answer = renewed(testbed, tulip)
    assert (answer.status_code, "token" in answer.json()) == (401, False)
    with pytest.raises(TokenError):
        request_renewal(socket, Secret(tulip))


def test_only_the_job_manager_is_answered_and_only_the_service_reads_keys(testbed: Testbed) -> None:
    socket = load_c2_config(testbed.layout.c2_qslurm).tokens.socket
    asking = (
        "import sys; from qslurm.protocol.token_renewal import request_renewal;"
        "from qslurm.tokens.secret import Secret;"
        "print(request_renewal(sys.argv[1], Secret(sys.stdin.read().strip()), dry_run=True).expires)"
    )
    token = testbed.token("lumi")

    def asked_by(user: str) -> Any:
        return testbed.c2((testbed.layout.python, "-I", "-c", asking, socket), user=user, stdin=token)

    assert asked_by("qslurm").returncode == 0
    for user in ("center_lumi", "slurm"):
        assert "UnreachableError" in asked_by(user).stderr
    key = testbed.layout.keys / "lumi.pem"
    for user in ("qslurm", "slurm", "center_lumi"):
        assert testbed.c2(("cat", key), user=user).returncode != 0


def test_without_an_agent_a_timer_renews_the_file_for_those_who_may_read_it(testbed: Testbed) -> None:
    path = testbed.layout.folder / "etc" / "c1" / "timers-token"
    shutil.copy2(testbed.layout.token, path)
    shutil.chown(path, "root", "qs_snellius")

    def timer(*words: str) -> Any:
        return testbed.c1(
            ("qslurm", "token", "renew", "--token-file", path, *words),
            user="root",
            QSLURM_CONFIG=str(testbed.layout.c1_qslurm),
        )

    before = path.read_text()
    done = timer()
    assert (done.returncode, path.read_text()) == (0, before), done.stderr
    put(path, aged(testbed, left_s=10))
    done = timer()
    assert done.returncode == 0, done.stderr
    facts = path.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o640
    assert path.group() == "qs_snellius"
    environment = {"QSLURM_TOKEN_FILE": str(path), "QSLURM_CONFIG": str(testbed.layout.c1_qslurm)}
    check = testbed.c1(("qslurm", "token", "check"), user="qs_alice", **environment)
    assert "center_snellius" in check.stdout
    testbed.stop("tokens")
    try:
        away = timer("--now")
        assert away.returncode == 5
    finally:
        testbed.start("tokens")
    with pytest.raises(UnreachableError):
        request_renewal(str(path), Secret("a.b.c"))
