import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c1.config.settings import Config
from qslurm.c1.connection.center_connection import CenterConnection
from qslurm.c1.followups.followup_submission import (
    CONDITIONS,
    Mark,
    cancel_follow_up,
    decide,
    followed,
    submit_held,
)
from qslurm.errors import ConfigError, InvalidInputError, RefusedError, UncertainError, UnreachableError

KEY = "0123456789abcdef" * 2


QUEUE = r"""#!/bin/bash
# squeue over the jobs in $QUEUE, a file for each: reason, priority, comment, command
[ -n "$SQUEUE_FORMAT$SLURM_CLUSTERS" ] && exit 1
for last; do :; done
form=${last#--format=}
echo a banner of the site
for job in $(ls "$QUEUE"); do
    { read -r reason; read -r priority; read -r comment; read -r command; } < "$QUEUE/$job"
    [[ "$*" == *--jobs=* && "$*" != *--jobs=$job\ * ]] && continue
    line=${form//%A/$job}; line=${line//%r/$reason}; line=${line//%Q/$priority}; line=${line//%u/Ann de Vries}
    line=${line//%k/$comment}; echo "${line//%o/$command}"
done
"""
SBATCH = r"""#!/bin/bash
# sbatch --parsable of a job 17 in $QUEUE
printf "%s|" "$@" "$QSLURM_C2_JOB" > "$SAID"
for word; do [[ "$word" == --comment=* ]] && comment=${word#--comment=}; script=$word; done
queues() { printf '%s\n' JobHeldUser 0 "${1-$comment}" "$(readlink -f "$script")" > "$QUEUE/${2-17}"; }
"""


@pytest.fixture
def commands(tmp_path):
    """An environment with commands of Slurm that have a queue, and sbatch ends as the test says."""

    def make(body="queues; echo 17"):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (tmp_path / "queue").mkdir(exist_ok=True)
        cancel = '#!/bin/bash\nfor id; do :; done\necho "$@" >> "$SAID.cancelled"; rm -f "$QUEUE/$id"\n'
        for name, text in (("sbatch", SBATCH + body), ("squeue", QUEUE), ("scancel", cancel)):
            (folder / name).write_text(text)
            (folder / name).chmod(stat.S_IRWXU)
        return {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "SAID": str(tmp_path / "said"),
            "QUEUE": str(tmp_path / "queue"),
        }

    return make


def left_in(queue):
    """The jobs that are still in the queue."""
    return [job.name for job in Path(queue).iterdir()]


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "next.sbatch"
    path.write_text("#!/bin/bash\n#SBATCH --comment=mine\n#SBATCH --export=HOME\ntrue\n")
    return path


@pytest.mark.parametrize("condition", CONDITIONS)
def test_what_is_marked_is_read_again(condition):
    mark = Mark(KEY, condition, "tuna-2")
    assert Mark.parse(mark.format()) == mark
    assert Mark.parse(f"{mark.format()} -- a note") == mark


@pytest.mark.parametrize(
    "comment",
    ["", "(null)", "qslurm key=" + KEY, f"qslurm then=never at=c2 key={KEY}", f"x qslurm then=ok at=c2 key={KEY}",
     f"qslurm then=ok at=c2 key={KEY} more", f"qslurm then=ok at=c2 key={KEY}\n", f"qslurm after=12 key={KEY}"],
)  # fmt: skip
def test_no_other_comment_is_taken_for_a_mark(comment):
    assert Mark.parse(comment) is None


@given(st.sampled_from(CONDITIONS), st.sampled_from(["completed", "failed", "cancelled", "timed_out"]))
def test_a_job_that_ended_releases_or_cancels_as_sbatchs_dependencies_do(condition, how):
    released = {"ok": how == "completed", "failed": how != "completed", "any": True}[condition]
    decision = decide(condition, how, 12, "")
    assert decision.do == ("release" if released else "cancel")
    assert "12" in decision.reason


