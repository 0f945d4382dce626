from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c1.connection.polling import LONGEST_DELAY_S, PATIENCE_S, follow, next_delay, wait_until_final
from qslurm.c1.queries.job_ids import JobRef
from qslurm.cli.job_progress import ProgressReporter
from qslurm.cli.output import ProgressLine
from qslurm.errors import TimedOutError, UnreachableError


class Time:
    """A clock that only moves when somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def answers(*states):
    """An `ask` that gives these answers in turn, then the last for ever; None stands for silence."""
    left = list(states)

    def ask():
        state = left.pop(0) if len(left) > 1 else left[0]
        if state is None:
            raise UnreachableError("C2 does not answer.")
        return SimpleNamespace(state=state, is_final=state == "COMPLETED", word=state.lower(), why="")

    return ask


def wait(ask, **options):
    time, polls = Time(), []
    job = wait_until_final(ask, on_poll=polls.append, clock=time.clock, sleep=time.sleep, **options)
    return job, polls, time


def test_waiting_ends_with_the_job():
    job, polls, _ = wait(answers("PENDING", "RUNNING", "COMPLETED"))
    assert job.state == "COMPLETED"
    assert [poll.job.state for poll in polls] == ["PENDING", "RUNNING", "COMPLETED"]


def test_a_passing_silence_is_survived_and_shown():
    job, polls, _ = wait(answers("RUNNING", None, None, "COMPLETED"))
    assert job.state == "COMPLETED"
    assert [poll.silent_s > 0 for poll in polls] == [False, True, True, False]


SAID = [
    "qslurm: C2 does not answer. Retrying for at most 120 s; the job continues.",
    "qslurm: C2 is reachable again.",
]


def test_a_silence_is_said_at_once_and_once_also_where_no_line_is_shown(capsys):
    watch = ProgressReporter(JobRef(12), ProgressLine())
    _, polls, _ = wait(answers("RUNNING", None, None, "RUNNING", "RUNNING", None, "COMPLETED"))
    said = []
    for poll in polls:
        watch(poll)
        said.append(capsys.readouterr().err.splitlines())
    assert said == [[], SAID[:1], [], SAID[1:], [], SAID[:1], SAID[1:]]


def test_a_log_that_is_followed_says_so_too():
    time, said, looks = Time(), [], answers("RUNNING", None, None, "RUNNING", "COMPLETED")

    def read(offset):
        return b"", offset

    follow(lambda: looks().is_final, read, print, say=said.append, clock=time.clock, sleep=time.sleep)
    assert [f"qslurm: {one}" for one in said] == SAID


def test_a_lasting_silence_ends_the_wait_and_says_that_the_job_goes_on():
    with pytest.raises(UnreachableError, match="the job continues"):
        wait(answers("RUNNING", None))


def test_a_timeout_is_kept_to():
    with pytest.raises(TimedOutError):
        wait(answers("PENDING"), timeout_s=30)


def test_a_timeout_does_not_say_of_a_silent_c2_that_the_job_goes_on():
    with pytest.raises(
        TimedOutError, match=r"gave up after 5 s without an answer from C2\. C2 does not answer\."
    ):
        wait(answers("RUNNING", None), timeout_s=5, what="Job 7")
    with pytest.raises(TimedOutError, match="Job 7 has not ended after 5 s; it continues"):
        wait(answers("RUNNING"), timeout_s=5, what="Job 7")


@given(st.floats(0, 10**6))
def test_delays_stay_within_their_bounds(waited):
    assert 0 < next_delay(waited) <= LONGEST_DELAY_S < PATIENCE_S
