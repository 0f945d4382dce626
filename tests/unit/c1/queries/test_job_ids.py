"""How people name jobs: what is read is what is shown, and nothing else is a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c1.queries.job_ids import LAST_JOB_ID, JobRef, parse_ref, platforms_in, without_platforms
from qslurm.errors import InvalidInputError

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,31}", fullmatch=True)
REFS = st.builds(
    JobRef,
    st.integers(1, LAST_JOB_ID),
    st.none() | st.integers(0, 4_000_000),
    st.just("") | NAMES,
)


@given(REFS)
def test_a_jobs_name_reads_as_that_job(ref):
    assert parse_ref(str(ref)) == ref


@given(st.text(max_size=20))
def test_whatever_is_read_is_shown_the_same_or_refused(text):
    try:
        ref = parse_ref(text)
    except InvalidInputError:
        return
    assert parse_ref(str(ref)) == ref


@pytest.mark.parametrize(
    "text", ["0", "-1", "12_", "_3", "tuna:", "a:b:1", "1:2", "tuna:0", "²", "4294967308"]
)
def test_what_slurm_would_take_for_another_is_no_job(text):
    with pytest.raises(InvalidInputError, match="Invalid job id"):
        parse_ref(text)


@pytest.mark.parametrize(
    ("dependency", "platforms", "plain"),
    [
        ("afterok:12", {""}, "afterok:12"),
        ("afterok:tuna:12", {"tuna"}, "afterok:12"),
        ("afterok:tuna:12:13_4,afterany:tuna:5", {"tuna", ""}, "afterok:12:13_4,afterany:5"),
        ("afterok:tuna:12:tuna:13", {"tuna"}, "afterok:12:13"),
        ("singleton", set(), "singleton"),
        ("afterok:tuna", set(), "afterok:tuna"),
        ("after:t5:12+30?afterok:b:1", {"t5", "b"}, "after:12+30?afterok:1"),
    ],
)
def test_a_dependency_may_name_the_platform_of_its_jobs(dependency, platforms, plain):
    assert (platforms_in(dependency), without_platforms(dependency)) == (platforms, plain)


def test_a_job_may_be_named_by_its_key():
    key = "0123456789abcdef" * 2
    assert parse_ref(key) == JobRef(0, key=key)
    assert parse_ref(f"tuna:{key}_3") == JobRef(0, 3, "tuna", key)
    assert str(parse_ref(f"tuna:{key}_3")) == f"tuna:{key}_3"
    for no_key in (key[1:], key.upper(), f"{key}_", f"{key}_x"):
        with pytest.raises(InvalidInputError):
            parse_ref(no_key)
