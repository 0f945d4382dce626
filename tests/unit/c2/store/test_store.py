from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qslurm.c2.dispatcher.tasks.task import Task, task_from_row
from qslurm.c2.store import Reader
from qslurm.c2.store.statements import (
    HANDED_OUT,
    RESERVATIONS,
    SCHEMA,
    copy_executions,
    end_execution,
    insert_execution,
    insert_journal_entry,
    insert_task,
    set_backend,
    update_task,
)
from qslurm.c2.store.store import Store
from qslurm.c2.store.task_states import TaskState
from qslurm.errors import QslurmError
from qslurm.reason_codes import ReasonCode
from tests.unit.c2.dispatcher.running import circuit_job

JOB = circuit_job(7, uid=1000, key="k1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(str(path))
    yield store
    store.close()


def a_task(task_id: int = 1, **changes: object) -> Task:
    job = msgspec.structs.replace(JOB, **changes)
    return Task(id=task_id, job=job, state=TaskState.ADMITTED, admitted_at=10.0)


def put_result(store: Store, task: int, seq: int, counts: str, *, seconds: float = 0.5) -> None:
    store.commit([
        insert_execution(task, seq, circuit_sha256="s", shots=8, state="running"),
        end_execution(task, seq, state="done", shots_done=8, counts=counts, raw_data='["0", "1"]', seconds=seconds,
                      reason="", error_kind=""),
    ])  # fmt: skip


def test_a_task_comes_back_as_it_was_put_in(store: Store) -> None:
    task = a_task()
    store.commit([insert_task(task.row())])
    assert task_from_row(store.open_tasks()[0]) == task


def test_readers_see_a_task_with_its_sums(store: Store, path: Path) -> None:
    store.commit([insert_task(a_task().row())])
    put_result(store, 1, 0, '{"0": 3, "1": 5}')
    put_result(store, 1, 1, '{"0": 8}', seconds=0.25)
    store.commit([update_task(1, state="finished", final_result='{"energy": -1.8}')])
    task = Reader(path).task("a", 7)
    assert task is not None
    assert (task.executions, task.shots, task.qpu_seconds) == (2, 16, 0.75)
    assert task.state == "finished"
    assert Reader(path).final_result(task) == msgspec.Raw(b'{"energy": -1.8}')
    first, second = Reader(path).executions(task)
    assert (first.counts, first.raw_data) == (msgspec.Raw(b'{"0": 3, "1": 5}'), msgspec.Raw(b'["0", "1"]'))
    assert second.counts == msgspec.Raw(b'{"0": 8}')


def test_another_centers_job_is_not_there(store: Store, path: Path) -> None:
    store.commit([insert_task(a_task().row())])
    assert Reader(path).task("b", 7) is None


def test_of_a_reused_job_id_the_newest_task_is_shown(store: Store, path: Path) -> None:
    store.commit([insert_task(a_task(1, key="old").row()), insert_task(a_task(2, key="new").row())])
    task = Reader(path).task("a", 7)
    assert task is not None
    assert task.key == "new"
    assert [task.id for task in Reader(path).tasks("a")] == [2, 1]


def test_results_are_copied_to_another_start_and_not_counted_twice(store: Store, path: Path) -> None:
    store.commit([insert_task(a_task(1).row()), insert_task(a_task(2, job_id=8).row())])
    put_result(store, 1, 0, '{"0": 8}')
    store.commit([copy_executions(1, 2)])
    task = Reader(path).task("a", 8)
    assert task is not None
    assert Reader(path).executions(task)[0].counts == msgspec.Raw(b'{"0": 8}')
    assert task.qpu_seconds == 0


def test_a_full_store_takes_all_or_nothing_and_goes_on_when_there_is_space(store: Store) -> None:
    store.commit([insert_task(a_task(1).row())])
    store.limit_pages(store.limit_pages(1_000_000))
    large = a_task(2, name="x" * 100_000)
    reason = store.commit([insert_journal_entry(1.0, 1, None, "running"), insert_task(large.row())])
    assert "full" in reason
    assert store.journal(1) == []
    store.limit_pages(1_000_000)
    assert store.commit([insert_journal_entry(1.0, 1, None, "running"), insert_task(large.row())]) == ""
    assert store.last_task() == 2


def test_the_file_is_for_its_owner_and_group(store: Store, path: Path) -> None:
    store.commit([set_backend("qx", offline=True, reason="", since=1.0)])
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("store.db*")}
    assert modes == {0o640}


