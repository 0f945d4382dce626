"""C2 without its accounting: jobs go on, and errors name the accounting, not the token."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from people import Researcher, eventually
from testbed import Testbed

pytestmark = pytest.mark.slurm

FORGOTTEN = "999999"
"""A job that slurmctld does not know; only slurmdbd could say that it does not, either."""


@pytest.fixture
def alice(testbed: Testbed, platform: Any) -> Researcher:
    return Researcher(testbed)


@pytest.mark.parametrize("daemon", ["slurmdbd", "mariadbd"])
def test_without_the_accounting_jobs_go_on_and_what_only_it_knows_is_called_away(
    daemon: str, alice: Researcher, testbed: Testbed
) -> None:
    alice.has_example("bell.cq")
    held = alice.submits("bell.cq", "--backend", "qx", "--hold")
    waited: list[Any] = []
    waiting = threading.Thread(target=lambda: waited.append(alice.types("wait", str(held))))
    waiting.start()
    testbed.kill(daemon)
    try:
        for words in (["history"], *([word, FORGOTTEN] for word in ("show", "cancel", "results"))):
            done = alice.types(*words, "--json")
            document = json.loads(done.stdout)
            error = document.get("error") or next(iter(document["errors"].values()))
            assert (done.returncode, error["type"]) == (5, "accounting_away"), (words, done)
            assert "accounting" in done.stderr, done
        checked = alice.types("token", "check")
        assert (checked.returncode, "accounting" in checked.stderr) == (5, True), checked
        findings = json.loads(alice.types("doctor", "--json").stdout)["findings"]
        assert [one["name"] for one in findings if one["state"] == "fail"] == ["accounting"]
        job_id = str(alice.submits("bell.cq", "--backend", "any", "--hold"))
        for words in (["show", job_id], ["queue"], ["info"], ["hold", job_id], ["cancel", job_id]):
            done = alice.types(*words)
            assert done.returncode == 0, (words, done)
        assert alice.types("release", str(held)).returncode == 0
        waiting.join()
    finally:
        testbed.up()
        waiting.join()
    assert waited[0].returncode == 0, waited
    assert alice.types("token", "check").returncode == 0


def test_a_refused_token_is_told_from_an_accounting_that_is_away(alice: Researcher, testbed: Testbed) -> None:
    head, claims, signature = testbed.token().split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    job_id = str(alice.submits(alice.has_example("bell.cq"), "--backend", "qx", "--hold"))
    for words in (
        ["history"],
        ["show", job_id],
        ["cancel", job_id],
        ["submit", "bell.cq", "--backend", "qx"],
    ):
        done = alice.types(*words, SLURM_JWT=forged)
        assert done.returncode == 4, (words, done)
    assert alice.types("cancel", job_id).returncode == 0


def test_a_failed_jobs_exit_code_is_in_the_history_though_slurmdbd_does_not_say_it(alice: Researcher) -> None:
    alice.writes("fails.sh", "#!/bin/bash\nexit 3\n")
    job_id = alice.submits("fails.sh", "--backend", "qx")
    assert alice.types("wait", str(job_id)).returncode == 6

    def told() -> list[Any]:
        return [one["exit_code"] for one in alice.gets("history")["jobs"] if one["job_id"] == job_id]

    eventually(lambda: told() == [3], "the accounting to have it", seen=lambda: f"; it says {told()}")


def test_one_task_of_an_array_is_cancelled_alone(alice: Researcher) -> None:
    """slurmrestd's v0.0.39 would cancel them all."""
    alice.writes("sleep.sh", "#!/bin/bash\nsleep 600\n")
    job_id = alice.submits("sleep.sh", "--backend", "qx", "--array", "1-4", "--hold")

    def are(*states: str) -> None:
        def seen() -> list[str]:
            return sorted(task["state"] for task in alice.gets("show", str(job_id))["tasks"])

        eventually(
            lambda: seen() == [*states], f"tasks that are {states}", seen=lambda: f"; they are {seen()}"
        )

    try:
        # one that has not begun leaves no record in Slurm, neither with slurmctld nor with slurmdbd
        assert alice.types("cancel", f"{job_id}_1").returncode == 0
        done = alice.types("show", f"{job_id}_1")
        assert done.returncode == 3, done
        assert "task 1" in done.stderr
        assert alice.types("release", str(job_id)).returncode == 0
        are("RUNNING", "RUNNING", "RUNNING")
        assert alice.types("cancel", f"{job_id}_3").returncode == 0
        are("CANCELLED", "RUNNING", "RUNNING")
    finally:
        assert alice.types("cancel", str(job_id)).returncode == 0
