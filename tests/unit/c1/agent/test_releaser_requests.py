"""What the agent tells the releaser."""

import pytest

from qslurm.c1.agent.job_tracker import JobTracker
from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.releaser_requests import ReleaserRequests
from qslurm.c1.agent.user import User
from qslurm.c1.agent.wait_bindings import WaitBindings
from qslurm.c1.config.settings import AgentSettings, Config
from qslurm.c1.connection.agent_messages import CancelBound, GetOutcomes, GetReleaser, Submit, Unbind
from qslurm.errors import PermissionDeniedError, UnknownJobError, UnreachableError
from tests.unit.jobs import job_info

KEY = "0123456789abcdef" * 2
ANN, BOB = User("ann", 1001, admin=False), User("bob", 1002, admin=False)
RELEASER, ROOT = User("slurm", 64030, admin=False), User("root", 0, admin=True)


class C2:
    def __init__(self):
        self.slurm = self
        self.has_job_manager, self.prefix = False, ""
        self.user = "center_snellius"
        self.cancelled = []
        self.records = []
        self.error = None

    def tasks(self, job_id):
        if self.error:
            raise self.error
        return list(self.records)

    def accounted_tasks(self, job_id):
        return []

    def cancel(self, job_id, task=None):
        self.cancelled.append(job_id)
        return []


def record(state, job_id=12, key=KEY, **more):
    return job_info(job_id=job_id, name="bell", state=state, comment=f"qslurm key={key}", **more)


class Office:
    def __init__(self, folder, releaser="slurm"):
        self.outbox, self.bindings, self.c2 = Outbox(folder), WaitBindings(folder), C2()
        self.tracker = JobTracker(self.outbox, lambda: self.c2, lambda job_id: None)
        config = Config(agent=AgentSettings(releaser=releaser))
        self.dependants = ReleaserRequests(config, self.outbox, self.bindings, self.tracker)

    def takes(self, user="ann", **depends):
        question = Submit(KEY, {"job": {}}, **depends)
        self.dependants.register(question)
        self.number = self.outbox.add(KEY, user, question.payload).number

    def accepted(self):
        self.outbox.mark_accepted(self.number, 12, {})

    def asked(self, question, user=RELEASER):
        return self.dependants.answer(user, question, self.c2)

    def ending(self):
        (ending,) = self.asked(GetOutcomes([KEY], "snellius")).endings
        return ending

    def close(self):
        self.bindings.close()
        self.outbox.close()


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path / "state")
    yield office
    office.close()


def test_a_submission_is_followed_from_the_outbox_to_its_end(office):
    assert office.ending().how == "unknown"
    office.takes()
    assert office.ending().how == "open"
    office.accepted()
    office.c2.records = [record("COMPLETED")]
    assert office.ending().how == "open"  # nobody has seen its end yet
    office.outbox.mark_ended([office.number])
    ending = office.ending()
    assert (ending.how, ending.user, ending.job_id) == ("completed", "ann", 12)


@pytest.mark.parametrize(
    ("states", "how"),
    [
        (["FAILED"], "failed"),
        (["CANCELLED"], "cancelled"),
        (["TIMEOUT"], "timed_out"),
        (["COMPLETED", "FAILED"], "failed"),
        (["COMPLETED", "COMPLETED"], "completed"),
        (["COMPLETED", "RUNNING"], "open"),
    ],
)
def test_an_end_is_a_jobs_or_the_worst_of_an_arrays(office, states, how):
    office.takes()
    office.accepted()
    office.outbox.mark_ended([office.number])
    array = len(states) > 1
    office.c2.records = [
        record(state, 12 + index, **({"array_job_id": 12, "array_task_id": index} if array else {}))
        for index, state in enumerate(states)
    ]
    assert office.ending().how == how


def test_what_c2_has_forgotten_is_lost_and_what_it_does_not_answer_is_open(office):
    office.takes()
    office.accepted()
    office.outbox.mark_ended([office.number])
    office.c2.records = [record("COMPLETED", key="another-key")]
    assert office.ending().how == "lost"
    office.c2.error = UnknownJobError("no such job")
    assert office.ending().how == "lost"
    office.c2.error = UnreachableError("away")
    assert office.ending().how == "open"


