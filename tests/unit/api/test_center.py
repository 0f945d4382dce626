"""`Center` where several platforms are configured: it is the way to one of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qslurm import Center
from qslurm.errors import ConfigError, InvalidInputError

BELL = "version 3.0\nqubit[4] q\nbit[4] b\nH q[0]\nb = measure q\n"


class C2:
    """Takes every payload; its jobs stay pending."""

    def __init__(self, config, sent):
        self.config, self.prefix, self.has_platform = config, config.prefix, True
        backends = [
            {"name": name, "state": "idle", "qubits": qubits, "max_shots": 100}
            for name, qubits in {"two": 2, "five": 5}.items()
        ]
        self.results = SimpleNamespace(backends=lambda: backends)
        self.slurm = SimpleNamespace(
            jobs=list, partitions=lambda: {"p_two": "UP", "p_five": "UP"}, submit=self._take
        )
        self._sent = sent

    def _take(self, payload):
        self._sent.append((self.config.platform, payload["job"]["partition"]))
        return SimpleNamespace(job_id=12, warnings=[], message="")

    def close(self):
        pass


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """What was sent where."""
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n[platform.tuna]\nurl = "http://tuna"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("QSLURM_PLATFORM", raising=False)
    sent = []
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
