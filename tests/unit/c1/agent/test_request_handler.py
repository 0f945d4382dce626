"""Who may do what, before C2 is asked anything."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import msgspec
import pytest

from qslurm.c1.agent.change_log import ChangeLog
from qslurm.c1.agent.job_tracker import JobTracker
from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.reconcile import LOST, Reconciler
from qslurm.c1.agent.releaser_requests import ReleaserRequests
from qslurm.c1.agent.request_handler import RequestHandler
from qslurm.c1.agent.sender import SenderPool
from qslurm.c1.agent.user import User
from qslurm.c1.agent.wait_bindings import WaitBindings
from qslurm.c1.config.settings import AgentSettings, Config, UserLimits
from qslurm.c1.connection.agent_messages import (
    CancelJob,
    GetAccounted,
    GetBackends,
    GetChangedJobs,
    GetJob,
    GetJobs,
    GetLoads,
    GetLog,
    GetPlatformRecord,
    GetQueue,
    GetResults,
    GetSessions,
    GetStarts,
    GetTasks,
    LogPiece,
    Submit,
    UpdateJob,
    encode,
    request_decoder,
)
from qslurm.c1.origin import user_of
from qslurm.c1.queries.lost_jobs import FORGOTTEN
from qslurm.errors import (
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    NotReadyError,
    RefusedError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.payload.comment import Comment
from qslurm.payload.spec import JobSpec
from tests.unit.jobs import job_info
from tests.unit.payloads import payload_for

ANN, BOB, ROOT = User("ann", 1001, admin=False), User("bob", 1002, admin=False), User("root", 0, admin=True)


class C2:
    """A connection to a C2 that knows nobody's job, but for what is in `records`, by id."""

    has_job_manager = True

    def __init__(self):
        self.slurm = self
        self.user = "center_snellius"
        self.cancelled = []
        self.records = {}
        self.documents = {}
        self.asked = []

    def job(self, job_id):
        self.asked.append(job_id)
        if job_id not in self.records:
            raise UnknownJobError(f"C2 has no job {job_id}.")
        return self.records[job_id]

    def tasks(self, job_id):
        return [job for job in self.records.values() if job_id in (job.job_id, job.array_job_id)]

    @property
    def job_manager(self):
        return SimpleNamespace(
            job=self.documents.__getitem__,
            results=self.documents.__getitem__,
            many_results=lambda ids: [self.documents.get(one, {"job_id": one, "error": {}}) for one in ids],
            log_from=lambda job_id, offset: (b"log", offset + 3),
            sessions=self.sessions,
            backends=self.backends,
            limits=self.backends,
            loads=lambda: ["loads"],
            starts=lambda key: [],
        )

    def sessions(self):
        return {"address": "c2:8044", "certificate": "PEM"}

    def backends(self):
        return [{"name": "qx"}, {"name": "spin2"}]

    def cancel(self, job_id, task=None):
        self.cancelled.append(job_id)
        return []

    def close(self):
        pass


@pytest.fixture
def office(tmp_path):
    def make(**settings):
        outbox, c2 = Outbox(tmp_path / "state"), C2()
        sender = SenderPool(outbox, lambda: c2, lambda *_: None)
        tracker = JobTracker(outbox, lambda: c2, lambda job_id: None)
        bindings = WaitBindings(tmp_path / "state")
        opened.extend((outbox, bindings))
        config = Config(agent=AgentSettings(**settings))
        dependants = ReleaserRequests(config, outbox, bindings, tracker)
        lost = Reconciler(outbox, sender.wake)
        change_log = ChangeLog(outbox.owners, lambda *_: None)
        handler = RequestHandler(
            config.agent,
            outbox,
            lambda: c2,
            sender,
            tracker,
            reconciler=lost,
            releaser_requests=dependants,
            change_log=change_log,
        )
        handler.lost, handler.tracker, handler.changes = lost, tracker, change_log
        return handler, outbox, c2

    opened = []
    yield make
    for store in opened:
        store.close()


