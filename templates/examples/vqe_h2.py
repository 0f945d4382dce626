"""The ground-state energy of the hydrogen molecule, by a variational quantum eigensolver (VQE).

    qslurm run vqe_h2.py       here, on this machine
    qslurm submit vqe_h2.py    from an sbatch script, on the quantum platform

A quantum computer prepares a state with one adjustable angle and measures its energy; a classical optimiser
turns the angle. It takes 40 circuits of 1024 shots, and finds about -1.857 Hartree.
"""

from math import atan2, pi, sqrt

import numpy as np
from scipy.optimize import minimize

SHOTS = 1024

# H2 with its nuclei 0.735 Å apart: the electrons' energy in Hartree (STO-3G basis, parity mapping onto two
# qubits). Each name says what is measured on which qubit; as in a bit string, qubit 0 stands rightmost.
HAMILTONIAN = {"II": -1.05237325, "IZ": 0.39793742, "ZI": -0.39793742, "ZZ": -0.01128010, "XX": 0.18093120}

# Terms that one circuit can measure together, and the gates that turn their basis into the one of `measure`.
GROUPS = [
    (["IZ", "ZI", "ZZ"], ""),
    (["XX"], "H q"),
]

found = {}  # what `execute` leaves for `finalize`


def execute(qi):
    """Find the angle of least energy. `qi` is the quantum computer; each call of it waits for the counts."""
    trace = []

    def energy(theta):
        value = measure_energy(qi, theta)
        trace.append([theta, value])
        print(f"angle {theta:+.4f}   energy {value:+.5f} Hartree", flush=True)
        return value

    # The optimiser walks towards the minimum, as far as the noise of 1024 shots lets it see the slope ...
    options = {"rhobeg": 1.0, "maxiter": 16}
    minimize(lambda x: energy(float(x[0])), x0=[pi / 2], method="COBYLA", options=options)
    # ... and its steps show more than it uses: the energy is a wave in the angle, and all of them fix it.
    theta = lowest_point_of_wave(trace)
    energies = [energy(theta) for _ in range(4)]

    found.update(energy=np.mean(energies), uncertainty=np.std(energies) / sqrt(4), theta=theta, trace=trace)


def finalize(list_of_measurements):
    """Make the job's final result; `list_of_measurements` has the counts of each circuit, in order."""
    return {**found, "exact": exact_energy(), "circuits": len(list_of_measurements)}


def measure_energy(qi, theta):
    """The energy in Hartree of the state with this angle, from one circuit for each group of terms."""
    energy = HAMILTONIAN["II"]
    for terms, change_of_basis in GROUPS:
        counts = qi.execute_circuit(circuit(theta, change_of_basis), SHOTS).results
        energy += sum(HAMILTONIAN[term] * expectation(term, counts) for term in terms)
    return energy


def circuit(theta, change_of_basis):
    """Both electrons in the lower orbital (angle 0, Hartree-Fock), mixed with both in the upper, measured."""
    return f"""version 3.0
        qubit[2] q
        bit[2] b

        X q[0]
        Ry({theta:.6f}) q[0]
        X q[1]
        CNOT q[0], q[1]
        {change_of_basis}
        b = measure q
    """


def expectation(term, counts):
    """The mean of a term such as ZI: +1 for each shot with an even number of ones where it looks, else -1."""
    looked_at = [i for i, letter in enumerate(term) if letter != "I"]
    signed = sum((-1) ** sum(bits[i] == "1" for i in looked_at) * count for bits, count in counts.items())
    return signed / sum(counts.values())


def lowest_point_of_wave(points):
    """Fit a + b cos(angle) + c sin(angle) to points (angle, energy); the angle where that is least."""
    angles, energies = np.transpose(points)
    wave = np.column_stack([np.ones_like(angles), np.cos(angles), np.sin(angles)])
    (_, b, c), *_ = np.linalg.lstsq(wave, energies, rcond=None)
    return atan2(-c, -b)


def exact_energy():
    """The answer to compare with: the least eigenvalue of the Hamiltonian, a 4 by 4 matrix."""
    pauli = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Z": np.diag([1, -1])}
    matrix = sum(w * np.kron(pauli[left], pauli[right]) for (left, right), w in HAMILTONIAN.items())
    return np.linalg.eigvalsh(matrix)[0]