def test_a_reader_works_with_and_without_a_dispatcher(path: Path) -> None:
    store = Store(str(path))
    store.commit([insert_task(a_task().row())])
    assert Reader(path).task("a", 7) is not None
    store.close()
    assert not path.with_name("store.db-wal").exists()
    assert Reader(path).task("a", 7) is not None
    assert not path.with_name("store.db-wal").exists()


def test_a_store_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(QslurmError, match="Cannot read"):
        Reader(tmp_path / "none.db").task("a", 1)
    with pytest.raises(QslurmError, match="Cannot open"):
        Store(str(tmp_path / "none" / "store.db"))


def test_a_store_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = 1; COMMIT;")
    connection.close()
    store = Store(str(path))
    store.commit([insert_task(a_task().row())])
    assert store.reservations() == []
    assert len(store.open_tasks()) == 1
    store.close()


OLD_REASONS = {
    ("failed", "C2's Slurm was killed while the job ran, and wanted to run it again; how it ended is not known."):
        ReasonCode.END_UNKNOWN,
    ("timed_out", "Nothing was asked of the session for 300 s, its idle limit."): ReasonCode.IDLE_LIMIT,
    ("timed_out", "The job has used its 0.5 QPU-seconds."): ReasonCode.USED_UP,
    ("timed_out", "TimeLimit"): ReasonCode.NONE,
    ("failed", "The circuit says: The job has used its 0.5 QPU-seconds."): ReasonCode.NONE,
}  # fmt: skip
"""The sentences that were decided by until version 3."""


def test_reasons_that_were_stored_as_sentences_alone_get_their_codes(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(f"BEGIN; {SCHEMA} {RESERVATIONS} {HANDED_OUT} PRAGMA user_version = 3; COMMIT;")
    for number, (state, reason) in enumerate(OLD_REASONS, 1):
        row = a_task(number).row() | {"id": number, "state": state, "reason": reason}
        del row["reason_code"]
        marks = ", ".join("?" * len(row))
        connection.execute(
            f"INSERT INTO tasks ({', '.join(row)}) VALUES ({marks})",
            tuple(row.values()),
        )
    connection.commit()
    connection.close()
    Store(str(path)).close()
    found = {(one.state, one.reason): one.reason_code for one in Reader(path).tasks("a")}
    assert found == OLD_REASONS


def test_a_store_of_a_later_version_is_left_alone(path: Path) -> None:
    Store(str(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(QslurmError, match="version 99"):
        Store(str(path))


_READ = """
import sys
sys.path.insert(0, sys.argv[1])
from qslurm.reason_codes import ReasonCode
from qslurm.c2.store import Reader
print(Reader(sys.argv[2]).task("a", 7).state)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("after", ["serving", "killed", "stopped"])
def test_a_member_of_the_group_reads_and_a_stranger_does_not(
    after: str, open_checkout: Path, open_python: Path
) -> None:
    def read_as(uid: int, gid: int) -> str:
        done = subprocess.run(
            [open_python, "-B", "-c", _READ, open_checkout, path],
            user=uid, group=gid, extra_groups=[], capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    group = 54321
    folder = Path(tempfile.mkdtemp(prefix="qs-"))
    try:
        folder.chmod(0o750)
        os.chown(folder, 0, group)
        path = folder / "store.db"
        path.touch(mode=0o640)
        os.chown(path, 0, group)
        store = Store(str(path))
        store.commit([insert_task(a_task().row())])
        if after == "killed":  # its log stays behind, and nobody holds it
            for file in folder.iterdir():
                shutil.copy2(file, f"{file}.copy")
                os.chown(f"{file}.copy", 0, group)
        if after != "serving":
            store.close()
        if after == "killed":
            for file in folder.glob("*.copy"):
                file.rename(file.with_suffix(""))
            assert path.with_name("store.db-wal").exists()
        # SQLite gives its files the owner of the database when root makes them
        assert read_as(uid=65533, gid=group) == "admitted"
        assert read_as(uid=65533, gid=65533) == ""
        if after == "serving":
            store.close()
    finally:
        shutil.rmtree(folder)


def test_what_must_last_waits_for_the_disk_and_takes_along_what_did_not(tmp_path: Path) -> None:
    store, said = Store(str(tmp_path / "store.db")), []
    store._connection.set_trace_callback(said.append)
    for sync in (False, True, False):
        store.commit([insert_journal_entry(1.0, 1, 0, "done")], sync=sync)
    store.close()
    modes = [line.rsplit(" ", 1)[1] for line in said if line.startswith("PRAGMA synchronous")]
    assert modes == ["NORMAL", "FULL", "NORMAL"]  # FULL syncs the log, which all three share
    assert [line for line in said if line == "COMMIT"] == ["COMMIT"] * 3