def test_what_is_not_sent_again_is_lost(office):
    office.takes()
    office.accepted()
    office.outbox.mark_lost(office.number)
    assert (office.ending().how, "the agent gave up" in office.ending().why) == ("lost", True)


def test_what_c2_refused_is_said_with_the_reason(office):
    office.takes()
    office.outbox.mark_refused(office.number, {"kind": "refused", "message": "Invalid qos."})
    assert (office.ending().how, office.ending().why) == ("refused", "Invalid qos.")


def test_only_the_releaser_and_admins_may_ask(office):
    for user in (RELEASER, ROOT):
        assert office.asked(GetOutcomes([], "snellius"), user).endings == []
    for question in (GetOutcomes([], "snellius"), CancelBound(KEY)):
        with pytest.raises(PermissionDeniedError):
            office.asked(question, ANN)


def test_without_a_releaser_nobody_is_one(tmp_path):
    office = Office(tmp_path / "state", releaser="")
    assert office.asked(GetReleaser(), ANN).name == ""
    with pytest.raises(PermissionDeniedError):
        office.asked(CancelBound(KEY), User("", 1003, admin=False))
    office.close()


def test_a_submission_is_cancelled_when_the_job_that_waits_for_it_is_gone(office):
    office.takes(waits="snellius:7:0")
    assert office.asked(GetOutcomes([], "snellius")).bound == {KEY: "snellius:7:0"}
    assert office.asked(GetOutcomes([], "lumi")).bound == {}
    office.asked(CancelBound(KEY))
    assert office.c2.cancelled == []  # C2 has not taken it yet: the releaser asks again
    office.accepted()
    office.c2.error = UnknownJobError("C2 has no job 12.")
    office.asked(CancelBound(KEY))
    office.c2.error, office.c2.records = None, [record("RUNNING", key="of-somebody-else")]
    office.asked(CancelBound(KEY))
    assert office.c2.cancelled == []  # C2 has lost it, and given its id again
    office.c2.records = [record("PENDING")]
    office.asked(CancelBound(KEY))
    assert office.c2.cancelled == [12]
    assert office.asked(GetOutcomes([], "snellius")).bound == {}
    assert office.outbox.is_cancelled(office.number)  # if C2 forgets that, it is not sent again


def test_a_submission_that_is_let_go_or_has_ended_is_bound_no_more(office, tmp_path):
    office.takes(waits="snellius:7:0")
    office.asked(Unbind(KEY), BOB)
    assert office.asked(GetOutcomes([], "snellius")).bound
    office.asked(Unbind(KEY), ANN)
    assert not office.asked(GetOutcomes([], "snellius")).bound
    office.bindings.bind(KEY, "snellius:7:0")
    office.outbox.mark_ended([office.number])
    assert not office.asked(GetOutcomes([], "snellius")).bound
    office.asked(CancelBound(KEY))
    assert office.c2.cancelled == []


def test_only_what_is_waited_for_ends_with_who_waits(office):
    office.takes()
    office.accepted()
    office.asked(CancelBound(KEY))
    assert office.c2.cancelled == []


def test_bonds_are_there_after_a_restart_as_long_as_they_hold_something(office, tmp_path):
    office.takes(waits="snellius:7:0")
    office.bindings.bind("0" * 32, "snellius:8:0")
    office.close()
    again = Office(tmp_path / "state")
    again.bindings.forget_ended()
    assert again.asked(GetOutcomes([], "snellius")).bound == {KEY: "snellius:7:0"}
    again.close()
    office.__init__(tmp_path / "state")


def test_something_new_that_depends_is_news(office):
    before = office.asked(GetOutcomes([], "snellius")).news
    office.takes()
    assert office.asked(GetOutcomes([], "snellius")).news == before
    office.dependants.register(Submit(KEY, {"job": {}}, followed=True))
    assert office.asked(GetOutcomes([], "snellius")).news == before + 1
