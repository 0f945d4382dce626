"""The requests that are recorded of each API version: those of the client, and failures."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from testbed import TestbedError
from testbed.command import checked

from qslurm.payload.comment import Comment, new_key
from recording.exchanges import Answer, Recorder

PARTITION, NODE = "p_qx", "qi1"
LONGEST_WAIT_S = 150.0
NEVER = 2**31 - 1
"""A time after which no job has changed."""


def tell(recorder: Recorder) -> None:
    """Record all exchanges. Afterwards C2 has no job of ours, and its partition is enabled."""
    _platform(recorder, "enable")
    try:
        late = _submitted(recorder, "submit_times_out", payload(recorder, "sleep 300", time_limit=1))
        for chapter in (
            _who,
            _partitions,
            _what_a_payload_may_be,
            _what_slurm_refuses,
            _jobs,
            _keys,
            _closed,
        ):
            chapter(recorder)
        _until(recorder, late, "TIMEOUT")
        _job(recorder, "job_timeout", late)
        _accounting(recorder, late)
        _controller_away(recorder)
        _accounting_away(recorder)
    finally:
        _platform(recorder, "enable")
        recorder.testbed.c2(("scancel", "--user=center_snellius"))


def payload(recorder: Recorder, line: str = "echo hello", **job: Any) -> dict[str, Any]:
    """A payload for the recorded version; fields that are None are omitted."""
    full = {
        "partition": PARTITION,
        "name": "t",
        "current_working_directory": "/tmp",  # noqa: S108 # a folder on C2
        "environment": _environment(recorder, "/bin:/usr/bin"),
        "tasks": 1,
        "comment": Comment(key=new_key(), kind="script").format(),
        **job,
    }
    return {
        "job": {name: value for name, value in full.items() if value is not None},
        "script": f"#!/bin/bash\n{line}\n",
    }


# --- chapters


def _who(recorder: Recorder) -> None:
    """Tokens: none, without a user name, as a bearer token, forged, with another center's name."""
    recorder.exchange("ping", "GET", "{control}/ping")
    recorder.exchange("version_unknown", "GET", "/slurm/v0.0.12/ping")
    recorder.exchange("path_unknown", "GET", "{control}/nonsense")
    recorder.exchange("method_not_allowed", "PUT", "{control}/ping")
    recorder.exchange("auth_none", "GET", "{control}/ping", headers={})
    token = recorder.headers()["X-SLURM-USER-TOKEN"]
    recorder.exchange("auth_only_token", "GET", "{control}/ping", headers={"X-SLURM-USER-TOKEN": token})
    recorder.exchange("auth_bearer", "GET", "{control}/ping", headers={"Authorization": f"Bearer {token}"})
    forged = recorder.forged()
    recorder.exchange("auth_other_key", "GET", "{control}/ping", headers=forged)
    recorder.submit("auth_other_key_submit", payload(recorder), headers=forged)
    recorder.exchange("auth_other_key_job", "GET", "{control}/job/1", headers=forged)
    recorder.exchange("auth_other_key_jobs", "GET", f"{{control}}/jobs?update_time={NEVER}", headers=forged)
    recorder.exchange("auth_other_key_cancel", "DELETE", "{control}/job/1", headers=forged)
    recorder.exchange("slurmdb_auth_other_key", "GET", "{accounting}/job/1", headers=forged)
    other = recorder.headers() | {"X-SLURM-USER-NAME": "center_lumi"}
    recorder.submit("auth_other_user", payload(recorder), headers=other)


def _partitions(recorder: Recorder) -> None:
    recorder.exchange("partitions", "GET", "{control}/partitions")
    recorder.exchange("partition", "GET", f"{{control}}/partition/{PARTITION}")
    recorder.exchange("partition_unknown", "GET", "{control}/partition/p_nowhere")


