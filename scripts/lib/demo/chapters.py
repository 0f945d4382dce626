"""The demo's three jobs: their sbatch scripts and their expected results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXACT_ENERGY_HA = -1.8573
"""Electronic ground state energy of H2 at 0.735 Å, parity mapped to two qubits."""

ENERGY_TOLERANCE_HA = 0.03


@dataclass(frozen=True)
class Chapter:
    """One job: its name, title, example file, and further options of `qslurm submit`."""

    name: str
    title: str
    example: str
    options: str = ""
    held: bool = False
    """Whether the operator drains the partition before the job is submitted."""

    def sbatch_script(self, output: Path) -> str:
        """The script that the researcher submits on C1."""
        return "\n".join(
            [
                "#!/bin/bash",
                f"#SBATCH --job-name={self.name}",
                f"#SBATCH --output={output}",
                "#SBATCH --time=10",
                "set -e",
                f"jobid=$(qslurm submit {self.example} --backend qx{self.options} --parsable)",
                'echo "C2 job $jobid"',
                "qslurm wait $jobid --json > /dev/null",
                "qslurm results $jobid --json",
                "",
            ]
        )


CHAPTERS = (
    Chapter("bell", "A Bell circuit, straight to the quantum runtime", "bell.cq", " --shots 1024"),
    Chapter(
        "vqe", "A hybrid job: scipy searches the ground state of H2 with circuits on the backend", "vqe_h2.py"
    ),
    Chapter(
        "held",
        "A job that C2 accepts while p_qx is drained, and runs when it is enabled",
        "bell.cq",
        " --shots 1024",
        held=True,
    ),
)


def why_wrong(chapter: Chapter, results: dict[str, object]) -> str | None:
    """What is wrong with a job's results; None if they are as they must be."""
    if chapter.example.endswith(".py"):
        final_result = results.get("final_result")
        energy = final_result.get("energy") if isinstance(final_result, dict) else None
        if not isinstance(energy, int | float):
            return f"there is no energy in {final_result!r}"
        if abs(energy - EXACT_ENERGY_HA) > ENERGY_TOLERANCE_HA:
            return f"the energy {energy:.4f} Ha is not within {ENERGY_TOLERANCE_HA} of {EXACT_ENERGY_HA}"
        return None
    counts = results.get("counts")
    if not isinstance(counts, dict) or set(counts) != {"00", "11"} or sum(counts.values()) != 1024:
        return f"a Bell pair measures 00 and 11, 1024 times in all, not {counts!r}"
    if not all(400 <= count <= 624 for count in counts.values()):  # seven standard deviations
        return f"a Bell pair measures 00 and 11 equally often, not {counts!r}"
    return None
