"""The jobs of a queue as they were heard of last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable


def job(job_id: int, state: str = "PENDING", key: str = "", array: int = 0, index: str = "") -> JobInfo:
    comment = f"qslurm key={key or f'key-{job_id}'}"
    return JobInfo(job_id=job_id, state=state, comment=comment, array_job=array, array_index=index)


def test_a_job_is_known_by_its_key_as_well() -> None:
    table = JobTable()
    assert table.apply([job(1)]) == [(None, job(1))]
    assert table.apply([job(1)]) == []
    assert table.job(1, "key-1") is not None
    assert table.job(1, "another") is None
    assert table.tasks(1, "another") == []
    table.apply([job(1, key="another")])  # Slurm has given the id again
    assert table.tasks(1, "another") == [job(1, key="another")]


def test_an_array_has_the_tasks_it_has_now() -> None:
    table = JobTable()
    table.apply([job(1), job(7, array=6, index="1")])
    assert table.apply([job(7, array=6, index="1")], reset=True) == [(job(1), None)]
    assert table.tasks(6, "key-7") == [job(7, array=6, index="1")]
    table.apply([job(7)])  # the id is that of a job without an array now
    assert (table.tasks(6, "key-7"), table.tasks(7, "key-7")) == ([], [job(7)])
    assert table.apply([], [7, 99]) == [(job(7), None)]
    assert table.jobs() == table.tasks(7, "key-7") == []


def test_what_is_outdated_changes_nothing() -> None:
    table = JobTable(lambda one, known: known.is_final and not one.is_final)
    table.apply([job(1, "COMPLETED")])
    before = table.version
    assert table.apply([job(1, "RUNNING")], reset=True) == []
    assert (table.jobs(), table.version) == ([job(1, "COMPLETED")], before)


steps = st.tuples(
    st.sampled_from(["put", "gone", "reset"]), st.integers(1, 5), st.sampled_from(["PENDING", "RUNNING"])
)


@given(st.lists(steps, max_size=40))
def test_who_is_told_of_each_change_knows_what_the_table_knows(told: list[tuple[str, int, str]]) -> None:
    table, copy = JobTable(), dict[int, JobInfo]()
    for what, job_id, state in told:
        jobs, gone = ([], [job_id]) if what == "gone" else ([job(job_id, state)], [])
        version = table.version
        changes = table.apply(jobs, gone, reset=what == "reset")
        assert (table.version != version) == bool(changes)
        for before, now in changes:
            name = (now or before).job_id  # type: ignore[union-attr]
            assert copy.pop(name, None) == before
            if now is not None:
                copy[name] = now
    assert copy == {one.job_id: one for one in table.jobs()}