def _what_a_payload_may_be(recorder: Recorder) -> None:
    """Forms of a payload that some versions accept and others refuse."""
    number = {"set": True, "infinite": False, "number": 5}
    begin = int(time.time()) + 3600
    held = {"hold": True}
    shapes: dict[str, dict[str, Any]] = {
        "submit_environment_dict": {"environment": {"PATH": "/bin"}, **held},
        "submit_environment_list": {"environment": ["PATH=/bin"], **held},
        "submit_no_environment": {"environment": None, **held},
        "submit_environment_empty_list": {"environment": [], **held},
        "submit_time_limit_number": {"time_limit": 5, **held},
        "submit_time_limit_object": {"time_limit": number, **held},
        "submit_time_limit_string": {"time_limit": "00:05:00", **held},
        "submit_nodes_integer": {"nodes": 1, **held},
        "submit_nodes_text": {"nodes": "1", **held},
        "submit_begin": {"begin_time": begin},
        "submit_begin_object": {"begin_time": {"set": True, "infinite": False, "number": begin}},
        "submit_plane_size": {"distribution_plane_size": 4, **held},
        "submit_exclusive": {"exclusive": ["true"], **held},
        "submit_oversubscribe": {"oversubscribe": True, **held},
        "submit_shared": {"shared": ["none"], **held},
        "submit_unknown_field": {"nonsense": 1, **held},
        "submit_bad_type": {"tasks": "many", **held},
        "submit_hold": held,
        "submit_priority_number": {"priority": 5, **held},
        "submit_no_cwd": {"current_working_directory": None, **held},
        "submit_unicode": {"name": "Grüße-量子", **held},
        "submit_array": {"array": "1-3", **held},
        "submit_signal": {"kill_warning_signal": "TERM", "kill_warning_delay": 60, **held},
    }
    for name, job in shapes.items():
        _cancel(recorder, recorder.submit(name, payload(recorder, **job)))
    inside = payload(recorder, hold=True)
    inside["job"]["script"] = inside.pop("script")
    _cancel(recorder, recorder.submit("submit_script_inside_job", inside))
    recorder.submit("submit_no_script", {"job": payload(recorder)["job"]})
    recorder.submit("submit_empty_script", payload(recorder) | {"script": ""})
    recorder.submit("submit_bad_json", '{"job": ')
    recorder.submit("submit_empty_body", "")
    recorder.submit("submit_not_object", [1])


def _what_slurm_refuses(recorder: Recorder) -> None:
    hopeless: dict[str, dict[str, Any]] = {
        "submit_bad_partition": {"partition": "p_nowhere"},
        "submit_bad_account": {"account": "lumi"},
        "submit_bad_qos": {"qos": "gold"},
        "submit_bad_reservation": {"reservation": "nobodys"},
        "submit_dependency_bad": {"dependency": "afterok:999999"},
        "submit_time_limit_too_long": {"time_limit": 60 * 24 * 30},
        "submit_too_many_nodes": {"minimum_nodes": 5},
        "submit_user_id_other": {"user_id": "root"},
    }
    for name, job in hopeless.items():
        _cancel(recorder, recorder.submit(name, payload(recorder, **job)))


def _jobs(recorder: Recorder) -> None:
    """The states of a job."""
    done = _submitted(recorder, "submit_ok", payload(recorder))
    failed = _submitted(recorder, "submit_fails", payload(recorder, "exit 3"))
    running = _submitted(recorder, "submit_running", payload(recorder, "sleep 300"))
    _until(recorder, done, "COMPLETED")
    _job(recorder, "job_completed", done)
    recorder.exchange("cancel_finished", "DELETE", f"{{control}}/job/{done}")
    _until(recorder, failed, "FAILED")
    _job(recorder, "job_failed", failed)
    _until(recorder, running, "RUNNING")
    _job(recorder, "job_running", running)
    lumi = recorder.headers("lumi")
    recorder.exchange("job_running_other_user", "GET", f"{{control}}/job/{running}", headers=lumi)
    recorder.exchange("job_running_other_user_cancel", "DELETE", f"{{control}}/job/{running}", headers=lumi)
    recorder.exchange("jobs", "GET", "{control}/jobs", jobs=3, note="cut to the last three jobs")
    later = int(time.time()) + 60
    recorder.exchange("jobs_update_time", "GET", f"{{control}}/jobs?update_time={later}")
    recorder.exchange("cancel_running", "DELETE", f"{{control}}/job/{running}")
    _until(recorder, running, "CANCELLED")
    _job(recorder, "job_cancelled", running)
    held = _submitted(recorder, "submit_to_update", payload(recorder, "sleep 300", hold=True))
    for name, job_id, headers in (
        ("update_release", held, None),
        ("update_running", held, None),
        ("update_unknown", 999999, None),
        ("update_other_user", held, lumi),
    ):
        change = {"hold": name == "update_running"}
        for ending, more in (("", {}), ("_environment", {"environment": _environment(recorder, "/bin")})):
            recorder.exchange(
                name + ending, "POST", f"{{control}}/job/{job_id}", change | more, headers=headers
            )
        _until(recorder, held, "RUNNING")
    recorder.exchange("", "DELETE", f"{{control}}/job/{held}")
    array = _submitted(recorder, "submit_to_cut", payload(recorder, "sleep 300", array="1-3"))
    _until(recorder, array, "RUNNING")
    _job(recorder, "job_array", array)
    recorder.exchange("cancel_task", "DELETE", f"{{control}}/job/{array}_2")
    recorder.exchange("cancel_task_unknown", "DELETE", f"{{control}}/job/{array}_9")
    recorder.exchange("", "DELETE", f"{{control}}/job/{array}")
    recorder.exchange("job_unknown", "GET", "{control}/job/999999")
    recorder.exchange("job_bad_id", "GET", "{control}/job/nonsense")
    recorder.exchange("job_too_large", "GET", "{control}/job/99999999")
    recorder.exchange("cancel_unknown", "DELETE", "{control}/job/999999")
    recorder.exchange("cancel_too_large", "DELETE", "{control}/job/99999999")


