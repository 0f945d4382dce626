"""The headers of batch scripts, which make C2's job step their interpreter.

C2's job_submit.lua replaces the header of scripts that qslurm made by C2's own: the step as interpreter, then the job's
data. Other scripts get a header with the step as interpreter, too, which runs them confined.
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
"""The headers of scripts that qslurm makes, now and in older versions; job_submit.lua has the same list."""

SCRIPT_MARKER = "#QSLURM-SCRIPT\n"
"""Marks the beginning of the user's script."""


def c2s_own(step: str) -> str:
    """The header that C2 puts in place of ours."""
    return f"#!{step}\n"


def around_script(step: str) -> str:
    """The header that C2 puts before a script."""
    return f"#!{step} --script\n{SCRIPT_MARKER}"


def form_of(script: str, step: str) -> Form:
    """Classify a batch script; `step` is the path of C2's job step.

    A handover may have our own header: such jobs were in the queue when job_submit.lua began to replace it.
    """
    if script.startswith(around_script(step)):
        return "script"
    end = script.rfind("\n" + MARKER) + 1
    return "handover" if script[:end] in (c2s_own(step), *SHIPPED) else "bare"
