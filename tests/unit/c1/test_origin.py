"""Who submits, read off a job's environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c1.origin import (
    SYSTEMS,
    SubmissionOrigin,
    describe,
    names_of_this_user,
    origin_from_environment,
    user_of,
    with_user,
)
from qslurm.payload.comment import Comment

INSIDE = {"SLURM_JOB_ID": "12", "SLURM_CLUSTER_NAME": "snellius", "SLURM_JOB_USER": "alice", "USER": "root"}


def test_a_slurm_job_says_which_one_it_is():
    assert origin_from_environment(INSIDE) == SubmissionOrigin("slurm", "snellius", "12", "alice")
    assert origin_from_environment(INSIDE).format() == "slurm:snellius:12:alice"


def test_a_task_of_an_array_goes_by_the_id_that_users_know():
    inside = {**INSIDE, "SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    assert origin_from_environment(inside).format() == "slurm:snellius:12_3:alice"


def test_outside_a_job_it_is_a_shell():
    assert origin_from_environment({"USER": "bob"}).format() == "shell:::bob"
    assert origin_from_environment({}).format() == "shell:::"
    assert origin_from_environment({"SLURM_JOB_ID": "", "USER": "bob"}).system == "shell"


def test_who_knows_the_user_better_says_so():
    assert origin_from_environment(INSIDE, user="carol").user == "carol"


def test_every_system_is_marked_by_a_job_id():
    assert all(system.job_id for system in SYSTEMS)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (
            {"PBS_JOBID": "1234[7].pbs01", "PBS_ARRAY_INDEX": "7", "PBS_O_LOGNAME": "ann", "USER": "root"},
            "openpbs:pbs01:1234_7:ann",
        ),
        (
            # as pbs_mom and qsub set them for `qsub -A phys`
            {
                "PBS_JOBID": "99.pbs01.site.eu",
                "PBS_ACCOUNT": "phys",
                "PBS_ENVIRONMENT": "PBS_BATCH",
                "PBS_QUEUE": "workq",
                "PBS_O_LOGNAME": "ann",
                "PBS_O_HOST": "login1.site.eu",
                "USER": "ann",
            },
            "openpbs:pbs01.site.eu:99:ann:phys",
        ),
        (
            {"FLUX_JOB_ID": "ƒABc12", "FLUX_JOB_CC": "3", "FLUX_URI": "local:///x", "USER": "ann"},
            "flux::fABc12_3:ann",
        ),
        ({"FLUX_URI": "local:///x", "USER": "ann"}, "flux:::ann"),
        ({"FLUX_URI": "ssh://head/x", "FLUX_PROXY_REMOTE": "head", "USER": "ann"}, "shell:::ann"),
        ({"HQ_JOB_ID": "1", "HQ_TASK_ID": "0", "USER": "ann"}, "hyperqueue::1_0:ann"),
        ({"QCG_PM_STEP_ID": "a1a63fba", "USER": "ann"}, "qcg-pilotjob::a1a63fba:ann"),
        ({**INSIDE, "HQ_JOB_ID": "1", "HQ_TASK_ID": "4"}, "hyperqueue:snellius:1_4@12:alice"),
        ({**INSIDE, "HQ_JOB_ID": "12", "HQ_TASK_ID": "0"}, "hyperqueue:snellius:12_0@12:alice"),
        (
            {**INSIDE, "SLURM_JOB_ACCOUNT": "phys", "QCG_PM_STEP_ID": "x"},
            "qcg-pilotjob:snellius:x@12:alice:phys",
        ),
        ({**INSIDE, "PBS_JOBID": "12"}, "slurm:snellius:12:alice"),  # by Slurm's plugin for PBS scripts
        ({**INSIDE, "SLURM_JOB_ACCOUNT": "(null)"}, "slurm:snellius:12:alice"),
    ],
)
def test_each_system_says_who_it_is_as_it_documents(inside, expected):
    text = origin_from_environment(inside).format()
    assert text == expected
    assert user_of(text) == ("alice" if "SLURM_JOB_ID" in inside else "ann")


def test_an_origin_can_be_read_by_people():
    assert describe("slurm:snellius:12_3:alice:phys") == "slurm job 12_3 on snellius, by alice (account phys)"
    assert (
        describe("hyperqueue:snellius:1_4@12:alice") == "hyperqueue job 1_4 in job 12 on snellius, by alice"
    )
    assert describe("shell:::bob") == "shell, by bob"
    assert describe("") == ""


@pytest.mark.parametrize("hostile", ["a b", "x=y", "new\nline", "ü", "x" * 500, "a:b"])
def test_a_hostile_environment_can_not_break_the_comment(hostile):
    text = origin_from_environment({**INSIDE, "SLURM_JOB_USER": hostile}).format()
    assert Comment.parse(Comment(key="k", origin=text).format()).origin == text
    assert text.count(":") == 3


NAMES = [
    "DOMAIN\\ann",
    "ann@physics.example.org",
    "Ann de Vries",
    "a.b-c_d+e",
    "a,b:c=d/e#f%41'\"$",
    "jürgen",
    "θωμάς",
    "a" * 255,
    "~root",
    "%",
    os.fsdecode(b"j\xfcrgen"),
]
"""As sites have them: from a directory, with an initial, in other alphabets, of the greatest length."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("environ", [{}, {**INSIDE, "SLURM_JOB_ACCOUNT": "Phys: 2%"}])
def test_a_user_is_read_as_written_whatever_the_name(name, environ):
    origin = origin_from_environment({**environ, "USER": name, "SLURM_JOB_USER": name})
    comment = Comment(key="k", origin=origin.format(), note="user=eve origin=shell:::eve").format()
    assert user_of(Comment.parse(comment).origin) == name
    said = describe(origin.format())
    assert f"by {name}" in said
    assert ("(account Phys: 2%)" in said) == bool(environ)
    assert name in names_of_this_user({"USER": name})


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_two_names_are_written_alike(one, other):
    written = [SubmissionOrigin("shell", user=name).format() for name in (one, other)]
    assert (written[0] == written[1]) == (one == other)


@pytest.mark.parametrize("origin", ["slurm:c:1:eve", "slurm:c:1:eve:phys", "slurm:c:1", "", "shell:::a:b:c"])
@pytest.mark.parametrize("name", NAMES)
def test_who_knows_better_replaces_the_user_and_leaves_the_place(origin, name):
    changed = with_user(origin, name)
    assert user_of(changed) == name
    place = [part for number, part in enumerate(origin.split(":")[:5]) if number != 3]
    assert changed.split(":")[:3] + changed.split(":")[4:5] == (
        place if len(place) > 2 else ["shell", "", ""]
    )


def test_what_was_written_before_names_were_encoded_is_still_read():
    old = "slurm:snellius:12_3@7:DOMAIN_ann:phys"
    assert user_of(old) == "DOMAIN_ann"
    assert describe(old) == "slurm job 12_3 in job 7 on snellius, by DOMAIN_ann (account phys)"


@given(st.dictionaries(st.sampled_from([*INSIDE, "SLURM_ARRAY_TASK_ID", "LOGNAME"]), st.text()))
def test_any_environment_has_an_origin_that_a_comment_carries(environ):
    text = origin_from_environment(environ).format()
    assert Comment.parse(Comment(origin=text).format()).origin == text
