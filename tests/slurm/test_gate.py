"""The gate, operators' commands, and results of a center, on real Slurm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from c2_platform import Platform

pytestmark = pytest.mark.slurm


def test_a_drained_partition_accepts_and_holds_until_it_is_enabled(platform: Platform) -> None:
    platform.operator("partition", "drain", "p_qx", "--reason", "maintenance")
    job_id = platform.submit_bell()
    platform.until(lambda: platform.job(job_id)["Reason"] == "PartitionDown")
    row = platform.partition()
    assert (row["wish"], row["slurm_state"], row["queued"]) == ("drained", "DOWN", 1)
    assert "maintenance" in row["reason"]
    platform.operator("partition", "enable", "p_qx")
    platform.until_state(job_id, "COMPLETED")


def test_draining_lets_what_runs_finish_and_starts_nothing_else(platform: Platform) -> None:
    running = platform.submit_script("sleep 3")
    platform.until_state(running, "RUNNING")
    platform.operator("partition", "drain", "p_qx")
    assert platform.partition()["slurm_state"] == "DOWN"
    waiting = platform.submit_script("true")
    platform.until_state(running, "COMPLETED")
    platform.until(lambda: platform.job(waiting)["Reason"] == "PartitionDown")
    assert platform.job(waiting)["JobState"] == "PENDING"
    platform.operator("partition", "enable", "p_qx")
    platform.until_state(waiting, "COMPLETED")


def test_a_closed_partition_refuses_new_jobs_and_runs_those_it_has(platform: Platform) -> None:
    platform.operator("partition", "drain", "p_qx")
    job_id = platform.submit_bell()
    platform.operator("partition", "close", "p_qx")
    assert platform.partition()["slurm_state"] == "DRAIN"
    platform.until_state(job_id, "COMPLETED")
    refused = platform.testbed.c2(
        ["sbatch", "--partition=p_qx", "--chdir=/", "--wrap=true"], user="center_snellius"
    )
    assert refused.returncode != 0
    assert "Required partition not available" in refused.stderr


def test_an_offline_backend_holds_its_partition_and_says_why(platform: Platform) -> None:
    platform.operator("backend", "offline", "qx", "--reason", "cooling down")
    platform.until(lambda: platform.partition()["slurm_state"] == "DOWN")
    row = platform.partition()
    assert (row["wish"], row["backend_state"]) == ("enabled", "offline")
    assert "cooling down" in row["reason"]
    job_id = platform.submit_bell()
    platform.operator("backend", "online", "qx")
    platform.until_state(job_id, "COMPLETED")


def test_a_silent_dispatcher_holds_the_partition(platform: Platform) -> None:
    platform.testbed.kill("dispatcher")
    platform.until(lambda: platform.partition()["slurm_state"] == "DOWN")
    assert "dispatcher" in platform.partition()["reason"]
    platform.testbed.start("dispatcher")
    platform.until(lambda: platform.partition()["slurm_state"] == "UP")


def test_the_wish_outlives_slurmctld_and_the_gate(platform: Platform) -> None:
    platform.testbed.restart("slurmctld-c2")
    platform.until(lambda: platform.partition()["slurm_state"] == "UP")
    platform.testbed.kill("gate")
    platform.operator("partition", "drain", "p_qx")
    platform.testbed.restart("slurmctld-c2")
    platform.scontrol("update", "PartitionName=p_qx", "State=UP")
    platform.testbed.start("gate")
    platform.until(lambda: platform.partition()["slurm_state"] == "DOWN")


def test_while_slurmctld_is_down_the_wish_is_kept(platform: Platform) -> None:
    platform.testbed.stop("slurmctld-c2")
    done = platform.testbed.c2(["qslurm", "partition", "drain", "p_qx"])
    assert done.returncode == 5
    assert "slurmctld" in done.stderr
    platform.testbed.start("slurmctld-c2")
    platform.scontrol("update", "PartitionName=p_qx", "State=UP")
    platform.until(lambda: platform.partition()["slurm_state"] == "DOWN")


def test_damaged_files_in_its_folder_don_t_stop_the_gate(platform: Platform) -> None:
    for name in ("turned-away/1.json", "finish/1.0.json"):
        path = platform.gate_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")
    platform.operator("backend", "offline", "qx")
    platform.until(lambda: platform.partition()["slurm_state"] == "DOWN")
    platform.until(lambda: not platform.spooled("turned-away") and not platform.spooled("finish"))
    assert {path.name.split(".")[0] for path in (platform.gate_folder / "unreadable").iterdir()} == {"1"}


def test_a_start_time_of_the_owners_own_is_kept(platform: Platform) -> None:
    later = platform.submit_bell("--begin=now+1hour")
    job_id = platform.submit_bell()
    platform.until_state(job_id, "COMPLETED")
    assert platform.job(later)["Reason"] == "BeginTime"


def test_a_center_may_not_speak_for_a_partition(platform: Platform) -> None:
    done = platform.testbed.c2(["qslurm", "partition", "drain", "p_qx"], user="center_snellius")
    assert done.returncode == 4
    assert "SlurmUser" in done.stderr
    assert platform.partition()["wish"] == "enabled"


def test_an_unknown_partition_is_answered_with_the_known_ones(platform: Platform) -> None:
    done = platform.testbed.c2(["qslurm", "partition", "enable", "p_nowhere"])
    assert done.returncode == 2
    assert "p_qx" in done.stderr


def test_a_centers_results_are_for_that_center(platform: Platform) -> None:
    job_id = platform.submit_bell(user="center_lumi")
    platform.until_state(job_id, "COMPLETED")
    assert platform.ask(f"jobs/{job_id}/results", center="lumi").json()["shots"] == 100
    assert "shots" in platform.ask(f"jobs/{job_id}/logs", center="lumi").text
    for path in ("", "/results", "/logs"):
        assert platform.ask(f"jobs/{job_id}{path}", center="snellius").status_code == 404


def test_a_foreign_or_edited_token_is_refused_by_slurm_and_by_the_job_manager(platform: Platform) -> None:
    import requests

    token = platform.testbed.token("lumi")
    edited = token[:-12] + "AAAAAAAAAAAA"
    for user, given in (("center_snellius", token), ("center_lumi", edited)):
        headers = {"X-SLURM-USER-NAME": user, "X-SLURM-USER-TOKEN": given}
        answer = requests.get(f"{platform.testbed.rest_url}/slurm/v0.0.38/ping", headers=headers, timeout=30)
        assert answer.status_code == 500
    headers = {"X-SLURM-USER-NAME": "center_lumi", "X-SLURM-USER-TOKEN": token}
    answer = requests.get(f"{platform.testbed.rest_url}/slurm/v0.0.38/ping", headers=headers, timeout=30)
    assert answer.status_code == 200
    assert platform.ask("jobs", token=edited).status_code == 401


def test_a_node_drained_for_a_second_launch_is_resumed_and_one_drained_by_a_person_is_not(
    platform: Platform,
) -> None:
    drain = ["scontrol", "update", "NodeName=ALL", "State=DRAIN", "Reason=Duplicate jobid"]
    assert platform.testbed.c2(drain, user="slurm").returncode == 0
    platform.until(lambda: platform.node_state() == "idle")
    platform.scontrol("update", "NodeName=ALL", "State=DRAIN", "Reason=fan is noisy")
    platform.testbed.restart("gate")  # it looks at nodes when it starts
    job_id = platform.submit_script("true")
    platform.until(lambda: platform.partition()["slurm_state"] == "UP")
    try:
        assert platform.node_state() in {"drain", "drng"}
        assert platform.state(job_id) == "PENDING"
    finally:
        platform.scontrol("update", "NodeName=ALL", "State=RESUME")
    platform.until_state(job_id, "COMPLETED")


def test_when_a_job_has_ended_slurmctld_is_told_that_there_is_room(platform: Platform) -> None:
    def backfilled() -> int:
        told = platform.testbed.c2(["sdiag"]).stdout
        return int(re.findall(r"Total backfilled jobs \(since last slurm start\): (\d+)", told)[0])

    before = backfilled()
    jobs = [platform.submit_script("sleep 1", "--exclusive") for _ in range(3)]
    for job_id in jobs:
        platform.until_state(job_id, "COMPLETED")
    # that scheduler looks every half minute: it may meet one job that has room, but would have started both that waited
    assert backfilled() - before < 2
