"""Clients made for Quantum Inspire on this C2: their jobs are Slurm jobs, and return results."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from c2_platform import BELL, Platform

from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.quantum_inspire.platform_link import RequestRefusedError
from qslurm.runtimes.quantum_inspire.quantum_inspire_options import QuantumInspireOptions
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime
from tests.unit.runtimes.quantum_inspire.official import Official

pytestmark = pytest.mark.slurm

EXTRAS = Path(__file__).parents[2] / ".state/extras/bin"
QISKIT = """
from qiskit import QuantumCircuit, transpile
from qiskit_quantuminspire.qi_provider import QIProvider
backend = QIProvider().get_backend("qx")
circuit = QuantumCircuit(3, 2)
circuit.x(2)
circuit.measure([0, 2], [0, 1])
print(backend.run(transpile(circuit, backend), shots=50).result(timeout=120).get_counts())
"""

HYBRID = f'''
from qi2_shared.hybrid.quantum_interface import QuantumInterface

def execute(qi: "QuantumInterface"):
    for _ in range(3):
        print("measured", sum(qi.execute_circuit("""{BELL}""", 50).results.values()))

def finalize(list_of_measurements):
    return {{"circuits": len(list_of_measurements)}}
'''


@pytest.fixture
def credentials(platform: Platform, tmp_path: Path) -> Callable[[str], Path]:
    """The official client's configuration file, with the center's token."""
    host = f"{platform.testbed.results_url}/quantum-inspire"

    def make(center: str) -> Path:
        tokens = {
            "access_token": platform.testbed.token(center),
            "expires_in": 3600,
            "refresh_token": "none",
            "generated_at": time.time(),
        }
        auth = {
            "client_id": "x",
            "code_challenge_method": "S256",
            "code_verifyer_length": 64,
            "well_known_endpoint": f"{host}/oidc/.well-known/openid-configuration",
            "tokens": tokens,
            "team_member_id": 7,
        }
        path = tmp_path / f"{center}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"default_host": host, "auths": {host: auth}}))
        return path

    return make


@pytest.fixture
def alice(credentials: Callable[[str], Path]) -> Iterator[Official]:
    official = Official(credentials("snellius"))
    yield official
    official.close()


def test_the_runtime_quantuminspire_executes_circuits_on_this_platform(
    platform: Platform, credentials: Callable[[str], Path]
) -> None:
    """Official client, HTTP, Compute API, slurmrestd, slurmctld, prolog, dispatcher, QX; and all the way back."""
    facts = BackendFacts(name="there", qubits=5, max_shots=10_000, default_shots=100)
    options = QuantumInspireOptions(credentials=str(credentials("snellius")), backend_type="qx", poll_s=0.5)
    runtime = QuantumInspireRuntime(facts, options)
    runtime.open()
    try:
        platform.until(lambda: runtime.attend().ready)
        outcome = runtime.execute(BELL, 200, seed=None, raw_data=True, file="bell.cq")
    finally:
        runtime.close()
    assert set(outcome.counts) <= {"00", "11"}
    assert outcome.raw_data is not None
    assert len(outcome.raw_data) == outcome.shots_done == 200
    (newest, *_) = platform.ask("jobs?limit=1").json()["jobs"]
    assert (newest["kind"], newest["shots"], newest["origin"].split(":")[0]) == (
        "circuit",
        200,
        "compute-api",
    )
    assert platform.job(newest["job_id"])["Account"] == "snellius"
    assert newest["qpu_seconds"] == pytest.approx(outcome.seconds)


def test_a_hybrid_file_made_for_quantum_inspire_runs_here(platform: Platform, alice: Official) -> None:
    job = alice.runs(HYBRID, "qx", language="python")
    platform.until(lambda: alice.job(job).status.value not in {"planned", "running"})
    found = alice.job(job)
    assert (found.status.value, found.algorithm_type.value) == ("completed", "hybrid"), found.message
    assert alice.final_result(job) == {"circuits": 3}
    assert [sum(one.results.values()) for one in alice.results(job)] == [50, 50, 50]
    assert "measured 50" in alice.logs(job)
    assert alice.batch(found.batch_job_id).status.value == "finished"


def test_a_job_waits_as_any_other_and_is_cancelled_in_slurm(
    platform: Platform, alice: Official, credentials: Callable[[str], Path]
) -> None:
    platform.operator("partition", "close", "p_qx")
    platform.operator("partition", "drain", "p_qx")
    platform.until(lambda: platform.partition()["slurm_state"] == "DOWN")
    job = alice.runs(BELL, "qx", language="cqasm", shots=10)
    found = alice.job(job)
    assert (found.status.value, alice.batch(found.batch_job_id).status.value) == ("planned", "queued")
    assert platform.state(int(found.session_id)) == "PENDING"
    stranger = Official(credentials("lumi"))
    for ask in (stranger.job, stranger.cancels, stranger.results):
        with pytest.raises(RequestRefusedError, match=f"Unknown job {job}"):
            ask(job)
    stranger.close()
    assert alice.cancels(job).status.value == "cancelled"
    platform.until(lambda: platform.state(int(found.session_id)) == "CANCELLED")
    assert alice.results(job) == []


@pytest.mark.skipif(not (EXTRAS / "qi").exists(), reason="needs the extra qslurm[quantum-inspire]")
def test_the_official_command_line_and_qiskit_work_unchanged(
    platform: Platform, alice: Official, credentials: Callable[[str], Path], tmp_path: Path
) -> None:
    import compute_api_client as api

    (tmp_path / ".quantuminspire").mkdir()
    shutil.copy2(credentials("snellius"), tmp_path / ".quantuminspire/config.json")
    (tmp_path / "bell.cq").write_text(BELL)

    def types(program: str, *words: str, answer: str = "") -> str:
        environment = {
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "BROWSER": "/bin/true",
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [str(EXTRAS / program), *words],
            cwd=tmp_path, env=environment, input=answer, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    backend = re.search(r"(\d+)\W+qx\b", types("qi", "backends", "list"))
    assert backend is not None
    said = types("qi", "run", "--file", "bell.cq", "--backend-type-id", backend[1], "--num-shots", "20")
    job = re.findall(r"\d+", said)[-1]
    platform.until(lambda: "completed" in types("qi", "jobs", "status", job))
    assert "'shots_done': 20" in types("qi", "jobs", "results", job)
    assert types("python", "-c", QISKIT).splitlines()[-1] == "{'10': 50}"
    for name in ("vqe one", "vqe two", "a colleague's"):
        project = api.ProjectIn(owner_id=7, name=name, description="")
        alice.asks("ProjectsApi", "create_project_projects_post", project)
    assert "colleague" not in types("qi", "projects", "list", "--name", "vqe")
    assert "1 projects deleted" in types(
        "qi", "projects", "delete", "--name", "vqe one", "--exact", answer="y\n"
    )
    assert "1 projects deleted" in types("qi", "projects", "delete", "--name", "VQE", answer="y\n")
    assert "a colleague's" in types("qi", "projects", "list")
    assert job in types("qi", "jobs", "list", "completed")
    assert job not in types("qi", "jobs", "list", "running")
