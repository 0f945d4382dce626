"""What each API version is sent."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import load

from qslurm.errors import InvalidInputError
from qslurm.payload.validate import JOB_FIELDS
from qslurm.slurm.rest.adapters import ADAPTERS
from qslurm.slurm.rest.adapters.v0_0_38 import FIELDS

OLD, NEW = ADAPTERS["v0.0.38"], ADAPTERS["v0.0.39"]
PAPER = load("v0.0.39", "submit_paper")["request"]["body"]


def test_the_papers_payload_is_sent_as_v0_0_39_documents_it():
    sent = NEW.payload(PAPER)
    assert sent["job"]["nodes"] == "1"
    assert sent["job"]["environment"][0] == "PATH=/bin:/usr/bin/:/usr/local/bin/"
    assert sent["script"] == PAPER["script"]
    rest = {name for name in PAPER["job"] if name not in {"nodes", "environment"}}
    assert {name: sent["job"][name] for name in rest} == {name: PAPER["job"][name] for name in rest}


def test_the_papers_payload_is_sent_to_v0_0_38_with_its_environment_as_an_object():
    assert OLD.payload(PAPER)["job"]["environment"] == PAPER["job"]["environment"]


def _old(**job):
    return OLD.payload({"job": {"environment": ["A=1"], **job}, "script": "#!"})["job"]


def test_v0_0_38_gets_plain_numbers():
    assert _old(time_limit={"set": True, "infinite": False, "number": 5})["time_limit"] == 5
    assert _old(time_limit=5)["time_limit"] == 5
    assert _old(time_limit={"set": False, "infinite": True, "number": 0})["time_limit"] == "UNLIMITED"
    assert "time_limit" not in _old(time_limit={"set": False})


def test_v0_0_38_gets_times_that_sbatch_reads():
    assert _old(begin_time=1795334142)["begin_time"] == "uts1795334142"


def test_v0_0_38_gets_one_field_for_a_warning_signal():
    job = _old(kill_warning_signal="TERM", kill_warning_delay=60, kill_warning_flags=["BATCH_JOB"])
    assert job["signal"] == "B:TERM@60"
    assert not any(name.startswith("kill") for name in job)


def test_v0_0_38_gets_nodes_as_a_range():
    assert _old(minimum_nodes=1, maximum_nodes=4)["nodes"] == "1-4"


def test_v0_0_38_has_the_script_beside_the_job():
    sent = OLD.payload({"job": {"environment": ["A=1"], "script": "#!/bin/sh"}})
    assert sent["script"] == "#!/bin/sh"
    assert "script" not in sent["job"]


@pytest.mark.parametrize(
    "name", ["argv", "batch_features", "extra", "tres_per_job", "required_nodes", "nonsense"]
)
def test_what_v0_0_38_has_no_field_for_is_refused_and_named(name):
    with pytest.raises(InvalidInputError, match=f"job.{name}"):
        _old(**{name: ["x"]})


def test_every_field_that_v0_0_38_takes_is_one_of_the_canonical_ones():
    assert set(JOB_FIELDS) | {"signal"} >= FIELDS


NUMBER = {"set": True, "infinite": False, "number": 7}


def _sent(version, **job):
    return ADAPTERS[version].payload({"job": {"environment": ["A=1"], **job}, "script": "#!"})["job"]


@pytest.mark.parametrize(
    ("field", "object_since"),
    [("time_limit", "v0.0.39"), ("begin_time", "v0.0.40"), ("distribution_plane_size", "v0.0.41")],
)
@pytest.mark.parametrize("version", [version for version in ADAPTERS if version > "v0.0.38"])
def test_a_number_becomes_an_object_in_the_version_that_wants_one(field, object_since, version):
    wanted = NUMBER if version >= object_since else 7
    assert _sent(version, **{field: 7})[field] == wanted
    assert _sent(version, **{field: NUMBER})[field] == wanted


@pytest.mark.parametrize("version", ADAPTERS)
def test_who_may_share_the_node_is_said_in_the_versions_own_word(version):
    job = _sent(version, exclusive=["user"])
    if version >= "v0.0.42":
        assert (job["shared"], "exclusive" in job) == (["user"], False)
    else:
        assert job["exclusive"] == ("user" if version == "v0.0.38" else ["user"])


@pytest.mark.parametrize(
    ("given_job", "shared"),
    [
        ({"exclusive": ["true"]}, ["none"]),
        ({"exclusive": ["false"]}, ["oversubscribe"]),
        ({"exclusive": "mcs"}, ["mcs"]),
        ({"oversubscribe": True}, ["oversubscribe"]),
        ({"oversubscribe": False}, None),
        ({"shared": ["user"], "exclusive": ["true"]}, ["user"]),
        ({}, None),
    ],
)
def test_v0_0_42_gets_shared_instead_of_exclusive_and_oversubscribe(given_job, shared):
    job = _sent("v0.0.42", **given_job)
    assert job.get("shared") == shared
    assert not {"exclusive", "oversubscribe"} & set(job)


def test_each_version_from_v0_0_40_on_is_one_step_from_the_one_before():
    full = {"begin_time": 7, "distribution_plane_size": 4, "exclusive": ["true"], "time_limit": 5, "nodes": 1}
    sent = {version: _sent(version, **full) for version in sorted(ADAPTERS) if version > "v0.0.38"}
    steps = [
        {name for name in {*before, *after} if before.get(name) != after.get(name)}
        for before, after in itertools.pairwise(sent.values())
    ]
    assert steps == [
        {"begin_time"},
        {"distribution_plane_size"},
        {"exclusive", "shared"},
        set(),
        set(),
        set(),
    ]


names = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1)
values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(names, values, min_size=1))
def test_an_environment_survives_both_forms(environment):
    given_payload = {"job": {"environment": environment}, "script": "#!"}
    listed = NEW.payload(given_payload)["job"]["environment"]
    assert all(isinstance(entry, str) for entry in listed)
    assert OLD.payload(given_payload)["job"]["environment"] == environment
    assert OLD.payload(NEW.payload(given_payload))["job"]["environment"] == environment


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_what_was_given_is_not_changed(adapter):
    before = copy.deepcopy(PAPER)
    adapter.payload(PAPER)
    assert before == PAPER


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_adapting_twice_changes_nothing_for_the_newest(adapter):
    once = NEW.payload(PAPER)
    assert json.dumps(NEW.payload(once)) == json.dumps(once)
    assert adapter.payload(once) == adapter.payload(PAPER)


@pytest.mark.parametrize("name", ["begin_time", "distribution_plane_size"])
def test_a_number_that_is_said_not_to_be_set_is_left_out_and_zero_is_a_number(name):
    for said, wanted in (({"set": False}, None), ({"set": True, "number": 0}, 0)):
        made = _sent("v0.0.39", **{name: said})
        assert made.get(name) == wanted
        assert (name in made) == (wanted is not None)