def test_what_is_not_over_waits_and_what_never_was_is_not_followed():
    for condition in CONDITIONS:
        assert decide(condition, "open").do == "wait"
        refused = decide(condition, "refused", why="Invalid qos.")
        assert (refused.do, refused.reason) == (
            "cancel",
            "C2 refused the job that it follows: Invalid qos.",
        )
    assert [decide(condition, "lost", 12).do for condition in ("ok", "any", "failed")] == [
        "cancel",
        "release",
        "cancel",
    ]


def test_a_script_is_submitted_held_with_its_mark_and_the_name_of_the_job(commands, script):
    environ = commands('queues; echo "17;snellius"; echo a word >&2')
    job_id, words = submit_held(script, Mark(KEY, "any", "c2"), f"tuna:{KEY}", environ)
    assert (job_id, words.splitlines()) == (
        17,
        ["a word", f"{script}: --comment is replaced by qslurm's."],
    )
    said = Path(environ["SAID"]).read_text().split("|")
    assert said[:3] == ["--parsable", "--hold", f"--comment=qslurm then=any at=c2 key={KEY}"]
    assert said[3:] == ["--export=HOME,QSLURM_C2_JOB", "--", str(script), f"tuna:{KEY}", ""]


MARK = Mark(KEY, "ok", "c2")


@pytest.mark.parametrize(
    "body",
    [
        "echo Welcome to Snellius; echo 99; queues; echo 17; echo Bye",
        "queues; echo Submitted batch job 17",
        "queues",
        'queues; queues "$comment" 18; echo 17',
        "printf '%s\\n' JobHeldUser 0 another /x > \"$QUEUE/9\"; queues; echo 17",
    ],
)
def test_a_follow_up_is_found_whatever_sbatch_prints(commands, script, body):
    assert submit_held(script, MARK, KEY, commands(body))[0] == 17


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo Job 18 to start at noon >&2", "Job 18 to start at noon"),
        ("true", "lacks qslurm's comment"),
        ("queues 'a rule of the site'; echo hello; echo 17", "lacks qslurm's comment"),
        ("queues 'a rule of the site'; echo '17;other'", "lacks qslurm's comment"),
        ("queues; echo 17; echo sbatch: error: out of luck >&2; exit 1", "out of luck"),
        ('queues; queues "$comment" 18; exit 9', "exit code 9"),
    ],
)
def test_nothing_is_left_behind_of_what_can_not_be_followed(commands, script, body, said):
    environ = commands(body)
    with pytest.raises(RefusedError, match=said):
        submit_held(script, MARK, KEY, environ)
    assert left_in(environ["QUEUE"]) == []


def test_no_job_is_cancelled_because_a_banner_has_its_number(commands, script):
    environ = commands("printf '%s\\n' JobHeldUser 0 mine /home/x > \"$QUEUE/42\"; echo 42")
    with pytest.raises(RefusedError):
        submit_held(script, MARK, KEY, environ)
    assert left_in(environ["QUEUE"]) == ["42"]


def test_what_sbatch_does_not_come_back_from_is_taken_back(commands, script):
    environ = commands("queues; exec sleep 60")
    with pytest.raises(RefusedError, match="timed out"):
        submit_held(script, MARK, KEY, environ, limit_s=0.5)
    assert left_in(environ["QUEUE"]) == []


@pytest.mark.parametrize("line", ["--wait", "-W", "--mem=10 -W  # and wait"])
def test_a_script_that_has_sbatch_wait_is_refused_at_once(commands, script, line):
    script.write_text(f"#!/bin/bash\n# a script\n#SBATCH {line}\ntrue\n")
    with pytest.raises(InvalidInputError, match="--wait"):
        submit_held(script, MARK, KEY, commands())


