"""What squeue prints is read as it is, whatever people wrote into their jobs' names."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import QslurmError
from qslurm.protocol.job_changes import PartitionLoad
from qslurm.protocol.partition_queue import partition_loads, queue_positions
from qslurm.slurm.job_info import JobInfo, facts_of
from qslurm.slurm.squeue_output import USER_COLUMNS, UserFields, job_of, lines_of, user_fields_of

# Printed by Slurm 22.05.8.
LISTING = b"""\
10003|FAILED|NonZeroExitCode|p_qx|center_snellius|snellius|normal|1795360382|1795360383|1795360391|768|0|5:00|10003|N/A|4294891757|qi1|1795360382|
10002|PENDING|BeginTime|p_spin2|center_snellius|snellius|normal|1795360382|1795363982|1795450382|0|1|1-00:00:00|10002|0-99%3|42||1795363982|
10004|RUNNING|None|p_qx|center_lumi|lumi|normal|1795360935|1795360936|1795361236|0|0|UNLIMITED|10002|7|41|qi1|1795360935|
"""


def row(job_id: int, **facts: object) -> JobInfo:
    line = next(line for at, line in lines_of(LISTING).items() if at == job_id)
    return job_of(line, UserFields(**facts))  # type: ignore[arg-type]


def wide(*texts: str) -> bytes:
    """The columns of one job as squeue prints them: so many bytes each, whatever is in them."""
    cells = zip(texts, (size for _, size in USER_COLUMNS), strict=True)
    return b"".join(text.encode()[:size].ljust(size) for text, size in cells)


def test_a_job_that_ended_has_its_times_and_its_code() -> None:
    job = row(10003, name="bell")
    assert (job.state, job.reason, job.exit_code, job.signal) == ("FAILED", "NonZeroExitCode", 3, None)
    assert (job.start_time, job.end_time, job.time_limit_minutes) == (1795360383, 1795360391, 5)
    assert (job.shown_id, job.nodes, job.name) == ("10003", "qi1", "bell")


def test_an_array_that_waits_has_its_tasks_and_a_guess_of_its_start() -> None:
    job = row(10002)
    assert (job.shown_id, job.array_job_id, job.array_tasks) == ("10002_[0-99%3]", 10002, "0-99%3")
    assert (job.start_time, job.expected_start_time, job.end_time) == (None, 1795363982, None)
    assert (job.time_limit_minutes, job.restart_count) == (1440, 1)


def test_a_task_that_runs_has_its_index_and_no_end_yet() -> None:
    job = row(10004)
    assert (job.shown_id, job.job_id, job.end_time, job.exit_code) == ("10002_7", 10004, None, None)
    assert (job.reason, job.time_limit_minutes) == ("", None)


class JobOfOlder(msgspec.Struct, frozen=True, array_like=True):
    """A job as centers of 0.9 and before read it."""

    job_id: int
    state: str
    reason: str
    partition: str
    user: str
    account: str
    qos: str
    submit: int
    start: int
    end: int
    status: int
    restarts: int
    limit_minutes: int
    array_job: int
    array_tasks: str
    priority: int
    nodes: str = ""
    name: str = ""
    comment: str = ""
    admin_comment: str = ""


@pytest.mark.parametrize("job_id", [10002, 10003, 10004])
def test_an_older_center_reads_what_a_newer_c2_sends_and_a_newer_one_what_an_older_c2_sends(
    job_id: int,
) -> None:
    job = row(job_id, name="a", comment="qslurm key=abc")
    older = msgspec.msgpack.decode(msgspec.msgpack.encode(job), type=JobOfOlder)
    assert (older.job_id, older.status, older.array_tasks, older.comment) == (
        *(job.job_id, job.status, job.array_index, job.comment),
    )
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(older), type=JobInfo)
    assert back == msgspec.structs.replace(job, eligible=0)
    assert facts_of(back) == facts_of(job)


@pytest.mark.parametrize(
    "name", ["a|b", "x\n12|RUNNING|None|p_qx|center_lumi|", "ünï" * 100, " ", "x" * 4000, "(null)\n"]
)
def test_no_name_makes_a_job_or_changes_another(name: str) -> None:
    printed = b"7|" + wide(name, "qslurm key=k", "(null)") + b"\n8|" + wide("bell", "c", "qslurm: no") + b"\n"
    found = user_fields_of(printed)
    assert list(found) == [7, 8]
    assert found[7].comment == "qslurm key=k"
    assert found[8] == UserFields("bell", "c", "qslurm: no")


@given(st.binary(max_size=300))
def test_what_is_no_listing_is_a_qslurm_error(printed: bytes) -> None:
    for read in (lines_of, user_fields_of, lambda data: job_of(data, UserFields())):
        try:
            read(printed)
        except QslurmError as error:
            assert "squeue" in error.message


def test_the_line_is_by_priority_then_by_age_and_those_that_may_not_start_stand_beside_it() -> None:
    base = row(10002)

    def waits(job_id: int, priority: int, reason: str = "Priority", **changes: str) -> JobInfo:
        facts = {name: getattr(base, name) for name in base.__struct_fields__} | {"partition": "p_qx"}
        return JobInfo(**(facts | {"job_id": job_id, "priority": priority, "reason": reason} | changes))

    rows = [
        waits(3, 10),
        waits(1, 20),
        waits(2, 10),
        waits(4, 99, "JobHeldUser"),
        waits(5, 1, partition="p_y"),
    ]
    assert queue_positions(rows) == {1: 1, 2: 2, 3: 3, 5: 1}
    others = [waits(6, 9, state="RUNNING"), waits(7, 9, state="COMPLETED", partition="p_z")]
    assert partition_loads(rows + others) == [
        PartitionLoad(partition="p_qx", waiting=4, in_line=3, running=1),
        PartitionLoad(partition="p_y", waiting=1, in_line=1),
    ]