def submission(user="ann", backend="qx"):
    environ = {"USER": user, "SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "snellius", "SLURM_JOB_USER": user}
    payload = payload_for(
        Config(), JobSpec(source="version 3.0; qubit q; bit b; b = measure q", backend=backend), environ
    )
    return Submit(Comment.parse(payload["job"]["comment"]).key, payload)


def test_a_submission_waits_in_the_outbox_with_its_users_name(office):
    handler, outbox, _ = office()
    question = submission(user="root")
    assert handler.answer(ANN, question).state == "waiting"
    assert handler.answer(ANN, question).state == "waiting"  # asked again, as after a lost answer
    (entry,) = outbox.open_entries()
    said = Comment.parse(entry.payload["job"]["comment"])
    assert (entry.user, said.origin, said.key) == ("ann", "slurm:snellius:7:ann", question.key)


@pytest.mark.parametrize(
    "comment",
    [
        "origin=slurm:snellius:1:bob key={key}",
        "key={key}",
        "qslurm key={key} -- origin=slurm:snellius:1:bob",
        "qslurm key={key} origin=slurm:snellius:1:bob origin=slurm:snellius:1:bob",
        " qslurm key={key} of\N{NO-BREAK SPACE}origin=\\1:bob -- hello",
        "qslurm key={key}\vorigin=x:bob\x1corigin=x:bob",
    ],
)
def test_no_comment_makes_a_job_another_users(office, comment):
    handler, outbox, _ = office()
    question = submission()
    question.payload["job"]["comment"] = comment.format(key=question.key)
    handler.answer(ANN, question)
    (entry,) = outbox.open_entries()
    said = Comment.parse(entry.payload["job"]["comment"])
    assert (said.key, said.origin.rpartition(":")[2]) == (question.key, "ann")


@pytest.mark.parametrize("name", ["DOMAIN\\ann", "Ann de Vries", "ann@example.org", "jürgen"])
def test_any_name_is_the_users_own_in_what_is_sent(office, name):
    handler, outbox, _ = office()
    question = submission(user="eve")
    question.payload["job"]["comment"] += ":phys -- a note"
    handler.answer(User(name, 1000, False), question)
    (entry,) = outbox.open_entries()
    said = Comment.parse(entry.payload["job"]["comment"])
    assert (user_of(said.origin), said.note) == (name, "a note")
    assert said.origin.endswith(":phys")


def test_who_submits_many_at_once_gets_no_more_than_one_after_the_other(office):
    handler, outbox, _ = office(max_open_jobs=3)
    request_decoder = [submission() for _ in range(8)]
    together = threading.Barrier(len(request_decoder))

    def submit(question):
        together.wait()
        with suppress(RefusedError):
            handler.answer(ANN, question)

    with ThreadPoolExecutor(len(request_decoder)) as threads:
        list(threads.map(submit, request_decoder))
    assert len(outbox.open_entries("ann")) == 3


def test_what_the_platform_remembers_of_an_id_is_shown_only_if_it_is_the_users_job(office):
    handler, outbox, c2 = office()
    question = submission()
    handler.answer(ANN, question)
    entry = outbox.by_key(question.key)
    outbox.mark_accepted(entry.number, 12, {})
    c2.documents[12] = {"job_id": 12, "key": "of-last-year", "counts": {"00": 1}}
    for asked in (GetPlatformRecord("job", 12), GetPlatformRecord("results", 12), GetLog(12)):
        with pytest.raises(NotReadyError, match="Job 12 has not started yet"):
            handler.answer(ANN, asked)
    c2.documents[12]["key"] = f"{question.key}#3"
    assert handler.answer(ANN, GetPlatformRecord("results", 12))["counts"] == {"00": 1}
    assert handler.answer(ANN, GetLog(12)) == LogPiece(b"log", 3)
    outbox.mark_ended([entry.number])
    c2.documents[12]["key"] = "of-somebody-later"
    with pytest.raises(UnknownJobError, match="reused its id"):
        handler.answer(ANN, GetLog(12))


def test_of_many_results_a_user_gets_their_own(office):
    handler, _, c2 = office()
    mine, theirs = submission(), submission("bob")
    handler.answer(ANN, mine)
    handler.answer(BOB, theirs)
    for job_id, key in ((12, mine.key), (13, f"{mine.key}#3"), (14, theirs.key), (15, "")):
        c2.documents[job_id] = {"job_id": job_id, "key": key, "counts": {}}
    found = handler.answer(ANN, GetResults([12, 13, 14, 15, 16]))
    assert [one["job_id"] for one in found] == [12, 13, 14, 15, 16]
    assert ["error" in one for one in found] == [False, False, True, True, True]
    assert "counts" not in found[2]
    assert handler.answer(ANN, GetResults([])) == []
    assert [one["job_id"] for one in handler.answer(ROOT, GetResults([14])) if "counts" in one] == [14]


@pytest.mark.parametrize(
    "question",
    [
        GetJob(2**32),
        GetResults([1] * 251),
        CancelJob(-1),
        GetTasks(1, 1, "RUNNING", float("nan")),
        GetLog(1, 2**63),
        GetStarts("k" * 1000),
        Submit("k" * 32, {}, waits="snellius:12,x:0"),
        Submit("k" * 32, {}, waits="snellius:--help:0"),
    ],
)
def test_what_cannot_be_meant_is_no_question(question):
    with pytest.raises(msgspec.ValidationError):
        request_decoder.decode(encode(question))


def test_another_users_key_and_job_are_nobodys(office):
    handler, outbox, c2 = office()
    question = submission()
    handler.answer(ANN, question)
    with pytest.raises(InvalidInputError):
        handler.answer(BOB, question)
    outbox.mark_accepted(1, 12, {})
    with pytest.raises(UnknownJobError) as others:
        handler.answer(BOB, CancelJob(12))
    with pytest.raises(UnknownJobError) as nobodys:
        handler.answer(BOB, CancelJob(13))
    assert str(others.value).replace("12", "13") == str(nobodys.value)
    assert handler.answer(BOB, GetJobs(question.key)) == []
    (in_line,) = handler.answer(BOB, GetJobs())  # what stands before one's own has a place and no face
    assert (in_line.partition, in_line.name, in_line.user, in_line.comment) == ("p_qx", "", "", "")
    assert [job.job_id for job in handler.answer(ROOT, GetJobs())] == [12]
    handler.answer(ANN, CancelJob(12))
    assert c2.cancelled == [12]


def test_a_task_of_an_array_is_that_of_who_submitted_the_array(office):
    handler, outbox, c2 = office()
    question = submission()
    handler.answer(ANN, question)
    outbox.mark_accepted(1, 12, {})
    comment = question.payload["job"]["comment"]
    for job_id, array in ((13, 12), (14, 12), (15, None), (16, 99)):
        key = "" if job_id == 16 else comment
        c2.records[job_id] = job_info(
            job_id=job_id,
            name="",
            state="RUNNING",
            comment=key,
            array_job_id=array,
            array_task_id=array and 1,
        )
    handler.answer(ANN, CancelJob(13))
    with pytest.raises(UnknownJobError):
        handler.answer(BOB, CancelJob(13))
    for stray in (15, 16):  # not a task; a task of an array that is none of the center's agent's
        with pytest.raises(UnknownJobError):
            handler.answer(ANN, CancelJob(stray))
    assert c2.cancelled == [13]
    assert len(handler.answer(ANN, GetTasks(12))) == 2
    c2.asked.clear()
    handler.answer(ANN, CancelJob(14))
    assert c2.asked == []  # seen among the array's tasks: C2 is not asked whose it is


def test_a_user_is_told_which_backends_are_for_them(office):
    handler, _, _ = office(backends=["qx"], users={"ann": UserLimits(backends=[])})
    allowed = lambda user: [one["allowed"] for one in handler.answer(user, GetBackends())]  # noqa: E731
    assert (allowed(ANN), allowed(BOB)) == ([True, True], [True, False])


def test_what_is_known_of_the_backends_is_at_hand_while_c2_is_away(office):
    handler, _, c2 = office()

    def away():
        raise UnreachableError("C2 is away.")

    def at_hand():
        return [one["name"] for one in handler.answer(ANN, GetBackends(at_hand=True))]

    assert at_hand() == ["qx", "spin2"]
    c2.backends = away
    assert at_hand() == ["qx", "spin2"]
    handler._backends = (float("-inf"), handler._backends[1])  # a minute later
    assert at_hand() == ["qx", "spin2"]
    with pytest.raises(UnreachableError):
        handler.answer(ANN, GetBackends())


def test_a_center_says_how_many_jobs_and_which_backends(office):
    handler, _, _ = office(max_open_jobs=1, backends=["qx"])
    with pytest.raises(RefusedError, match="Partition p_spin2 is not allowed"):
        handler.answer(ANN, submission(backend="spin2"))
    handler.answer(ANN, submission())
    with pytest.raises(RefusedError, match="1 open jobs"):
        handler.answer(ANN, submission())
    assert handler.answer(BOB, submission()).state == "waiting"


@pytest.mark.parametrize(
    ("array", "fits"), [("0-8", True), ("0-9", False), ("0-99:50", True), ("0-4000000", False)]
)
def test_each_task_of_an_array_is_an_open_job(office, array, fits):
    handler, _, _ = office(max_open_jobs=10)
    handler.answer(ANN, submission())
    many = submission()
    many.payload["job"]["array"] = array
    if fits:
        assert handler.answer(ANN, many).state == "waiting"
    else:
        with pytest.raises(RefusedError, match="You have 1 open jobs on C2, and this submission adds"):
            handler.answer(ANN, many)
        assert handler.answer(ROOT, many).state == "waiting"
    many = submission()
    many.payload["job"]["array"] = "0-6"
    if array == "0-8":
        with pytest.raises(RefusedError, match="You have 10 open jobs on C2, and this submission adds 7"):
            handler.answer(ANN, many)


def test_accounts_are_limited_and_the_first_is_who_names_nones(office):
    handler, outbox, _ = office(accounts=["snellius", "guests"])
    handler.answer(ANN, submission())
    named = submission()
    named.payload["job"]["account"] = "guests"
    handler.answer(ANN, named)
    assert [entry.payload["job"]["account"] for entry in outbox.open_entries()] == ["snellius", "guests"]
    named = submission()
    named.payload["job"]["account"] = "lumi"
    with pytest.raises(RefusedError, match="Account lumi is not allowed"):
        handler.answer(ANN, named)


def test_what_is_said_for_one_user_holds_in_place_of_what_is_said_for_all(office):
    anns = UserLimits(max_open_jobs=2, backends=[])
    handler, _, _ = office(
        max_open_jobs=1, backends=["qx"], accounts=["a"], users={"ann": anns, "bob": UserLimits()}
    )
    handler.answer(ANN, submission(backend="spin2"))
    handler.answer(ANN, submission())
    with pytest.raises(RefusedError, match="limit is 2"):
        handler.answer(ANN, submission())
    with pytest.raises(RefusedError, match="Partition p_spin2 is not allowed"):
        handler.answer(BOB, submission(backend="spin2"))
    handler.answer(BOB, submission())
    with pytest.raises(RefusedError, match="limit is 1"):
        handler.answer(BOB, submission())


@pytest.mark.parametrize(
    "change", [{"key": "x"}, {"key": "another-key"}, {"payload": {"job": {}}}, {"payload": {}}]
)
def test_what_is_no_submission_is_not_taken(office, change):
    handler, outbox, _ = office()
    question = submission()
    for name, value in change.items():
        setattr(question, name, value)
    with pytest.raises(InvalidInputError):
        handler.answer(ANN, question)
    assert outbox.open_entries() == []


def test_every_user_is_told_where_sessions_are_entered_and_how_long_the_lines_are(office):
    handler, _, _ = office()
    assert handler.answer(BOB, GetLoads()) == ["loads"]
    assert handler.answer(BOB, GetSessions()) == {"address": "c2:8044", "certificate": "PEM"}


def in_the_queue(job_id, key, state="PENDING", source="slurmctld"):
    return job_info(job_id=job_id, name="x", state=state, comment=f"qslurm key={key}", source=source)


def test_a_job_that_c2_forgot_waits_under_its_old_id_and_is_found_under_it_when_it_is_back(office):
    handler, outbox, c2 = office()
    ours, others = submission(), submission(user="bob")
    handler.answer(ANN, ours)
    handler.answer(BOB, others)
    outbox.mark_accepted(1, 12, {})
    outbox.mark_accepted(2, 12, {})  # C2 was killed, and gave the id again
    c2.records = {12: in_the_queue(12, others.key)}
    (waiting,) = handler.answer(ANN, GetTasks(12))
    assert (waiting.job_id, waiting.state, waiting.reason, waiting.marks.key) == (
        12,
        "PENDING",
        LOST,
        ours.key,
    )
    with pytest.raises(NotReadyError):
        handler.answer(ANN, CancelJob(12))
    assert c2.cancelled == []
    outbox.mark_for_resubmission(1)
    outbox.mark_accepted(1, 15, {})
    handler.lost.clear(1)
    c2.records[15] = in_the_queue(15, ours.key)
    assert [job.job_id for job in handler.answer(ANN, GetTasks(12))] == [15]
    assert [job.job_id for job in handler.answer(BOB, GetTasks(12))] == [12]
    handler.answer(ANN, CancelJob(12))
    assert c2.cancelled == [15]


def test_a_lost_job_that_is_cancelled_is_not_sent_again(office):
    handler, outbox, c2 = office()
    handler.answer(ANN, submission())
    outbox.mark_accepted(1, 12, {})
    outbox.mark_for_resubmission(1)
    assert handler.answer(ANN, CancelJob(12)) == ["C2 lost the job; it will not be resubmitted."]
    assert outbox.next_to_send() is None
    with pytest.raises(JobCancelledError):
        handler.answer(ANN, GetJob(12))
    assert c2.cancelled == []


def test_a_job_that_is_not_sent_again_has_failed_for_its_user(office):
    handler, outbox, c2 = office()
    ours = submission()
    handler.answer(ANN, ours)
    outbox.mark_accepted(1, 12, {})
    outbox.mark_lost(1)
    c2.records = {12: in_the_queue(12, "somebody-elses")}
    for jobs in (
        [handler.answer(ANN, GetJob(12))],
        handler.answer(ANN, GetTasks(12)),
        handler.answer(ANN, GetJobs()),
    ):
        assert [(job.job_id, job.state, job.marks.key) for job in jobs] == [(12, "FAILED", ours.key)]
        assert "the agent gave up" in jobs[0].why
    (row,) = handler.answer(ANN, GetQueue()).jobs
    assert (row.job_id, row.state) == (12, "FAILED")
    assert handler.answer(ANN, CancelJob(12)) == ["C2 lost the job; it is not resubmitted."]
    with pytest.raises(JobFailedError, match="the agent gave up"):
        handler.answer(ANN, GetPlatformRecord("results", 12))
    assert c2.cancelled == []


def test_a_job_that_an_operator_has_written_on_is_its_users(office):
    handler, outbox, c2 = office()
    ours = submission()
    handler.answer(ANN, ours)
    outbox.mark_accepted(1, 12, {})
    c2.records = {12: msgspec.structs.replace(in_the_queue(12, ""), comment="moved by ops")}
    for jobs in (
        [handler.answer(ANN, GetJob(12))],
        handler.answer(ANN, GetTasks(12)),
        handler.answer(ANN, GetJobs()),
    ):
        assert [(job.state, job.marks.key, job.marks.note) for job in jobs] == [
            ("PENDING", ours.key, "moved by ops")
        ]
    handler.answer(ANN, CancelJob(12))
    assert c2.cancelled == [12]


def test_no_job_is_touched_that_only_has_the_users_id(office):
    handler, outbox, c2 = office()
    handler.answer(ANN, submission())
    outbox.mark_accepted(1, 12, {})
    c2.records = {12: in_the_queue(12, "somebody-elses-from-elsewhere")}
    for question in (CancelJob(12), UpdateJob(12, hold=True)):
        with pytest.raises((UnknownJobError, NotReadyError)):
            handler.answer(ANN, question)
    assert c2.cancelled == []


def test_a_job_that_c2_does_not_know_yet_waits(office):
    handler, outbox, _ = office()
    handler.answer(ANN, submission())
    outbox.mark_accepted(1, 12, {})
    (waiting,) = handler.answer(ANN, GetTasks(12))
    assert (waiting.job_id, waiting.state, waiting.reason) == (12, "PENDING", "Submitted")
    outbox.mark_ended([1])
    with pytest.raises(UnknownJobError):
        handler.answer(ANN, GetTasks(12))


WRITTEN_OFF = job_info(job_id=12, name="x", state="CANCELLED", comment="", source="slurmdbd")
"""Of a slurmctld that starts without its state; on 22.05 the record of a job that waited has no comment."""


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize(
    "change",
    [{}, {"state": "PENDING"}, {"state": "RUNNING"}, {"state": "FAILED", "reason": FORGOTTEN}],
    ids=lambda change: change.get("state", "CANCELLED"),
)
@pytest.mark.parametrize("question", [GetJob(12), GetTasks(12)], ids=["job", "tasks"])
def test_what_may_be_lost_is_not_taken_for_shown_because_its_user_asks(office, question, change, keyed):
    """In the table it would count as shown: the agent would never look what became of it."""
    handler, outbox, c2 = office()
    ours = submission()
    handler.answer(ANN, ours)
    outbox.mark_accepted(1, 12, {})
    comment = f"qslurm key={ours.key}" if keyed else ""
    c2.records = {12: msgspec.structs.replace(WRITTEN_OFF, comment=comment, **change)}
    handler.answer(ANN, question)
    assert handler.tracker.jobs.jobs() == []


@pytest.mark.parametrize("question", [GetJob(12), GetTasks(12)], ids=["job", "tasks"])
def test_what_c2_has_written_off_waits_for_its_user(office, question):
    handler, outbox, c2 = office()
    ours = submission()
    handler.answer(ANN, ours)
    outbox.mark_accepted(1, 12, {})
    c2.records = {12: WRITTEN_OFF}
    for _ in range(2):
        said = handler.answer(ANN, question)
        (job,) = said if isinstance(said, list) else [said]
        assert (job.state, job.reason, job.marks.key) == ("PENDING", LOST, ours.key)


def test_the_accounting_of_an_array_is_its_users_and_asked_for_by_its_id(office):
    handler, outbox, c2 = office()
    outbox.add("anns-key", "ann", {"job": {}})
    task = job_info(job_id=12, name="", state="COMPLETED", array_job_id=12, comment="qslurm key=anns-key")
    c2.accounted_tasks = lambda job_id: [task] if job_id == 12 else []
    assert handler.answer(ANN, GetAccounted(0, 12)) == [task]
    assert handler.answer(BOB, GetAccounted(0, 12)) == []


def test_changes_come_with_the_states_of_the_users_jobs(office):
    handler, outbox, _ = office()
    for number, user in enumerate(("ann", "bob"), 1):
        outbox.add(f"{user}s-key", user, {"job": {}})
        outbox.mark_accepted(number, 11 + number, {})
    before = handler.answer(ANN, GetChangedJobs(0)).number
    jobs = [
        job_info(job_id=11 + number, name="", state="RUNNING", comment=f"qslurm key={user}s-key")
        for number, user in enumerate(("ann", "bob"), 1)
    ]
    handler.tracker.record(jobs)
    handler.changes.changed(jobs)
    moved = handler.answer(ANN, GetChangedJobs(before))
    assert (moved.jobs, moved.states) == ([12], jobs[:1])
