import signal

import click
import pytest

from qslurm.c1.config.settings import Config
from qslurm.c1.connection.center_connection import CenterConnection
from qslurm.cli.c1_job_binding import TERMINATING, C1JobBinding
from qslurm.errors import UnreachableError
from qslurm.slurm.job_info import JobInfo

KEY = "0123456789abcdef" * 2
PAYLOAD = {"job": {"comment": f"qslurm key={KEY}"}}
IN_A_JOB = {"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "snellius", "SLURM_JOB_USER": "ann"}


class Agent(CenterConnection):
    """A connection that keeps what it is told."""

    follow_up_platform = "c2"
    submissions_at_once = 2

    def __init__(self, cancel_fails=False):
        super().__init__(Config())
        self.slurm = self
        self.told = []
        self.cancel_fails = cancel_fails
        self.looked, self.found_at = 0, 0

    def bind(self, *, waits="", followed=False):
        self.told.append(("depend", waits, followed))

    def unbind(self, key):
        self.told.append(("let go", key))

    def cancel(self, job_id, task=None):
        if self.cancel_fails:
            raise UnreachableError("C2 is away.")
        self.told.append(("cancelled", job_id))
        return []

    def find_by_key(self, key):
        self.looked += 1
        return JobInfo(job_id=12, name="bell", state="PENDING") if self.looked == self.found_at else None

    def close(self):
        pass


def waiting_by(agent, environ=IN_A_JOB, *, keep=False):
    return C1JobBinding(agent, lambda: agent, environ, keep=keep)


def ended_by(number, agent, environ=IN_A_JOB, job_id=12):
    with waiting_by(agent, environ) as waiting:
        waiting.add(PAYLOAD).job_id = job_id
        signal.raise_signal(number)


@pytest.fixture(autouse=True)
def handlers():
    """Who is ended ignores all that could end it again; the tests that follow, and their processes, must not.

    Who runs the tests may ignore some: under nohup.
    """
    before = {number: signal.getsignal(number) for number in TERMINATING}
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_job_that_is_ended_takes_its_c2_job_along(number, capsys):
    agent = Agent()
    with pytest.raises(click.exceptions.Exit) as ended:
        ended_by(number, agent)
    assert ended.value.exit_code == 128 + number
    assert agent.told == [("depend", "snellius:7:0", False), ("cancelled", 12)]
    assert "cancelled job 12 on C2" in capsys.readouterr().err


def test_who_is_told_twice_does_what_it_began():
    agent = Agent()
    with pytest.raises(click.exceptions.Exit), waiting_by(agent) as waiting:
        waiting.add(PAYLOAD).job_id = 12
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
    assert agent.told[-1] == ("cancelled", 12)


def test_what_was_being_sent_is_looked_up_more_than_once(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    agent = Agent()
    agent.found_at = 2
    with pytest.raises(click.exceptions.Exit):
        ended_by(signal.SIGTERM, agent, job_id=None)
    assert agent.told[-1] == ("cancelled", 12)


def test_what_can_not_be_cancelled_is_said(capsys):
    with pytest.raises(click.exceptions.Exit):
        ended_by(signal.SIGTERM, Agent(cancel_fails=True))
    assert "cannot cancel job 12 on C2: C2 is away." in capsys.readouterr().err


def test_many_are_cancelled_but_what_has_ended(capsys):
    agent = Agent()
    with pytest.raises(click.exceptions.Exit), waiting_by(agent) as waiting:
        assert waiting.bind(agent) is agent
        for number in range(4):
            submission = waiting.add({"job": {"comment": f"qslurm key={number:032x}"}})
            submission.job_id, submission.over = 12 + number, number == 1
        signal.raise_signal(signal.SIGTERM)
    assert sorted(agent.told[2:]) == [("cancelled", 12), ("cancelled", 14), ("cancelled", 15)]
    assert "cancelled 3 jobs on C2. Use --keep to keep them running" in capsys.readouterr().err


def test_who_is_to_keep_them_is_ended_as_any_process():
    agent, handler = Agent(), signal.getsignal(signal.SIGTERM)
    with waiting_by(agent, keep=True):
        assert signal.getsignal(signal.SIGTERM) == handler
    assert agent.told == []


def test_outside_of_a_job_nothing_is_tied():
    agent, handler = Agent(), signal.getsignal(signal.SIGTERM)
    with waiting_by(agent, {"USER": "ann"}):
        assert signal.getsignal(signal.SIGTERM) == handler
    assert agent.told == []


def test_a_wait_that_is_given_up_lets_the_job_live():
    agent, handler = Agent(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), waiting_by(agent) as waiting:
        waiting.add(PAYLOAD)
        raise KeyboardInterrupt
    assert agent.told[-1] == ("let go", KEY)
    assert signal.getsignal(signal.SIGTERM) == handler


def test_what_has_not_ended_when_the_wait_does_lives_and_what_has_needs_no_word():
    agent = Agent()
    with waiting_by(agent) as waiting:  # as with many files, of which --timeout is said at the end
        waiting.add({"job": {"comment": "qslurm key=fedcba9876543210"}}).over = True
        waiting.add(PAYLOAD).job_id = 12
    assert agent.told == [("depend", "snellius:7:0", False), ("let go", KEY)]


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup qslurm submit --wait
    agent = Agent()
    with waiting_by(agent):
        signal.raise_signal(signal.SIGHUP)
    assert agent.told == [("depend", "snellius:7:0", False)]
