"""What Slurm's commands print, and what their errors mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.config.file import SlurmConfig
from qslurm.c2.slurm_commands import SlurmCommands, error_of
from qslurm.errors import PermissionDeniedError, QslurmError, UnknownJobError, UnreachableError
from qslurm.slurm.command_output import DrainedNode, parse_drained, parse_partitions
from qslurm.slurm.squeue_output import jobs_of

# Printed by Slurm 22.05.8.
SQUEUE = b"""\
23|COMPLETING|None|p_qx|center_a|a|normal|1795337805|1795337805|1795337807|15|0|5:00|23|N/A|7|qi1|1795337805|
22|FAILED|NonZeroExitCode|p_qx|center_a|a|normal|1795337805|1795337805|1795337806|768|0|5:00|22|N/A|7|qi1|1795337805|
25|PENDING|JobHeldUser|p_qx|center_a|a|normal|1795337805|N/A|N/A|0|0|5:00|25|N/A|0||N/A|
21|RUNNING|None|p_qx|center_a|a|normal|1795337805|1795337806|1795338106|0|1|5:00|21|N/A|7|qi1|1795337805|
"""
# The same columns from Slurm 24.11.5.
NEWER_SQUEUE = b"""\
27|CANCELLED|None|p_qx|center_a|a|normal|1795350075|1795350075|1795350077|0:15|0|5:00|27|N/A|7|qi1|1795350075|
26|FAILED|NonZeroExitCode|p_qx|center_a|a|normal|1795350075|1795350075|1795350077|3:0|0|5:00|26|N/A|7|qi1|1795350075|
28|PENDING|JobHeldUser|p_qx|center_a|a|normal|1795350075|N/A|1795350078|0:0|0|5:00|28|N/A|0||N/A|
"""
PARTITIONS = (
    "PartitionName=p_spin2 AllowGroups=ALL Default=NO QoS=N/A Nodes=qi1 PreemptMode=OFF State=INACTIVE TotalCPUs=16\n"
    "PartitionName=p_qx AllowGroups=ALL Default=YES QoS=N/A Nodes=qi1 PreemptMode=OFF State=UP TotalCPUs=16\n"
)


def test_jobs_are_read_with_their_times_and_codes() -> None:
    jobs = jobs_of(SQUEUE)
    assert jobs[22].status == 768
    assert jobs[21].restart_count == 1
    assert jobs[21].eligible == 1795337805
    assert jobs[25].eligible == 0
    assert [number for number, job in jobs.items() if not job.is_final] == [23, 25, 21]


def test_newer_slurms_print_exit_codes_as_code_and_signal() -> None:
    assert [job.status for job in jobs_of(NEWER_SQUEUE).values()] == [15, 768, 0]


@given(st.binary())
def test_what_is_no_list_of_jobs_is_a_qslurm_error(text: bytes) -> None:
    try:
        jobs_of(text)
    except QslurmError as error:
        assert "squeue" in error.message


def test_partitions_are_read_with_their_states() -> None:
    assert parse_partitions(PARTITIONS) == {"p_spin2": "INACTIVE", "p_qx": "UP"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("slurm_load_partitions: Unable to contact slurm controller (connect failure)", UnreachableError),
        ("slurm_update error: Socket timed out on send/recv operation", UnreachableError),
        ("slurm_load_jobs error: Invalid job id specified", UnknownJobError),
        ("slurm_update error: Invalid user id", PermissionDeniedError),
        ("scancel: error: Kill job error on job id 7: Access/permission denied", PermissionDeniedError),
        ("slurm_update error: Invalid partition name specified", QslurmError),
        ("", QslurmError),
    ],
)
def test_slurms_words_become_errors(text: str, kind: type[QslurmError]) -> None:
    assert type(error_of("scontrol", text)) is kind


def test_a_missing_program_says_where_to_name_its_folder() -> None:
    with pytest.raises(QslurmError, match=r"`bin` under \[slurm\]"):
        SlurmCommands(SlurmConfig(bin="/nonexistent")).partitions()


def test_no_jobs_are_asked_for_without_asking_slurm() -> None:
    assert SlurmCommands(SlurmConfig(bin="/nonexistent")).jobs([]) == {}


def test_drained_nodes_are_read_and_what_is_none_is_left_out() -> None:
    lines = ["qi1|Duplicate jobid|slurm(64030)|"] * 2 + [
        "qi2|a|b|root(0)|",
        "qi3|none|Unknown|",
        "",
        "nonsense",
    ]
    text = "\n".join(lines)
    assert parse_drained(text) == [
        DrainedNode(name="qi1", reason="Duplicate jobid", by=64030),
        DrainedNode(name="qi2", reason="a|b", by=0),
    ]
