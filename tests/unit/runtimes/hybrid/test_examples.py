"""The example jobs run, and say what they promise."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from testbed.layout import CHECKOUT

from qslurm.circuits.check import check_circuit
from qslurm.runtimes.hybrid.hybrid_file import check_hybrid, run_hybrid
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.qx import simulate
from qslurm.runtimes.simulated_backend import backend_type

EXAMPLES = CHECKOUT / "templates" / "examples"
VQE = EXAMPLES / "vqe_h2.py"


class Seeded:
    """A transport whose executions repeat themselves."""

    def __init__(self, seed: int) -> None:
        self.backend_type: BackendType = backend_type("qx", qubits=2, max_shots=1024, default_shots=1024)
        self.seed = seed
        self.shots: list[int] = []

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        self.shots.append(number_of_shots)
        return simulate(circuit, number_of_shots, seed=1000 * self.seed + len(self.shots), raw_data=raw_data)


def test_the_bell_pair_is_a_bell_pair() -> None:
    text = (EXAMPLES / "bell.cq").read_text()
    assert check_circuit(text).qubits == 2
    assert set(simulate(text, 1000, seed=1).counts) == {"00", "11"}


def test_the_hamiltonian_is_hydrogens() -> None:
    """Compared with a matrix written out by hand: electronic energy at 0.735 Å, parity mapped."""
    spec = importlib.util.spec_from_file_location("vqe_h2", VQE)
    assert spec is not None
    assert spec.loader is not None
    vqe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vqe)
    identity, z0, z1, zz, xx = -1.05237325, 0.39793742, -0.39793742, -0.01128010, 0.18093120
    matrix = np.diag(
        [identity + z0 + z1 + zz, identity - z0 + z1 - zz, identity + z0 - z1 - zz, identity - z0 - z1 + zz]
    )
    matrix += xx * np.fliplr(np.eye(4))
    assert vqe.exact_energy() == pytest.approx(np.linalg.eigvalsh(matrix)[0])
    assert vqe.exact_energy() == pytest.approx(-1.8573, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_vqe_finds_hydrogens_ground_state(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Over 200 seeds its error had a standard deviation of 0.004 Hartree and was 0.010 at most."""
    source = VQE.read_text()
    check_hybrid(source, VQE.name)
    transport = Seeded(seed)
    result = run_hybrid(source, VQE.name, transport)
    assert result["energy"] == pytest.approx(-1.8573, abs=0.03)
    assert result["theta"] == pytest.approx(0.2235, abs=0.15)
    assert result["circuits"] == len(transport.shots) == 40
    assert set(transport.shots) == {1024}
    assert capsys.readouterr().out.count("Hartree") == len(result["trace"]) == 20
    json.dumps(result, allow_nan=False)


def test_the_papers_payload_is_whole() -> None:
    payload = json.loads((EXAMPLES / "payload.json").read_text())
    assert payload["job"]["partition"] == "p_spin2"
    assert payload["script"].startswith("#!/bin/bash\n")


def test_the_batch_script_begins_as_slurm_wants_it() -> None:
    assert (EXAMPLES / "hello.sh").read_text().startswith("#!/bin/bash\n")
