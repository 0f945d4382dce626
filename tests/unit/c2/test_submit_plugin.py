"""What C2's submit plugin makes of a submission to a quantum partition, and which it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from testbed.render import defaults, merged

from qslurm.payload.envelope import Envelope, pack
from qslurm.payload.handover import SHIPPED, around_script, c2s_own, form_of
from tests.unit.c2.hooks.test_prolog_epilog import FORGED, HEADS, STEP
from tests.unit.c2.submit_plugin import Plugin

DISABLED = 2037
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
OURS = {kind: pack(Envelope(kind=kind, source="x")) for kind in ("circuit", "hybrid", "session")}
ALL = ["circuit", "hybrid", "script", "session"]


def plugin(**center_kinds: list[str]) -> Plugin:
    values = {"kinds": ALL} if not center_kinds else {"center_kinds": center_kinds}
    # a slurmctld without jobs has the plugin wait for the next second when it is loaded
    return Plugin({"comment": "another's"}, variables=merged(defaults(), {"qslurm": values}))


def submitted(c2: Plugin, script: str | None, **more: Any) -> tuple[int, dict[str, Any]]:
    job = {"user_name": "center_snellius", "partition": "p_qx", "environment": dict(ENVIRONMENT), **more}
    return c2.submitted(**job, **({} if script is None else {"script": script}))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", OURS)
def test_what_begins_as_ours_becomes_c2s_own(head: str, kind: str) -> None:
    answer, job = submitted(plugin(), f"{head}{OURS[kind]}\nscancel 1\n")
    assert (answer, job["script"]) == (0, f"{c2s_own(STEP)}{OURS[kind]}\n")
    assert job["environment"] == ENVIRONMENT | {"QSLURM_HANDS_OVER": "1"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("how", FORGED)
def test_whatever_else_a_script_is_the_step_runs_it(head: str, how: str) -> None:
    script = f"{FORGED[how](head)}{OURS['hybrid']}\n"
    hands_over = {"QSLURM_HANDS_OVER": "1"}
    answer, job = submitted(plugin(), script, environment=ENVIRONMENT | hands_over)
    assert (answer, job["script"]) == (0, around_script(STEP) + script)
    assert job["environment"] == ENVIRONMENT | {"QSLURM_HANDS_OVER": ""}
    assert form_of(job["script"], STEP) == "script"
    c2 = plugin(snellius=["circuit", "hybrid", "session"])
    assert submitted(c2, script)[0] == DISABLED
    assert c2.said == ["qslurm: C2 takes no script jobs from your center; ask its operators for it"]


def test_a_script_that_looks_wrapped_is_wrapped_all_the_same() -> None:
    script = around_script(STEP) + "#!/bin/bash\n"
    assert submitted(plugin(), script)[1]["script"] == around_script(STEP) + script


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("allowed", [["circuit"], ["script"], ["hybrid", "session"], ALL, []])
def test_a_center_sends_what_it_may(kind: str, allowed: list[str]) -> None:
    script = f"{SHIPPED[-1]}{OURS[kind]}\n" if kind in OURS else "#!/bin/bash\n"
    answer, _ = submitted(plugin(snellius=allowed), script)
    assert answer == (0 if kind in allowed else DISABLED)
    assert submitted(plugin(lumi=allowed), script)[0] == (DISABLED if kind == "script" else 0)


@pytest.mark.parametrize("partition", ["batch", "other", None])
def test_in_another_partition_all_are_scripts(partition: str | None) -> None:
    """Nothing confines them there; users that are no center's are none of ours."""
    script = f"{SHIPPED[-1]}{OURS['circuit']}\n"
    answer, job = submitted(plugin(), script, partition=partition)
    assert (answer, job["script"]) == (0, script)
    forbidding = plugin(snellius=["circuit"])
    assert submitted(forbidding, script, partition=partition)[0] == DISABLED
    assert submitted(forbidding, script, partition=partition, user_name="ann")[0] == 0


def test_a_job_that_names_no_partition_goes_to_the_default_one() -> None:
    answer, job = submitted(plugin(), "#!/bin/bash\n", partition=None, default_partition="p_qx")
    assert (answer, job["std_in"]) == (0, "/dev/null")


@pytest.mark.parametrize("script", [None, ""])
@pytest.mark.parametrize("kinds", [ALL, ["circuit"]])
def test_nothing_to_run_is_no_quantum_job(script: str | None, kinds: list[str]) -> None:
    """An allocation would be one in which whatever srun names runs unconfined."""
    assert submitted(plugin(snellius=kinds), script)[0] == DISABLED


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT"])
@pytest.mark.parametrize("value", ["/var/spool/qslurm/logs/center_snellius/1.out", ""])
def test_what_the_first_program_would_load_is_refused(name: str, value: str) -> None:
    """Also if it says nothing: a second one of that name may stand behind it."""
    c2 = plugin()
    assert submitted(c2, "#!/bin/bash\n", environment={**ENVIRONMENT, name: value})[0] == DISABLED
    assert name in c2.said[0]


OF_C2S = ("work_dir", "std_in", "std_out", "std_err")


@pytest.mark.parametrize("name", OF_C2S)
@pytest.mark.parametrize(
    "value", [None, "", "/", "/tmp", "/var/spool/qslurm/logs/center_lumi", "/var/spool/qslurm"]
)
def test_folder_and_files_are_c2s_to_say(name: str, value: str | None) -> None:
    _, job = submitted(plugin(), "#!/bin/bash\n", **{name: value})
    log = "/var/spool/qslurm/logs/%u/%j.out"
    own = {
        "work_dir": "/var/spool/qslurm/work/center_snellius",
        "std_in": "/dev/null",
        "std_out": log,
        "std_err": log,
    }
    assert {one: job[one] for one in OF_C2S} == own


@pytest.mark.parametrize("name", [*OF_C2S, "script"])
def test_and_nobody_changes_them_later(name: str) -> None:
    record = {"partition": "p_qx", "user_id": 1000}
    assert plugin().refuses(record, **{name: "/tmp/x"})
    assert not plugin().refuses(record, comment="moved by ops")
    assert not plugin().refuses({**record, "partition": "batch"}, **{name: "/tmp/x"})


@pytest.mark.parametrize(("before", "after"), [("p_qx", "batch"), ("batch", "p_qx")])
def test_a_job_stays_on_its_side(before: str, after: str) -> None:
    assert plugin().refuses({"partition": before, "user_id": 1000}, partition=after)
    assert not plugin().refuses({"partition": "p_qx", "user_id": 1000}, partition="p_spin2")


def test_four_megabytes_take_no_time_that_anybody_notices() -> None:
    """It is looked at under slurmctld's lock; what takes the square of its length would hold that for hours."""
    for script in ("#!/bin/bash\n" + "#QSLURM-DATA" * 350_000, "#!/bin/bash" + "\n#QSLURM-DATA " * 300_000):
        assert submitted(plugin(), script)[0] == 0
