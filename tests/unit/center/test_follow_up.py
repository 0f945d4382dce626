import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.center.follow_up import CONDITIONS, Mark, decide, remarks, submit_held, take_back
from qslurm.errors import InvalidInputError, RefusedError

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
    assert said == f"--parsable|--hold|--comment=qslurm then=any at=c2 key={KEY}|{script}|tuna:{KEY}|"


def test_what_sbatch_refuses_is_said_in_its_words(commands, script):
    environ = commands('echo "sbatch: error: Batch job submission failed: Invalid partition" >&2; exit 1')
    with pytest.raises(RefusedError, match="Batch job submission failed: Invalid partition"):
        submit_held(script, Mark(KEY, "ok", "c2"), KEY, environ)


def test_without_slurm_or_a_script_nothing_is_submitted(script, tmp_path):
    with pytest.raises(InvalidInputError, match="no sbatch here"):
        submit_held(script, Mark(KEY, "ok", "c2"), KEY, {"PATH": str(tmp_path)})
    with pytest.raises(InvalidInputError, match="no script"):
        submit_held(tmp_path, Mark(KEY, "ok", "c2"), KEY, {})


def test_only_what_has_not_begun_is_taken_back(commands):
    environ = commands('printf "%s|" "$@" > "$SAID"')
    take_back(17, environ)
    assert Path(environ["SAID"]).read_text() == "--state=PENDING|17|"


def test_a_script_that_undoes_what_qslurm_says_is_remarked(script):
    assert [remark.partition(": ")[2][:12] for remark in remarks(script)] == ["its own --co", "name QSLURM_"]
