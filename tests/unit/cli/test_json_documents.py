"""What commands print with --json is what docs/json.md says: checked against a schema for each document."""

from __future__ import annotations

import re
from types import SimpleNamespace

import msgspec
import pytest
from testbed.layout import CHECKOUT

from qslurm import errors
from qslurm.c1.config.center_config import load_config
from qslurm.c1.sessions.opening import OpenSession
from qslurm.cli.app import run
from qslurm.cli.shared_options import CenterFlags
from qslurm.errors import UnknownJobError, UnreachableError
from qslurm.payload.comment import Comment
from qslurm.protocol.job_changes import PartitionLoad, QueueListing
from qslurm.slurm.rest.submitted import Submitted
from tests.unit.cli import json_documents as documents
from tests.unit.cli.json_documents import check
from tests.unit.cli.two_platforms import Away
from tests.unit.jobs import job_info

PAGE = (CHECKOUT / "docs" / "json.md").read_text()
BELL = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"
LOOP = "def execute(qi): pass\ndef finalize(results): return {'energy': -1.1}\n"
SAID = Comment(key="a" * 32, kind="circuit", backend="qx", origin="slurm:c1:7:ann:acc").format()

CIRCUIT = {"counts": {"00": 3}, "shots": 3, "raw_data": None}
HYBRID = {"final_result": {"energy": -1.1}, "executions": 2, "shots": 9, "remarks": []}


def result(job_id, kind, facts):
    about = {"job_id": job_id, "key": "a" * 32, "kind": kind, "name": "bell", "state": "finished"}
    return {**about, "reason": "", "reason_code": "", **facts}


def job(job_id, state, **facts):
    about = {"name": "bell", "user": "center_a", "partition": "p_qx", "comment": SAID, "submit_time": 1}
    return job_info(job_id=job_id, state=state, **about, **facts)


class C2:
    """A job in each of some states, and an array."""

    prefix, has_job_manager, submissions_at_once, api_version, user = "", True, 4, "v0.0.45", "center_a"

    def __init__(self, config):
        self.config, self.slurm, self.job_manager = config, self, self
        ended = {"start_time": 2, "end_time": 3, "exit_code": 0}
        array = {"array_job_id": 20, "start_time": 2}
        self.known = [
            job(12, "COMPLETED", **ended),
            job(13, "COMPLETED", **ended),
            job(14, "FAILED", start_time=2, end_time=3, exit_code=1),
            job(15, "PENDING", reason="PartitionDown"),
            job(21, "COMPLETED", array_task_id=0, end_time=3, **array),
            job(22, "CANCELLED", array_task_id=1, end_time=3, cancelled_by="root", **array),
        ]
        self.documents = {
            12: result(12, "circuit", CIRCUIT),
            13: result(13, "hybrid", HYBRID),
            14: {**result(14, "hybrid", HYBRID), "state": "failed", "reason": "vqe.py:3: ValueError: no."},
            21: {**result(21, "circuit", CIRCUIT), "key": "a" * 32 + "#0"},
        }
        self.taken = 30

    def jobs(self):
        return self.known

    def accounted(self, since):
        return [one for one in self.known if one.is_final]

    def tasks(self, job_id):
        if found := [one for one in self.known if job_id in (one.job_id, one.array_job_id)]:
            return found
        raise UnknownJobError(f"C2 has no job {job_id}.")

    def job(self, job_id):
        if job_id in self.documents:
            return {"job_id": job_id, "key": "a" * 32, "state": "finished", "reason": "", "reason_code": ""}
        raise UnknownJobError(f"C2's platform knows no job {job_id}.")

    def accounted_tasks(self, job_id):
        return []

    def submit(self, payload):
        self.taken += 1
        self.known.append(job(self.taken, "COMPLETED", start_time=2, end_time=3, exit_code=0))
        self.documents[self.taken] = result(self.taken, "circuit", CIRCUIT)
        return Submitted(self.taken)

    def cancel(self, job_id, task=None):
        return []

    def update(self, job_id, fields):
        return []

    def usage(self, since, until):
        about = {"origin": "slurm:c1:7:ann:acc", "account": "acc", "backend": "qx"}
        return [{**about, "jobs": 1, "executions": 2, "shots": 3, "qpu_seconds": 0.5}]

    def backends(self):
        facts = {"name": "qx", "state": "idle", "reason": "", "since": 1.5, "qubits": 10, "max_shots": 100}
        mine = {"begins": 1.0, "ends": 2.0, "yours": True, "reason": "a run"}
        return [{**facts, "default_shots": 10, "queued": 0, "executing": 0, "reserved": [mine]}]

    def partitions(self):
        return {"p_qx": "UP"}

    def loads(self):
        return [PartitionLoad(partition="p_qx", waiting=1)]

    def queue(self):
        return QueueListing(jobs=self.known, places=[(15, 1)])

    def result(self, job_id):
        if job_id in self.documents:
            return self.documents[job_id]
        raise UnknownJobError(f"C2's platform knows no job {job_id}.")

    def many_results(self, job_ids):
        return [self.documents[one] for one in job_ids if one in self.documents]

    def log_from(self, job_id, offset):
        return b"" if offset else b"log", 3

    def wait_for_change(self, seconds, job):
        pass

    def delay(self, waited):
        return 0.0

    def close(self):
        pass


OF_THE_JOB_MANAGER = ("job", "many_results", "usage", "log_from", "backends", "loads", "queue")


