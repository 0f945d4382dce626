"""The store of tasks, results and the journal: an SQLite file that the dispatcher writes and others read."""

from qslurm.c2.store.reader import Reader
from qslurm.c2.store.task_records import ExecutionRecord, TaskRecord

__all__ = ["ExecutionRecord", "Reader", "TaskRecord"]