def _keys(recorder: Recorder) -> None:
    keyed = payload(recorder, hold=True)
    first = recorder.submit("submit_key", keyed)
    recorder.submit("submit_key_duplicate", keyed, note="the same key again: job_submit.lua refuses it")
    _cancel(recorder, first)


def _closed(recorder: Recorder) -> None:
    """A partition that is down, one that refuses jobs, and a drained node."""
    _platform(recorder, "drain")
    job_id = _submitted(recorder, "submit_partition_down", payload(recorder))
    _until(recorder, job_id, "PENDING Reason=PartitionDown")  # the scheduler says it a moment later
    _job(recorder, "job_pending_partition_down", job_id)
    recorder.exchange("cancel_pending", "DELETE", f"{{control}}/job/{job_id}")
    _job(recorder, "job_cancelled_pending", job_id)
    with _gate_stopped(recorder):
        for state in ("DRAIN", "INACTIVE"):
            _scontrol(recorder, f"PartitionName={PARTITION}", f"State={state}")
            recorder.submit(f"submit_partition_{state.lower()}", payload(recorder))
        _scontrol(recorder, f"PartitionName={PARTITION}", "State=UP")
        _scontrol(recorder, f"NodeName={NODE}", "State=DRAIN", "Reason=recording")
        try:
            _cancel(recorder, recorder.submit("submit_node_drained", payload(recorder)))
        finally:
            _scontrol(recorder, f"NodeName={NODE}", "State=RESUME")
    _platform(recorder, "enable")


def _accounting(recorder: Recorder, job_id: int) -> None:
    """slurmdbd's records of jobs that timed out and failed."""
    recorder.exchange("slurmdb_job", "GET", f"{{accounting}}/job/{job_id}")
    recorder.exchange("slurmdb_job_unknown", "GET", "{accounting}/job/999999")
    ours = "{accounting}/jobs?users=center_snellius"
    recorder.exchange("slurmdb_jobs_of_user", "GET", f"{ours}&state=TIMEOUT", jobs=3)
    recorder.exchange("slurmdb_jobs_of_nobody", "GET", f"{ours}&job_name=none")
    sacct = ("sacct", "--user=center_snellius", "--state=FAILED", "--starttime=now-1hour", "--endtime=now")
    shape = ("--allocations", "--noheader", "--parsable2", "--format=JobID,ExitCode")
    failed, exit_code = checked(recorder.testbed.c2((*sacct, *shape))).split()[-1].split("|")
    note = f"sacct says {exit_code}"
    recorder.exchange("slurmdb_job_failed", "GET", f"{{accounting}}/job/{failed}", note=note)
    recorder.exchange("slurmdb_jobs_failed", "GET", f"{ours}&state=FAILED", jobs=1, note=note)


