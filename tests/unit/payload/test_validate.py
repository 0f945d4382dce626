"""What is refused before it leaves, because slurmrestd would lose it, or run something else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testbed.layout import CHECKOUT

from qslurm.errors import InvalidInputError
from qslurm.payload.validate import JOB_FIELDS, MAX_SCRIPT, problems, validate
from qslurm.slurm.rest.adapters import ADAPTERS

RECORDED = CHECKOUT / "tests/recorded" / "v0.0.39"


def _payload(script="#!/bin/bash\n", **job):
    full = {"partition": "p_qx", "environment": ["PATH=/bin"], **job}
    return {"job": {name: value for name, value in full.items() if value is not None}, "script": script}


def test_a_plain_payload_passes():
    validate(_payload())


@pytest.mark.parametrize("name", ["begin_time", "distribution_plane_size"])
def test_a_number_that_newer_versions_have_as_an_object_may_be_one(name):
    payload = json.loads((RECORDED / "submit_paper.json").read_text())["request"]["body"]
    for said in (7, {"set": True, "infinite": False, "number": 7}, {"set": False}):
        payload["job"][name] = said
        validate(payload)
        assert ADAPTERS["v0.0.39"].payload(payload)["job"].get(name) in (7, None)
    payload["job"][name] = {"set": True, "infinite": True}
    with pytest.raises(InvalidInputError, match="cannot be infinite"):
        validate(payload)


def test_the_papers_payload_passes():
    validate(json.loads((RECORDED / "submit_paper.json").read_text())["request"]["body"])


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (None, "not an object"),
        ([1], "not an object"),
        ({"script": "#!"}, "job: missing"),
        ({"job": 3, "script": "#!"}, "job: must be an object"),
        ({**_payload(), "jbo": {}}, "jbo: unknown field (did you mean job?)"),
        ({"jobs": [], **_payload()}, "jobs: several jobs"),
        (_payload(partitoin="p"), "job.partitoin: unknown field (did you mean partition?)"),
        (_payload(quantum_shots=7), "job.quantum_shots: unknown field"),
        (_payload(tasks="1"), "job.tasks: must be an integer, not '1'"),
        (_payload(tasks=True), "job.tasks: must be an integer, not True"),
        (_payload(nodes="%s%s%n"), "job.nodes: must be a string such as"),
        (_payload(group_id="x"), "job.group_id: a job runs as the center's user"),
        (_payload(hold="yes"), "job.hold: must be true or false"),
        (_payload(time_limit="00:05:00"), "job.time_limit: must be an integer, or {"),
        (_payload(time_limit={"number": "5"}), "job.time_limit"),
        (_payload(time_limit={"minutes": 5}), "job.time_limit"),
        (_payload(partition=""), "job.partition: empty"),
        (_payload(partition="p_qx,p_spin2"), "job.partition: lists several"),
        (_payload(partition=5), "job.partition: must be a string"),
        (_payload(mail_type="END"), "job.mail_type: must be a list of strings"),
        (_payload(comment="x" * 1025), "job.comment: 1025 bytes long; the maximum is 1024"),
        (_payload(name="é" * 600), "job.name: 1200 bytes long"),
        (_payload(environment=None), "job.environment: missing"),
        (_payload(environment=[]), "job.environment: missing"),
        (_payload(environment={}), "job.environment: missing"),
        (_payload(environment="PATH=/bin"), "job.environment: must be a list"),
        (_payload(environment=["PATH"]), 'job.environment[0]: must be "NAME=value"'),
        (_payload(environment=["=x"]), "job.environment[0]"),
        (_payload(environment={"A": 1}), "job.environment.A: must be a string"),
        (_payload(environment={"A=B": "1"}), "is not a valid variable name"),
        (_payload(environment=["SLURM_JWT=x"]), "tokens are never sent with a job"),
        (_payload(environment=["A=" + "x" * 100_000]), "job.environment[0]: 100002 bytes long"),
        (_payload(script=None), "script: missing"),
        (_payload(script=""), "script: empty"),
        (_payload(script=5), "script: must be a string"),
        (_payload(script="echo"), 'script: must start with "#!"'),
        (_payload(script="#!/bin/sh\n\0"), "script: contains a NUL"),
        (_payload(script="#!/bin/sh\n\udcff"), "script: contains invalid Unicode"),
        (_payload(name="a\0b"), "job.name: contains a NUL"),
        (_payload(environment=["A=\0"]), "job.environment[0]: contains a NUL"),
        ({"job": {**_payload()["job"], "script": "#!/bin/sh"}, "script": "#!/bin/sh"}, "script: given twice"),
    ],
)
def test_a_problem_is_named_with_its_field(payload, said):
    with pytest.raises(InvalidInputError) as caught:
        validate(payload)
    assert said in caught.value.message


def test_all_problems_are_told_at_once():
    with pytest.raises(InvalidInputError) as caught:
        validate(_payload(script="echo", tasks="1", partitoin="x"))
    assert "3 errors" in caught.value.message
    for part in ("job.tasks", "job.partitoin", "script"):
        assert part in caught.value.message


def test_a_script_is_measured_in_bytes_as_slurm_does():
    head = "#!/bin/bash\n"
    validate(_payload(script=head + "x" * (MAX_SCRIPT - len(head))))
    with pytest.raises(InvalidInputError, match="4194305 bytes"):
        validate(_payload(script=head + "x" * (MAX_SCRIPT - len(head) + 1)))
    with pytest.raises(InvalidInputError, match="bytes long"):
        validate(_payload(script=head + "é" * (MAX_SCRIPT // 2)))


def test_a_script_inside_the_job_is_a_script_too():
    payload = _payload()
    payload["job"]["script"] = payload.pop("script")
    validate(payload)


def test_no_message_shows_a_whole_script():
    with pytest.raises(InvalidInputError) as caught:
        validate(_payload(tasks="x" * 10_000))
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "name",
    [
        "submit_unknown_field",
        "submit_bad_type",
        "submit_nul_in_script",
        "submit_no_shebang",
        "submit_no_script",
    ],
)
def test_what_the_server_was_too_lenient_about_is_refused_here(name):
    payload = json.loads((RECORDED / f"{name}.json").read_text())["request"]["body"]
    assert list(problems(payload))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "job": st.dictionaries(st.sampled_from(sorted(JOB_FIELDS)) | st.text(max_size=9), anything)
            | anything,
            "script": anything,
        },
    )
    | anything
)
def test_no_document_is_too_strange(payload):
    for problem in problems(payload):
        assert problem
