"""What the hooks make of the environment slurmctld gives them."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from qslurm.c2.config.file import C2Config
from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.c2.hooks.job_start import UnrunnableJobError, admit_request, center_of, read_start
from qslurm.errors import QslurmError
from qslurm.payload.envelope import Envelope, pack
from qslurm.payload.handover import SHIPPED, around_script, c2s_own

STEP = "/usr/lib/qslurm/qslurm-step"
CONFIG = C2Config(kinds={"default": ["circuit", "hybrid", "script", "session"]})

# As slurmctld 22.05 gives it to PrologSlurmctld.
ENVIRONMENT = {
    "SLURM_JOB_ID": "11",
    "SLURM_JOB_RESTART_COUNT": "1",
    "SLURM_JOB_USER": "center_snellius",
    "SLURM_JOB_UID": "6811",
    "SLURM_JOB_ACCOUNT": "snellius",
    "SLURM_JOB_PARTITION": "p_qx",
    "SLURM_JOB_NAME": "bell",
    "SLURM_JOB_COMMENT": "qslurm key=abc kind=script backend=spin2 origin=slurm:snellius:4711:alice",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmctld",
}


def test_the_partition_says_the_backend_and_the_script_says_the_kind() -> None:
    envelope = Envelope(kind="circuit", source="version 3\nqubit q", shots=100)
    script = f"{SHIPPED[-1]}{pack(envelope)}\n"
    admit = admit_request(read_start(ENVIRONMENT), script, CONFIG)
    assert (admit.job_id, admit.restart, admit.uid) == (11, 1, 6811)
    assert (admit.center, admit.account, admit.user) == ("snellius", "snellius", "center_snellius")
    assert (admit.backend, admit.kind, admit.envelope) == ("qx", "circuit", envelope)
    assert (admit.key, admit.origin) == ("abc", "slurm:snellius:4711:alice")


def test_the_tasks_of_an_array_are_submissions_of_their_own() -> None:
    tasks = [read_start({**ENVIRONMENT, "SLURM_ARRAY_TASK_ID": str(index)}) for index in range(3)]
    assert [task.comment.key for task in tasks] == ["abc#0", "abc#1", "abc#2"]
    assert read_start({**ENVIRONMENT, "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_COMMENT": ""}).comment.key == ""


def test_a_task_is_asked_for_with_the_values_that_its_sweep_gives_it() -> None:
    script = SHIPPED[-1] + pack(Envelope(kind="circuit", source="Rx({{ theta }}) q", sweep="theta:0:1:0.5"))
    start = read_start({**ENVIRONMENT, "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "1"})
    envelope = admit_request(start, script, CONFIG).envelope
    assert envelope is not None
    assert (envelope.source, envelope.parameters, envelope.sweep) == ("Rx(0.5) q", {"theta": "0.5"}, "")
    for environment in (ENVIRONMENT, {**ENVIRONMENT, "SLURM_ARRAY_TASK_ID": "3"}):
        with pytest.raises(UnrunnableJobError, match="sweep"):
            admit_request(read_start(environment), script, CONFIG)


def test_slurm_is_told_of_a_task_by_its_index_since_the_last_one_has_the_arrays_id() -> None:
    assert read_start(ENVIRONMENT).slurm_id == "11"
    task = read_start({**ENVIRONMENT, "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3"})
    assert (task.job_id, task.slurm_id) == (11, "11_3")


def test_a_script_without_an_envelope_is_a_script_job() -> None:
    admit = admit_request(read_start(ENVIRONMENT), around_script(STEP) + "#!/bin/bash\nhostname\n", CONFIG)
    assert (admit.kind, admit.envelope) == ("script", None)


def test_a_damaged_envelope_is_hopeless() -> None:
    with pytest.raises(UnrunnableJobError, match="Cannot read the job's data"):
        admit_request(read_start(ENVIRONMENT), SHIPPED[-1] + "#QSLURM-DATA {nonsense\n", CONFIG)


OURS = {kind: pack(Envelope(kind=kind, source="x")) for kind in ("circuit", "hybrid", "session")}
HEADS = [*SHIPPED, c2s_own(STEP)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", OURS)
def test_what_begins_as_ours_to_the_letter_is_what_its_data_says(head: str, kind: str) -> None:
    assert admit_request(read_start(ENVIRONMENT), f"{head}{OURS[kind]}\n", CONFIG).kind == kind


FORGED = {
    "a letter more": lambda head: head + " ",
    "a letter less": lambda head: head[:-2] + "\n",
    "a line before": lambda head: head.replace("\n", "\nscancel 1\n", 1),
    "a line between": lambda head: head + "scancel 1\n",
    "another step": lambda head: head.replace("qslurm-step", "my-step"),
    "other line ends": lambda head: head.replace("\n", "\r\n"),
    "two sets of data": lambda head: f"{head}{OURS['circuit']}\nscancel 1\n",
    "nothing": lambda _: "",
    "only a program": lambda _: "#!/bin/bash\n",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("how", FORGED)
def test_whatever_else_a_script_is_it_is_a_script_and_is_not_run_unconfined(head: str, how: str) -> None:
    script = f"{FORGED[how](head)}{OURS['hybrid']}\n"
    with pytest.raises(UnrunnableJobError, match="did not pass through C2's job_submit"):
        admit_request(read_start(ENVIRONMENT), script, CONFIG)
    loose = msgspec.structs.replace(CONFIG, runtimes=RuntimesConfig(confine_scripts=False))
    assert admit_request(read_start(ENVIRONMENT), script, loose).kind == "script"
    with pytest.raises(UnrunnableJobError, match="does not accept script jobs from center snellius"):
        admit_request(read_start(ENVIRONMENT), script, C2Config())


KINDS = {
    "what C2 says of nobody": ({}, {"circuit", "hybrid", "session"}),
    "of all": ({"default": ["script"]}, {"script"}),
    "of this center": ({"default": ["script"], "snellius": ["circuit"]}, {"circuit"}),
    "of another": ({"lumi": ["script"]}, {"circuit", "hybrid", "session"}),
    "nothing at all": ({"snellius": []}, set()),
}


@pytest.mark.parametrize("whose", KINDS)
def test_a_center_sends_what_it_may(whose: str) -> None:
    said, allowed = KINDS[whose]
    config = C2Config(kinds=said)
    scripts = {kind: f"{SHIPPED[-1]}{data}\n" for kind, data in OURS.items()}
    scripts["script"] = around_script(STEP) + "#!/bin/bash\n"
    taken = set()
    for kind, script in scripts.items():
        try:
            taken.add(admit_request(read_start(ENVIRONMENT), script, config).kind)
        except UnrunnableJobError as error:
            assert f"C2 does not accept {kind} jobs from center snellius" in error.message
    assert taken == allowed


@pytest.mark.parametrize("user", ["root", "center_", "snellius", ""])
def test_a_user_that_stands_for_no_center_is_hopeless(user: str) -> None:
    with pytest.raises(UnrunnableJobError, match="does not belong to a center"):
        center_of(user, "center_")


def test_without_a_prefix_every_user_is_a_center() -> None:
    assert center_of("snellius", "") == "snellius"


@pytest.mark.parametrize(
    "missing", ["SLURM_JOB_ID", "SLURM_JOB_USER", "SLURM_JOB_UID", "SLURM_JOB_PARTITION"]
)
def test_called_by_hand_it_says_who_should_call_it(missing: str) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(QslurmError, match="PrologSlurmctld"):
        read_start(environment)


def test_an_account_slurm_does_not_name_is_none() -> None:
    assert read_start(ENVIRONMENT | {"SLURM_JOB_ACCOUNT": "(null)"}).account == ""


def test_a_hook_starts_light() -> None:
    heavy = [
        "requests",
        "jinja2",
        "cryptography",
        "starlette",
        "uvicorn",
        "scipy",
        "numpy",
        "libqasm",
        "qxelarator",
        "sqlite3",
        "asyncio",
    ]
    code = (
        "import sys, qslurm.c2.hooks.prolog_epilog, qslurm.c2.config.file\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_hook_that_hangs_says_its_last_words_and_gives_the_job_back() -> None:
    code = (
        "import sys, threading; from qslurm.c2.hooks.prolog_epilog import set_time_limit\n"
        "set_time_limit(0.05, lambda: print('last words', flush=True))\n"
        "threading.Event().wait()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (1, "last words")


@pytest.mark.parametrize("number", [-1, 2**53, 2**64, 10**30])
def test_a_number_that_nobody_can_carry_is_hopeless_and_not_tried_for_ever(number: int) -> None:
    script = f'{SHIPPED[-1]}#QSLURM-DATA {{"kind":"circuit","source":"version 3","seed":{number}}}\n'
    with pytest.raises(UnrunnableJobError, match="Cannot read the job's data"):
        admit_request(read_start(ENVIRONMENT), script, CONFIG)


def test_a_name_that_is_no_text_is_hopeless() -> None:
    # what is not UTF-8 stands in the environment like this
    with pytest.raises(UnrunnableJobError, match="Cannot send"):
        admit_request(
            read_start(ENVIRONMENT | {"SLURM_JOB_NAME": "\udcff"}),
            around_script(STEP) + "#!/bin/bash\n",
            CONFIG,
        )
