"""A database file that is damaged: everybody who meets that says which, how to look, and how to restore it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from testbed.layout import CHECKOUT

from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.outbox_file import outbox_path
from qslurm.c1.agent.wait_bindings import WaitBindings
from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config
from qslurm.c2.dispatcher.tasks.task import Task
from qslurm.c2.jobmanager.compute_api.api_records import ApiRecords
from qslurm.c2.store import Reader
from qslurm.c2.store.statements import insert_task
from qslurm.c2.store.store import Store
from qslurm.c2.store.task_states import TaskState
from qslurm.doctor.c2 import c2_checks
from qslurm.doctor.findings import run
from qslurm.errors import QslurmError
from qslurm.system.sqlite_damage import DamagedError, check
from tests.unit.c2.dispatcher.running import circuit_job

TASKS = 200


def fill_store(folder: Path) -> Path:
    path = folder / "store.db"
    store = Store(str(path))
    job = circuit_job(7, uid=1000, key="k")
    store.commit(
        insert_task(Task(id=number, job=job, state=TaskState.FINISHED, admitted_at=1.0).row())
        for number in range(1, TASKS)
    )
    store.close()
    return path


def fill_outbox(folder: Path) -> Path:
    outbox = Outbox(folder)
    for number in range(TASKS):
        outbox.add(f"{number:032x}", "alice", {"job": {"name": "x" * 200}, "script": "#!"})
    outbox.close()
    bonds = WaitBindings(folder)
    bonds.bind(f"{0:032x}", "snellius:1:0")
    bonds.close()
    return outbox_path(folder)


def fill_records(folder: Path) -> Path:
    records = ApiRecords(folder / "compute.db")
    for _ in range(TASKS):
        records.put("a", "project", {"name": "x" * 200})
    records.close()
    return folder / "compute.db"


def spoil_pages(path: Path) -> None:
    """Every page but the first is rubbish: what a failing disk leaves."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def spoil_head(path: Path) -> None:
    path.write_bytes(b"This is not a database.\n" * 1000)


def use_store(folder: Path) -> None:
    Store(str(folder / "store.db")).tasks_of_job(7)


def use_reader(folder: Path) -> None:
    Reader(folder / "store.db").tasks("a")


def use_outbox(folder: Path) -> None:
    with closing(Outbox(folder)) as outbox:
        outbox.open_entries("alice")


def use_bonds(folder: Path) -> None:
    with closing(WaitBindings(folder)) as bonds:
        bonds.bound_jobs("snellius")


def use_records(folder: Path) -> None:
    ApiRecords(folder / "compute.db").put("a", "project", {})


def look(folder: Path) -> None:
    check(folder / "store.db", 60)


READERS = {
    "dispatcher": (fill_store, use_store),
    "job manager": (fill_store, use_reader),
    "doctor": (fill_store, look),
    "outbox": (fill_outbox, use_outbox),
    "bonds": (fill_outbox, use_bonds),
    "compute": (fill_records, use_records),
}


@pytest.mark.parametrize("spoil", [spoil_pages, spoil_head])
@pytest.mark.parametrize("who", READERS)
def test_who_meets_damage_says_which_file_and_how_to_look_and_restore(
    who: str, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    fill, use = READERS[who]
    path = fill(tmp_path)
    use(tmp_path)
    spoil(path)
    with pytest.raises(DamagedError) as caught:
        use(tmp_path)
    assert str(path) in caught.value.message
    assert "integrity_check" in caught.value.hint
    assert "Backups" in caught.value.hint


def test_a_store_that_is_damaged_while_it_is_used_takes_nothing_and_says_why(tmp_path: Path) -> None:
    path = fill_store(tmp_path)
    store = Store(str(path))
    spoil_pages(path)
    job = circuit_job(8, uid=1000, key="l")
    row = Task(id=TASKS, job=job, state=TaskState.FINISHED, admitted_at=1.0).row()
    assert f"{path} is damaged" in store.commit([insert_task(row)])


def test_the_doctor_reads_all_of_the_store(tmp_path: Path) -> None:
    path = fill_store(tmp_path)
    checks = c2_checks(C2Config(dispatcher=DispatcherConfig(store=str(path))))
    wanted = {"store": checks["store"]}
    assert [one.state for one in run(wanted)] == ["ok"]
    spoil_pages(path)
    (found,) = run(wanted)
    assert (found.state, str(path) in found.what, "integrity_check" in found.do) == ("fail", True, True)


def test_a_store_that_is_only_away_or_locked_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(QslurmError, match="Cannot read the database") as caught:
        check(tmp_path / "none.db", 1)
    assert not isinstance(caught.value, DamagedError)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs SQLite's own command")
def test_what_can_still_be_read_is_saved_by_the_lines_of_the_documentation(tmp_path: Path) -> None:
    path = fill_store(tmp_path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 8 * 4096)
        file.write(bytes(8 * 4096))
    with pytest.raises(DamagedError):
        check(path, 60)
    path.rename(tmp_path / "damaged.db")
    readme = (CHECKOUT / "deploy" / "README.md").read_text()
    lines = "(sqlite3 damaged.db" + readme.partition("    (sqlite3 damaged.db")[2].partition("\n\n")[0]
    subprocess.run(["sh", "-c", lines], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    assert check(tmp_path / "saved.db", 60)
    saved = Store(str(tmp_path / "saved.db"))
    assert 0 < len(saved.tasks_of_job(7)) < TASKS
    saved.close()
