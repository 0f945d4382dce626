import pytest

from qslurm.c1.connection.agent_messages import (
    CancelBound,
    GetOutcomes,
    GetReleaser,
    Outcomes,
    ReleaserState,
    SubmissionOutcome,
)
from qslurm.c1.followups.c1_queue import HeldFollowUp
from qslurm.c1.followups.followup_submission import Mark
from qslurm.c1.followups.releaser import ORPHANED_S, REFUSED_S, Releaser
from qslurm.errors import RefusedError, UnreachableError

KEY, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2


class Agent:
    """An agent that knows these endings, and these jobs that wait."""

    def __init__(self):
        self.endings = {}
        self.bound = {}
        self.refuses = ""
        self.ended = []
        self.asked = []
        self.news = 0

    def ask(self, question, answer):
        self.asked.append(question)
        match question:
            case GetReleaser():
                return ReleaserState("c2")
            case GetOutcomes(keys=keys):
                unknown = [SubmissionOutcome(key, "unknown") for key in keys if key not in self.endings]
                return Outcomes(
                    unknown + [self.endings[key] for key in keys if key in self.endings],
                    self.bound,
                    self.news,
                )
            case CancelBound(key=key) if key == self.refuses:
                raise RefusedError("no")
            case CancelBound(key=key):
                self.ended.append(key)
        return None

    def close(self):
        pass


class C1:
    """C1's queue."""

    def __init__(self):
        self.jobs = []
        self.runs = set()
        self.done = []
        self.refuses = ()

    def cluster(self):
        return "snellius"

    def held(self):
        return self.jobs

    def running(self, jobs):
        return set(jobs) & self.runs

    def release(self, job_id, comment):
        if job_id in self.refuses:
            raise RefusedError("no")
        self.done.append(("released", job_id, comment))

    def cancel(self, job, reason):
        self.done.append(("cancelled", job.job_id, reason))


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
def c1():
    return C1()


def held(job_id, key=KEY, condition="ok", user="ann", platform="c2"):
    return HeldFollowUp(job_id, user, Mark(key, condition, platform))


def test_what_has_ended_as_asked_is_released_and_the_rest_cancelled_with_the_reason(agent, c1):
    c1.jobs = [held(7), held(8, condition="failed"), held(9, OTHER)]
    agent.endings = {
        KEY: SubmissionOutcome(KEY, "completed", "ann", 12),
        OTHER: SubmissionOutcome(OTHER, "open", "ann", 13),
    }
    Releaser(agent, c1).round()
    assert c1.done == [
        ("released", 7, f"qslurm after=12 key={KEY}"),
        ("cancelled", 8, "On C2: Job 12 completed. This follow-up was to start if it failed."),
    ]


def test_what_follows_another_users_job_is_cancelled(agent, c1):
    c1.jobs = [held(7, user="bob")]
    for how in ("open", "completed"):
        agent.endings = {KEY: SubmissionOutcome(KEY, how, "ann", 12)}
        Releaser(agent, c1).round()
    assert c1.done == [("cancelled", 7, "It follows another user's job.")] * 2


def test_another_platforms_follow_ups_are_not_ours(agent, c1):
    c1.jobs = [held(7, platform="tuna")]
    agent.endings = {KEY: SubmissionOutcome(KEY, "completed", "ann", 12)}
    Releaser(agent, c1).round()
    assert c1.done == []


def test_a_follow_up_whose_submission_never_came_is_not_held_for_ever(agent, c1):
    now = [0.0]
    releaser = Releaser(agent, c1, clock=lambda: now[0])
    c1.jobs = [held(7)]
    releaser.round()
    now[0] = ORPHANED_S - 1
    releaser.round()
    assert c1.done == []
    now[0] = ORPHANED_S + 1
    releaser.round()
    assert c1.done == [("cancelled", 7, "The job that it follows was not submitted.")]


def test_a_submission_that_came_late_is_followed_all_the_same(agent, c1):
    now = [0.0]
    releaser = Releaser(agent, c1, clock=lambda: now[0])
    c1.jobs = [held(7)]
    releaser.round()
    agent.endings = {KEY: SubmissionOutcome(KEY, "open", "ann", 12)}
    now[0] = ORPHANED_S + 1
    releaser.round()
    assert c1.done == []


def test_one_job_that_slurm_refuses_does_not_hold_up_others_and_is_tried_later(agent, c1):
    now = [0.0]
    releaser = Releaser(agent, c1, clock=lambda: now[0])
    c1.jobs, c1.refuses = [held(7), held(8, OTHER)], (7,)
    agent.endings = {key: SubmissionOutcome(key, "completed", "ann", 12) for key in (KEY, OTHER)}
    releaser.round()
    assert [job_id for _, job_id, _ in c1.done] == [8]
    c1.jobs, c1.refuses = [held(7)], ()
    releaser.round()
    assert agent.asked[-1].keys == []  # an answer that is final already would come at once, again and again
    now[0] = REFUSED_S + 1
    releaser.round()
    assert [job_id for _, job_id, _ in c1.done] == [8, 7]


def test_who_waits_no_more_is_told_to_the_agent(agent, c1):
    agent.bound = {KEY: "snellius:7:0", OTHER: "snellius:8_1:0"}
    c1.runs = {"8_1:0"}
    Releaser(agent, c1).round()
    assert agent.ended == [KEY]


def test_one_that_cannot_be_cancelled_keeps_nobody_else(agent, c1):
    agent.bound = {KEY: "snellius:7:0", OTHER: "snellius:8:0"}
    agent.refuses = KEY
    Releaser(agent, c1).round()
    assert agent.ended == [OTHER]


def test_it_asks_for_news_since_it_asked_last(agent, c1):
    agent.news = 5
    releaser = Releaser(agent, c1)
    releaser.round()
    releaser.round()
    assert [question.news for question in agent.asked if isinstance(question, GetOutcomes)] == [-1, 5]


def test_a_slurmctld_that_is_away_is_tried_again(agent, c1):
    class Stop:
        """Ends the work after some rounds, and takes the pauses down."""

        def __init__(self):
            self.pauses = []

        def wait(self, pause_s):
            self.pauses.append(pause_s)
            return len(self.pauses) > 4

    tries = []

    def away():
        tries.append(1)
        if len(tries) < 3:
            raise UnreachableError("slurmctld does not answer")
        return []

    c1.held = away
    stop = Stop()
    Releaser(agent, c1).run(stop)
    assert stop.pauses == [1.0, 2.0, 4.0, 1.0, 1.0]
