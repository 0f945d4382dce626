"""Who follows the table knows what the table knows, of its own jobs, however it is asked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.jobmanager.center_changes import CenterChanges
from qslurm.protocol.feed import Update
from qslurm.slurm.job_info import JobInfo


def row(job_id: int, center: str = "snellius", state: str = "PENDING") -> JobInfo:
    facts = (job_id, state, "", "p_qx", f"center_{center}", center, "normal", 1, 0, 0, 0, 0, 5, 0, "", 1)
    return msgspec.convert(facts, JobInfo)


class Follower:
    """A center that keeps what it is told, and asks for pages of a few."""

    def __init__(self, table: CenterChanges, center: str) -> None:
        self._table, self._center = table, center
        self._since = ""
        self.jobs: dict[int, JobInfo] = {}

    def ask(self, most: int = 2) -> bool:
        """One page; whether there is more."""
        page = self._table.page(self._center, self._since, most)
        self._since = page.since
        if page.reset:
            self.jobs = {}
        for job_id in page.gone:
            self.jobs.pop(job_id, None)
        self.jobs.update({one.job_id: one for one in page.jobs})
        return page.more

    def catch_up(self) -> dict[int, JobInfo]:
        while self.ask():
            pass
        return self.jobs


changes = st.tuples(
    st.sampled_from(["put", "gone", "all", "ask", "late"]),
    st.integers(1, 9),
    st.sampled_from(["snellius", "lumi"]),
    st.sampled_from(["PENDING", "RUNNING", "COMPLETED"]),
)


@pytest.mark.parametrize("kept", [1, 1000])
@given(steps=st.lists(changes, max_size=60))
def test_whoever_follows_has_what_there_is(kept: int, steps: list[tuple[str, int, str, str]]) -> None:
    table, there = CenterChanges("center_", kept=kept, slack=3), dict[int, JobInfo]()
    one, late = Follower(table, "snellius"), Follower(table, "snellius")
    for what, job_id, center, state in steps:
        match what:
            case "put":
                there[job_id] = row(job_id, center, state)
                table.apply(Update([there[job_id]]))
            case "gone":
                there.pop(job_id, None)
                table.apply(Update(gone=[job_id]))
            case "all":
                there = {job_id: row(job_id, center, state)}
                table.apply(Update(list(there.values()), reset=True))
            case "ask":
                one.ask()
            case "late":
                late.ask(1)
    own = {job_id: job for job_id, job in there.items() if job.user == "center_snellius"}
    assert one.catch_up() == own
    assert late.catch_up() == own
    assert {job.job_id: job for job in table.jobs("snellius")} == own


def test_only_the_centers_whose_jobs_have_changed_are_told() -> None:
    table = CenterChanges("center_")
    assert table.apply(Update([row(1), row(2, "lumi"), row(3, "x")])) == {"snellius", "lumi", "x"}
    assert table.apply(Update([row(1), row(2, "lumi", "RUNNING")])) == {"lumi"}
    assert table.apply(Update(gone=[1, 77])) == {"snellius"}
    since = table.page("snellius", "").since
    table.apply(Update([row(2, "lumi", "COMPLETED")]))
    assert table.page("snellius", since).since == since  # not even that something has changed


@pytest.mark.parametrize("since", ["", "x", "1.2.3", "0" * 16 + ".1.1", "9" * 60])
def test_who_knows_nothing_is_given_everything(since: str) -> None:
    table = CenterChanges("center_")
    table.apply(Update([row(1)]))
    page = table.page("snellius", since)
    assert (page.reset, [one.job_id for one in page.jobs]) == (True, [1])
