import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.center.config import Config
from qslurm.center.connection import Center
from qslurm.center.follow_up import CONDITIONS, Mark, decide, followed, remarks, submit_held, take_back
from qslurm.errors import ConfigError, InvalidInputError, RefusedError, UncertainError, UnreachableError

KEY = "0123456789abcdef" * 2


@pytest.fixture
def commands(tmp_path):
    """An environment with a sbatch and a scancel that say what they were asked."""

    def make(body):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("sbatch", "scancel"):
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(stat.S_IRWXU)
        return {"PATH": f"{folder}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}

    return make


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
            "C2 refused the job that it follows. Invalid qos.",
        )
    assert [decide(condition, "lost", 12).do for condition in ("ok", "any", "failed")] == [
        "cancel",
        "release",
        "cancel",
    ]


def test_a_script_is_submitted_held_with_its_mark_and_the_name_of_the_job(commands, script):
    environ = commands('printf "%s|" "$@" "$QSLURM_C2_JOB" > "$SAID"; echo "17;snellius"; echo a word >&2')
    assert submit_held(script, Mark(KEY, "any", "c2"), f"tuna:{KEY}", environ) == (17, "a word")
    said = Path(environ["SAID"]).read_text()
    assert said == f"--parsable|--hold|--comment=qslurm then=any at=c2 key={KEY}|--|{script}|tuna:{KEY}|"


def test_a_script_inherits_neither_the_job_that_submits_it_nor_a_token(commands, script):
    environ = commands('env > "$SAID"; echo 17')
    told = {"SLURM_MEM_PER_NODE": "10", "SLURM_JWT": "eyJ", "SLURM_CONF": "/etc/c1.conf", "SBATCH_QOS": "low"}
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
    with pytest.raises(InvalidInputError, match="no sbatch here"):
        submit_held(script, Mark(KEY, "ok", "c2"), KEY, {"PATH": str(tmp_path)})


def test_only_what_has_not_begun_is_taken_back(commands):
    environ = commands('printf "%s|" "$@" > "$SAID"')
    take_back(17, environ)
    assert Path(environ["SAID"]).read_text() == "--state=PENDING|17|"


def test_a_script_that_undoes_what_qslurm_says_is_remarked(script):
    assert [remark.partition(": ")[2][:12] for remark in remarks(script)] == ["its own --co", "name QSLURM_"]


PAYLOAD = {"job": {"comment": f"qslurm key={KEY}"}}


class Agent(Center):
    """A connection to an agent that has a releaser."""

    follow_ups = "c2"

    def __init__(self):
        super().__init__(Config())


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A sbatch and a scancel, the script, and what they were asked."""
    for name in ("sbatch", "scancel"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/asked; echo 17\n")
        path.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "next.sbatch").write_text("#!/bin/bash\n")
    return tmp_path


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (None, "sbatch\n"),
        (RefusedError("no"), "sbatch\nscancel\n"),
        (UnreachableError("the agent is away"), "sbatch\nscancel\n"),
        (UncertainError("the agent may have it"), "sbatch\n"),
    ],
)
def test_a_follow_up_is_taken_back_only_if_there_is_certainly_nothing_to_follow(slurm, error, asked):
    said = []
    with (
        suppress(RefusedError, UnreachableError),
        followed(Agent(), PAYLOAD, slurm / "next.sbatch", "ok", said.append) as job_id,
    ):
        assert job_id == 17
        if error:
            raise error
    assert (slurm / "asked").read_text() == asked
    assert bool(said) == bool(error)


def test_without_a_releaser_nothing_is_submitted(slurm):
    agent = Agent()
    agent.follow_ups = ""
    with (
        pytest.raises(ConfigError, match="releaser"),
        followed(agent, PAYLOAD, slurm / "next.sbatch", "ok", print),
    ):
        pytest.fail("nothing may be sent")
    assert not (slurm / "asked").exists()
