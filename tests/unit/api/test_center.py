"""`Center` where several platforms are configured: it is the way to one of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm import Center, Job
from qslurm.errors import ConfigError, InvalidInputError
from qslurm.slurmrest import JobInfo

BELL = "version 3.0\nqubit[4] q\nbit[4] b\nH q[0]\nb = measure q\n"


class Sent(list):
    """Where each payload went, and the last one."""

    payload = None


class C2:
    """Takes every payload; its jobs stay pending."""

    def __init__(self, config, sent):
        self.config, self.prefix, self.has_platform = config, config.prefix, True
        backends = [
            {"name": name, "state": "idle", "qubits": qubits, "max_shots": 100}
            for name, qubits in {"two": 2, "five": 5}.items()
        ]
        self.results = SimpleNamespace(backends=lambda: backends, loads=list)
        self.slurm = SimpleNamespace(
            jobs=list, partitions=lambda: {"p_two": "UP", "p_five": "UP"}, submit=self._take
        )
        self._sent = sent

    def _take(self, payload):
        self._sent.append((self.config.platform, payload["job"]["partition"]))
        self._sent.payload = payload
        return SimpleNamespace(job_id=12, warnings=[], message="")

    def close(self):
        pass


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """What was sent where."""
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n[platform.tuna]\nurl = "http://tuna"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("QSLURM_PLATFORM", raising=False)
    sent = Sent()
    monkeypatch.setattr("qslurm.center.connection.open_center", lambda config: C2(config, sent))
    monkeypatch.setattr("qslurm.api.watcher.Watcher.add", lambda self, job: None)
    return sent


def test_a_job_knows_what_the_command_calls_it(sent):
    job = Center(platform="tuna").submit(BELL, backend="five")
    assert (job.id, job.ref, repr(job)) == (12, "tuna:12", "<Job tuna:12>")
    assert repr(Center().submit(BELL, backend="five")) == "<Job 12>"
    assert sent == [("tuna", "p_five"), ("c2", "p_five")]


def test_any_backend_is_the_first_free_one_with_enough_qubits(sent):
    Center(platform="tuna").submit(BELL, backend="any")
    Center(backend="any").submit(BELL.replace("4", "2"))
    Center().submit("#!/bin/bash\ntrue\n", backend="any", qubits=3)
    assert sent == [("tuna", "p_five"), ("c2", "p_two"), ("c2", "p_five")]
    with pytest.raises(InvalidInputError, match=r"needs 9 qubits.*five of c2 \(5 qubits\)"):
        Center().submit(BELL, backend="any", qubits=9)


def test_a_file_for_another_platform_is_not_sent(sent):
    with pytest.raises(InvalidInputError, match="is for platform tuna, and would go to c2"):
        Center().submit(f"// #QSLURM --platform tuna\n{BELL}", backend="five")
    with pytest.raises(ConfigError, match="Did you mean tuna"):
        Center(platform="tunna")
    assert sent == []


def test_a_program_has_the_commands_options(sent, monkeypatch):
    monkeypatch.setenv("LEVEL", "3")
    Center().submit(
        BELL.replace("H q[0]", "Rx({{ theta }}) q[{{ at }}]"),
        backend="five",
        sweep={"theta": [0, 0.5], "at": "0:3"},
        dependency="afterok:7",
        begin="2030-01-01",
        hold=True,
        comment="mine",
        export="LEVEL",
    )
    job = sent.payload["job"]
    assert (job["array"], job["dependency"], job["hold"]) == ("0-7", "afterok:7", True)
    assert job["begin_time"] > 1_800_000_000
    assert job["comment"].endswith(" sweep=theta:0,0.5@at:0:3 -- mine")
    assert "LEVEL=3" in job["environment"]


@pytest.mark.parametrize(("last", "settled"), [("RUNNING", None), ("COMPLETED", [{"0": 5}, {"1": 5}])])
def test_a_sweep_has_a_result_for_each_task_once_all_have_ended(sent, last, settled):
    comment = "qslurm key=0123456789 kind=circuit sweep=theta:0,0.5"
    records = [
        JobInfo(job_id=12 + task, name="x", state=state, comment=comment, array_job_id=12, array_task_id=task)
        for task, state in enumerate(["COMPLETED", last])
    ]
    counts = {12: {"0": 5}, 13: {"1": 5}}
    center = Center()
    c2 = center._for_watching
    c2.slurm = SimpleNamespace(
        job=lambda _: records[0], tasks=lambda _: records, accounted_tasks=lambda _: records
    )
    c2.results = SimpleNamespace(
        results=lambda job_id: {
            "job_id": job_id,
            "key": f"k#{job_id}",
            "kind": "circuit",
            "counts": counts[job_id],
        }
    )
    result = center._settle(Job(center, 12))
    if settled is None:
        assert result is None
    else:
        assert [task.counts for task in result.tasks] == settled
        assert [task.parameters for task in result.tasks] == [{"theta": "0"}, {"theta": "0.5"}]
