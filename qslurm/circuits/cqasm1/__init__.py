"""Programs in cQASM 1.0. A plug-in: qslurm.circuits.check loads it at the first circuit that says `version 1`."""