@pytest.fixture
def c2(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://127.0.0.1:9"\n')
    (tmp_path / "bell.cq").write_text(BELL)
    (tmp_path / "loop.py").write_text(LOOP)
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.chdir(tmp_path)
    made = C2(load_config({}))
    made.job_manager = SimpleNamespace(
        **{name: getattr(made, name) for name in OF_THE_JOB_MANAGER},
        results=made.result,
        limits=made.backends,
        jobs=list,
    )
    monkeypatch.setattr(CenterFlags, "open", lambda _, __="": made)
    client = SimpleNamespace(over=None, executions=0, shots=0, conclude=lambda **_: True, close=lambda: None)
    monkeypatch.setattr("qslurm.c1.sessions.opening.open_session", lambda *_: OpenSession(31, client))
    return made


COMMANDS = {
    "submit bell.cq -b qx": (0, documents.Submitted),
    "submit bell.cq ./bell.cq -b qx": (0, documents.Many),
    "submit bell.cq -b qx --dry-run": (0, documents.Payload),
    "submit bell.cq -b qx --wait": (0, documents.EndedJob),
    "submit bell.cq ./bell.cq -b qx --wait": (0, documents.ManyEnded),
    "queue": (0, documents.Queue),
    "show 12": (0, documents.ShownJob),
    "show 20": (0, documents.ShownArray),
    "show 99": (3, documents.ErrorDocument),
    "cancel 15": (0, documents.Cancelled),
    "cancel 15 12": (0, documents.CancelledJobs),
    "hold 15": (0, documents.HeldJobs),
    "release 15": (0, documents.HeldJobs),
    "wait 12": (0, documents.EndedJob),
    "wait 12 14 99": (3, documents.EndedJobs),
    "wait 14": (6, documents.ErrorDocument),
    "results 12": (0, documents.Counts),
    "results 13": (0, documents.FinalResult),
    "results 14": (6, documents.ErrorDocument),
    "results 20": (7, documents.ArrayResults),
    "logs 12": (0, documents.Log),
    "history": (0, documents.History),
    "usage --by platform,user,account,backend": (0, documents.Usage),
    "info": (0, documents.Info),
    "info nope": (2, documents.ErrorDocument),
    "doctor": (1, documents.Doctor),
    "center init --url http://127.0.0.1:9 --file new.toml": (0, documents.NewConfiguration),
    "run bell.cq --shots 10": (0, documents.CircuitRun),
    "run loop.py": (0, documents.HybridRun),
    "session loop.py -b qx": (0, documents.SessionRun),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_a_document_as_documented(command, c2, capsys):
    code, schema = COMMANDS[command]
    words = command.split()
    assert run([*words, "--json"]) == code
    check(capsys.readouterr().out, schema)


def test_a_platform_that_is_away_has_an_error_by_its_name(c2, monkeypatch, tmp_path, capsys):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n[platform.tuna]\nurl = "http://tuna"\n')

    def open_(config, say=None):
        if config.platform == "c2":
            return c2
        away = Away(UnreachableError("tuna is away."))
        return SimpleNamespace(
            config=config, slurm=away, job_manager=away, has_job_manager=False, close=lambda: None
        )

    monkeypatch.undo()
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr("qslurm.c1.connection.center_connection.open_connection", open_)
    assert run(["queue", "--json"]) == 5
    assert check(capsys.readouterr().out, documents.Queue).errors["tuna"].type == "unreachable"


def rows():
    """The table of documents: the first cell of each row, and the names in the second."""
    table = PAGE.partition("## Documents")[2].partition("\n\n")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {first: set(re.findall(r"`([a-z0-9_]+)`", rest)) for first, rest in cells}


def fields(schema):
    """The names of a type's fields and of those in its lists, without those that every job has."""
    found = set()
    for field in msgspec.structs.fields(schema):
        found.add(field.name)
        inner = [
            one
            for one in vars(documents).values()
            if isinstance(one, type) and re.search(rf"\b{one.__name__}\b", str(field.type))
        ]
        for one in inner:
            if issubclass(one, documents.Document) and one not in (documents.Error, schema):
                found |= fields(one)
    return found


AS_ABOVE = {
    documents.ManyEnded: [documents.Many],
    documents.DispatcherStatus: [documents.DispatcherBackends, documents.Reservations],
}
"""Documents whose row refers to rows above it."""


@pytest.mark.parametrize("row", documents.ROWS)
def test_the_page_names_the_fields_of_each_document(row):
    everywhere = {
        "error",
        "errors",
        *fields(documents.Job),
        *fields(documents.Finding),
        *fields(documents.Counts),
    }
    if documents.ROWS[row] in (documents.Counts, documents.Doctor):
        everywhere = set()
    for one in AS_ABOVE.get(documents.ROWS[row], ()):
        everywhere |= fields(one)
    assert fields(documents.ROWS[row]) - everywhere <= rows()[row] | {"id", "parameters"}


def test_the_page_names_every_field_of_a_job():
    table = set(re.findall(r"`([a-z_]+)`", PAGE.partition("## A job")[2]))
    assert {field.name for field in msgspec.structs.fields(documents.Job)} <= table


def test_the_page_has_every_kind_of_error_beside_its_exit_code():
    table = PAGE.partition("| code |")[2].partition("\n\n")[0]
    beside = {}
    for line in table.splitlines()[2:]:
        codes = line.strip("| ").partition(" | ")[0]
        for code in re.findall(r"\d+", codes):
            beside[int(code)] = set(re.findall(r"`([a-z_]+)`", line))
    found = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.QslurmError)
    ]
    missing = {(one.exit_code, one.kind) for one in found if one.kind not in beside[one.exit_code]}
    assert missing == set()


def test_an_answer_that_is_not_as_documented_is_noticed():
    good = {"job_id": 12, "log": ""}
    assert check(msgspec.json.encode(good).decode(), documents.Log).job_id == 12
    for bad in ({**good, "more": 1}, {"job_id": 12}, {**good, "job_id": "12"}):
        with pytest.raises(msgspec.ValidationError):
            check(msgspec.json.encode(bad).decode(), documents.Log)
