"""How a batch script starts C2's job step, before any user code runs.

C2's job_submit.lua sees each submission first. A script that begins as one of ours, to the letter, becomes C2's own:
the step as its interpreter, and the job's data. All else is a script: the step is its interpreter, too, and runs it
confined.
"""

from __future__ import annotations

from typing import Literal

from qslurm.payload.envelope import MARKER

Form = Literal["handover", "script", "bare"]
"""Kinds of batch script: a handover of data, a script run by the step, or a plain script."""

SHIPPED = (
    """\
#!/bin/bash
# Made by qslurm: C2's job step reads the job's data from the last line. Nothing below the hand-over is run.
step=${QSLURM_STEP:-qslurm-step}
if ! command -v -- "$step" >/dev/null; then
  echo "qslurm: this node has no job step ($step), so nothing was run. Tell C2's operators." >&2
  exit 127
fi
exec "$step" "$0"
""",
)
"""Headers of the batch scripts that qslurm has generated; job_submit.lua has the same list."""

SCRIPT_MARKER = "#QSLURM-SCRIPT\n"
"""Marks the beginning of the user's script."""


def c2s_own(step: str) -> str:
    """Header of the script that C2 generates from ours."""
    return f"#!{step}\n"


def around_script(step: str) -> str:
    """The header that C2 puts before a script."""
    return f"#!{step} --script\n{SCRIPT_MARKER}"


def form_of(script: str, step: str) -> Form:
    """Classify a batch script; `step` is the path of C2's job step.

    One of ours that begins as it was sent waited in the queue when C2 began to make its own of them.
    """
    if script.startswith(around_script(step)):
        return "script"
    end = script.rfind("\n" + MARKER) + 1
    return "handover" if script[:end] in (c2s_own(step), *SHIPPED) else "bare"