@pytest.mark.parametrize(
    ("lines", "variable", "option"),
    [
        ("", "", ""),
        ("--export=NONE", "", "--export=QSLURM_C2_JOB"),
        ("--export NONE", "", "--export=QSLURM_C2_JOB"),
        ("--export=A,B=1", "", "--export=A,B=1,QSLURM_C2_JOB"),
        ("--export=ALL,A=1", "", ""),
        ("--export=QSLURM_C2_JOB", "", ""),
        ("--export=ALL", "NONE", "--export=QSLURM_C2_JOB"),
        ("--export=NONE", "ALL", ""),
        ("", "A,B", "--export=A,B,QSLURM_C2_JOB"),
        ("--export='", "", ""),
        ("--mem=1\ntrue\n#SBATCH --export=NONE", "", ""),
    ],
)
def test_the_script_is_told_what_it_follows_whatever_is_let_through(
    commands, script, lines, variable, option
):
    script.write_text(f"#!/bin/bash\n#SBATCH {lines}\ntrue\n")
    environ = commands() | ({"SBATCH_EXPORT": variable} if variable else {})
    submit_held(script, MARK, KEY, environ)
    words = Path(environ["SAID"]).read_text().split("|")
    assert [word for word in words if word.startswith("--export")] == ([option] if option else [])


def test_a_script_inherits_neither_the_job_that_submits_it_nor_a_token(commands, script):
    environ = commands('env > "$SAID"; queues; echo 17')
    told = {
        "SLURM_MEM_PER_NODE": "10",
        "SLURM_JWT": "eyJ",
        "SLURM_CONF": "/etc/c1.conf",
        "SBATCH_QOS": "low",
        "SBATCH_WAIT": "1",
        "SQUEUE_FORMAT": "%i",
        "SCANCEL_INTERACTIVE": "1",
    }
    submit_held(script, Mark(KEY, "ok", "c2"), KEY, environ | told)
    said = dict(line.partition("=")[::2] for line in Path(environ["SAID"]).read_text().splitlines())
    assert {name: value for name, value in said.items() if name.startswith("S") and name in told} == {
        "SLURM_CONF": "/etc/c1.conf",
        "SBATCH_QOS": "low",
    }


def test_what_sbatch_refuses_is_said_in_its_words(commands, script):
    said = "sbatch: error: Batch job submission failed: \\nsbatch: error: Invalid partition!"
    environ = commands(f'printf "{said}" >&2; exit 1')
    with pytest.raises(RefusedError, match=r"failed: Invalid partition\."):
        submit_held(script, Mark(KEY, "ok", "c2"), KEY, environ)


def test_without_slurm_nothing_is_submitted(script, tmp_path):
    with pytest.raises(InvalidInputError, match="sbatch is not installed"):
        submit_held(script, Mark(KEY, "ok", "c2"), KEY, {"PATH": str(tmp_path)})


def test_only_what_has_not_begun_is_taken_back(commands):
    environ = commands()
    cancel_follow_up(17, environ)
    assert Path(environ["SAID"] + ".cancelled").read_text() == "--state=PENDING 17\n"


PAYLOAD = {"job": {"comment": f"qslurm key={KEY}"}}


class Agent(CenterConnection):
    """A connection to an agent that has a releaser."""

    follow_up_platform = "c2"

    def __init__(self):
        super().__init__(Config())


@pytest.fixture
def slurm(tmp_path, monkeypatch, commands):
    """Slurm's commands, and a script."""
    for name, value in commands().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "next.sbatch").write_text("#!/bin/bash\n")
    return tmp_path


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, ["17"]),
        (RefusedError("no"), []),
        (UnreachableError("the agent is away"), []),
        (UncertainError("the agent may have it"), ["17"]),
    ],
)
def test_a_follow_up_is_taken_back_only_if_there_is_certainly_nothing_to_follow(slurm, error, left):
    said = []
    with (
        suppress(RefusedError, UnreachableError),
        followed(Agent(), PAYLOAD, slurm / "next.sbatch", "ok", said.append) as job_id,
    ):
        assert job_id == 17
        if error:
            raise error
    assert left_in(slurm / "queue") == left
    assert bool(said) == bool(error)


def test_without_a_releaser_nothing_is_submitted(slurm):
    agent = Agent()
    agent.follow_up_platform = ""
    with (
        pytest.raises(ConfigError, match="releaser"),
        followed(agent, PAYLOAD, slurm / "next.sbatch", "ok", print),
    ):
        pytest.fail("nothing may be sent")
    assert not (slurm / "said").exists()