def _controller_away(recorder: Recorder) -> None:
    """slurmctld frozen, and killed."""
    pid = recorder.testbed.pid("slurmctld-c2")
    if pid is None:
        raise TestbedError("slurmctld is not running.")
    os.kill(pid, signal.SIGSTOP)
    note = "slurmctld is stopped meanwhile"
    try:
        recorder.submit("submit_controller_frozen", payload(recorder, hold=True), note=note)
        recorder.exchange("job_controller_frozen", "GET", "{control}/job/1", note=note)
    finally:
        os.kill(pid, signal.SIGCONT)
    recorder.testbed.stop("slurmctld-c2")
    try:
        recorder.submit("submit_controller_dead", payload(recorder))
        recorder.exchange("ping_controller_dead", "GET", "{control}/ping")
        recorder.exchange("job_controller_dead", "GET", "{control}/job/1")
        recorder.exchange("cancel_controller_dead", "DELETE", "{control}/job/1")
    finally:
        recorder.testbed.start("slurmctld-c2")


def _accounting_away(recorder: Recorder) -> None:
    """slurmdbd killed, and without its database."""
    note = "slurmdbd is away"
    recorder.testbed.stop("slurmdbd")
    try:
        job_id = _job_id(recorder.submit("submit_slurmdbd_dead", payload(recorder, hold=True), note=note))
        questions = (
            ("ping", "GET", "{control}/ping"),
            ("job", "GET", f"{{control}}/job/{job_id}"),
            ("jobs", "GET", "{control}/jobs"),
            ("partitions", "GET", "{control}/partitions"),
            ("cancel", "DELETE", f"{{control}}/job/{job_id}"),
        )
        for name, method, path in questions:
            recorder.exchange(f"{name}_slurmdbd_dead", method, path, note=note, jobs=1)
        recorder.exchange("slurmdb_dead", "GET", "{accounting}/job/1", note=note)
        recorder.exchange(
            "ping_slurmdbd_dead_other_key",
            "GET",
            "{control}/ping",
            headers=recorder.forged(),
            note=f"{note}, and the token is forged",
        )
    finally:
        recorder.testbed.up()
    recorder.testbed.stop("mariadbd")
    try:
        recorder.exchange("slurmdb_database_dead", "GET", "{accounting}/job/1", note="MariaDB is away")
        recorder.exchange("slurmdb_jobs_database_dead", "GET", "{accounting}/jobs?users=center_snellius")
    finally:
        recorder.testbed.up()


# --- hands


def _environment(recorder: Recorder, path: str) -> dict[str, str] | list[str]:
    return {"PATH": path} if recorder.version == "v0.0.38" else [f"PATH={path}"]


def _submitted(recorder: Recorder, name: str, given: dict[str, Any]) -> int:
    answer = recorder.submit(name, given)
    job_id = _job_id(answer)
    if job_id is None:
        raise TestbedError(f"{recorder.version}: slurmrestd refused {name}: {answer['body']}")
    return job_id


def _job_id(answer: Answer) -> int | None:
    body = answer["body"]
    return body.get("job_id") or None if isinstance(body, dict) else None


def _cancel(recorder: Recorder, answer: Answer) -> None:
    if job_id := _job_id(answer):
        recorder.exchange("", "DELETE", f"{{control}}/job/{job_id}")


def _job(recorder: Recorder, name: str, job_id: int) -> None:
    recorder.exchange(name, "GET", f"{{control}}/job/{job_id}")


def _until(recorder: Recorder, job_id: int, state: str) -> None:
    """Wait for a job's state, by scontrol."""
    _wait(
        lambda: f"JobState={state} " in recorder.testbed.c2(("scontrol", "show", "job", str(job_id))).stdout,
        f"job {job_id} to be {state}",
    )


def _wait(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not question():
        if time.monotonic() > deadline:
            raise TestbedError(f"Timed out waiting for {what}.")
        time.sleep(0.1)


def _platform(recorder: Recorder, wish: str) -> None:
    """Enable or drain the partition as C2's operator, and wait for Slurm to show it."""
    checked(recorder.testbed.c2(("qslurm", "partition", wish, PARTITION)))
    state = {"enable": "UP", "drain": "DOWN"}[wish]
    _wait(
        lambda: f"State={state} " in recorder.testbed.c2(("scontrol", "show", "partition", PARTITION)).stdout,
        f"{PARTITION} to be {state}",
    )


def _scontrol(recorder: Recorder, *words: str) -> None:
    checked(recorder.testbed.c2(("scontrol", "update", *words)))


@contextmanager
def _gate_stopped(recorder: Recorder) -> Iterator[None]:
    """Stop the gate, which would reset the partition's state."""
    recorder.testbed.stop("gate")
    try:
        yield
    finally:
        recorder.testbed.start("gate")
