from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.store.task_states import (
    EXECUTION_MOVES,
    SLURM_ENDS,
    TASK_MOVES,
    ExecutionState,
    TaskState,
    is_open,
    move_execution,
    move_task,
    slurm_end,
)
from qslurm.errors import QslurmError


def test_every_state_has_its_line_in_the_table() -> None:
    assert TASK_MOVES.keys() == set(TaskState)
    assert EXECUTION_MOVES.keys() == set(ExecutionState)


def test_a_task_ends_from_every_open_state_and_never_twice() -> None:
    ends = {state for state in TaskState if not is_open(state)}
    assert all(TASK_MOVES[state] >= ends for state in TaskState if is_open(state))
    assert all(not TASK_MOVES[state] for state in ends)


@given(st.sampled_from(TaskState), st.sampled_from(TaskState))
def test_only_moves_in_the_table_are_made(before: TaskState, after: TaskState) -> None:
    if after in TASK_MOVES[before]:
        assert move_task(before, after) is after
    else:
        with pytest.raises(QslurmError):
            move_task(before, after)


def test_an_execution_with_an_outcome_is_never_run_again() -> None:
    for state in (ExecutionState.DONE, ExecutionState.FAILED, ExecutionState.WITHDRAWN):
        with pytest.raises(QslurmError):
            move_execution(state, ExecutionState.RUNNING)


@pytest.mark.parametrize(
    ("state", "end"),
    [("COMPLETED", "finished"), ("CANCELLED by 1001", "cancelled"), ("TIMEOUT", "timed_out"), ("REQUEUED", "withdrawn"),
     ("NODE_FAIL", "failed"), ("", "failed")],
)  # fmt: skip
def test_slurms_words_for_an_end_are_understood(state: str, end: str) -> None:
    assert slurm_end(state) == end


def test_what_slurm_calls_an_end_closes_a_task() -> None:
    assert not any(is_open(state) for state in SLURM_ENDS.values())
