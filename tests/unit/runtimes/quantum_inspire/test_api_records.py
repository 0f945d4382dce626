"""The Compute API's records in their database."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qslurm.c2.jobmanager.compute_api.api_records import ApiRecords, Kind
from qslurm.errors import RefusedError


def test_records_belong_to_their_center_and_outlive_the_process(tmp_path: Path) -> None:
    records = ApiRecords(tmp_path / "records.db")
    mine = records.put("delft", "project", {"name": "x"})
    assert records.get("leiden", "project", mine.id) is None
    assert records.get("delft", "job", mine.id) is None
    records.update("leiden", mine, name="stolen")
    records.delete_project("leiden", mine.id)
    records.close()
    again = ApiRecords(tmp_path / "records.db")
    assert again.page("delft", "project", []) == [mine]
    assert again.put("delft", "project", {}).id > mine.id
    again.close()
    assert (tmp_path / "records.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("limit", [{"most": 2}, {"most_bytes": 2 * len('{"name":"x"}')}], ids=str)
def test_a_center_cannot_fill_the_disk_with_records(tmp_path: Path, limit: dict[str, int]) -> None:
    records = ApiRecords(tmp_path / "records.db", **limit)
    kept = [records.put("delft", kind, {"name": "x"}) for kind in ("project", "batch_job")]
    with pytest.raises(RefusedError, match="Limit reached"):
        records.put("delft", "batch_job", {"name": "x"})
    records.put("leiden", "project", {"name": "x"})
    records.close()
    records = ApiRecords(tmp_path / "records.db", keep_s=-60.0, **limit)  # all is old
    records.put("delft", "batch_job", {"name": "x"})
    assert records.page("delft", "project", []) == kept[:1]
    assert len(records.page("delft", "batch_job", [])) == 1
    records.close()


def test_records_of_an_earlier_version_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    earlier = sqlite3.connect(path)
    earlier.executescript(
        "CREATE TABLE records (id INTEGER PRIMARY KEY AUTOINCREMENT, center TEXT NOT NULL, kind TEXT NOT NULL,"
        " created REAL NOT NULL, body BLOB NOT NULL) STRICT;"
        "CREATE INDEX records_by_kind ON records (center, kind, id);"
    )
    bodies: list[tuple[Kind, dict[str, Any]]] = [
        ("project", {"name": "x"}),
        ("algorithm", {"project_id": 1}),
        ("commit", {"algorithm_id": 2}),
        ("file", {"commit_id": 3, "content": "version 3.0 // \u00e9\n", "name": None}),
        ("batch_job", {"backend_type_id": 1}),
        ("job", {"batch_job_id": 5, "file_id": 4}),
    ]
    for kind, body in bodies:
        earlier.execute(
            "INSERT INTO records (center, kind, created, body) VALUES ('delft', ?, 1.0, ?)",
            (kind, json.dumps(body).encode()),
        )
    earlier.commit()
    earlier.close()
    for _ in range(2):  # the second time it is up to date
        records = ApiRecords(path)
        file = records.get("delft", "file", 4)
        assert file is not None
        assert (file.fields, records.text(file)) == (
            {"commit_id": 3, "name": None},
            "version 3.0 // \u00e9\n",
        )
        assert [one.id for one in records.inside("delft", "job", 5)] == [6]
        records.close()
    records = ApiRecords(path)
    records.delete_project("delft", 1)
    left = sqlite3.connect(path).execute("SELECT kind FROM records UNION SELECT 'text' FROM contents")
    assert sorted(kind for (kind,) in left) == ["batch_job", "job"]
    records.close()
