from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c1.followups.c1_queue import C1Queue, HeldFollowUp, parse_held, parse_running
from qslurm.c1.followups.followup_submission import Mark
from qslurm.errors import QslurmError, RefusedError, UnreachableError

KEY = "0123456789abcdef" * 2
MARK = Mark(KEY, "ok", "c2")


class Slurm:
    """Slurm's commands, which answer as they are told."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, command):
        self.asked.append(list(command))
        code, stdout, stderr = self.answers.pop(0) if self.answers else (0, "", "")
        return CompletedProcess(command, code, stdout, stderr)


def test_follow_ups_that_their_users_hold_are_found():
    lines = (
        f"S12 JobHeldUser 0 annS{MARK.format()}\n"
        f"S13 Priority 4294901739 annS{MARK.format()}\n"  # released already
        f"S14 JobHeldAdmin 0 annS{MARK.format()}\n"  # an admin has said no
        "S15 JobHeldUser 0 annS(null)\n"
        "S16 JobHeldUser 0 bobSa comment\nin two lines\n"
        f"S17 JobHeldUser 0 DOMAIN\\Ann de VriesS{MARK.format()}\n"
    )
    assert parse_held(lines, "S") == [
        HeldFollowUp(12, "ann", MARK),
        HeldFollowUp(17, "DOMAIN\\Ann de Vries", MARK),
    ]


@given(st.text(alphabet=st.sampled_from("S12 ann\nJobHeldUser0x") | st.characters(), max_size=80))
def test_no_comment_can_pass_for_a_line_of_squeues(comment):
    forged = f"{comment}\nS12 JobHeldUser 0 annS{MARK.format()}"
    found = parse_held(f"sign99 JobHeldUser 0 bobsign{forged}\n", "sign")
    assert all(job.job_id == 99 and job.user == "bob" for job in found)


def test_a_line_is_known_by_a_sign_that_nobody_could_know():
    slurm = Slurm()
    queue = C1Queue(slurm)
    queue.held()
    queue.held()
    formats = [command[-1] for command in slurm.asked]
    assert formats[0] != formats[1]


def test_a_job_runs_only_in_the_very_run_that_is_asked_for():
    lines = "12_3|RUNNING|0|\n13|RUNNING|1|\n14|COMPLETING|0|\n15|SUSPENDED|0|\n16|PENDING|1|\n"
    assert parse_running(lines) == {"12_3:0", "13:1", "15:0"}
    slurm = Slurm((0, lines, ""))
    assert C1Queue(slurm).running(["12_3:0", "13:0", "77:0"]) == {"12_3:0"}
    assert "--jobs=12_3,13,77" in slurm.asked[0]


def test_what_is_no_job_hides_nobodys():
    """Of an id that squeue can't read it says "Invalid job id", as of jobs that are gone, and shows none."""

    def squeue(command):
        asked = command[3].removeprefix("--jobs=").split(",")
        words = "squeue: error: Invalid job id: x" if any(not one.isdigit() for one in asked) else ""
        shown = "".join(f"{one}|RUNNING|0|\n" for one in asked if not words)
        return CompletedProcess(command, bool(words), shown, words)

    asked = {"12:0", "13:0", "14:0", "x:0", "1,y:0", "-1:0", ":0", "1_[1-:0"}
    assert C1Queue(squeue, at_once=2).running(asked) == {"12:0", "13:0", "14:0"}


def test_a_job_that_is_gone_is_no_error_and_a_slurmctld_that_is_away_is():
    queue = C1Queue(Slurm((1, "", "slurm_load_jobs error: Invalid job id specified\n")))
    assert queue.running(["12:0"]) == set()
    queue = C1Queue(Slurm((1, "", "56_0-3: Job has already finished\n")))
    queue.release(56, "qslurm after=3")
    for words in ("Unable to contact slurm controller (connect failure)", "Unexpected message received"):
        with pytest.raises(UnreachableError):
            C1Queue(Slurm((1, "", words))).release(12, "x")
    with pytest.raises(RefusedError, match="permission denied"):
        C1Queue(Slurm((1, "", "Access/permission denied for job 12"))).release(12, "x")


def test_a_reason_is_there_before_the_job_is_cancelled():
    slurm = Slurm()
    C1Queue(slurm).cancel(HeldFollowUp(12, "ann", MARK), "because")
    assert slurm.asked[0][-1] == "AdminComment=qslurm: because"
    assert slurm.asked[1] == ["scancel", "--state=PENDING", "12"]


def test_an_operator_writes_the_reason_into_the_comment_behind_the_mark():
    slurm = Slurm((1, "", "Access/permission denied for job 12"))
    C1Queue(slurm).cancel(HeldFollowUp(12, "ann", MARK), "because " * 200)
    comment = slurm.asked[1][-1].removeprefix("Comment=")
    assert Mark.parse(comment) == MARK
    assert "because" in comment
    assert len(comment) < 1000
    assert slurm.asked[2][0] == "scancel"


def test_the_clusters_name_is_as_slurm_has_it():
    assert C1Queue(Slurm((0, "Boot = x\nClusterName             = snellius\n", ""))).cluster() == "snellius"
    with pytest.raises(QslurmError):
        C1Queue(Slurm((0, "", ""))).cluster()
