"""Programs in cQASM 1.0. A plug-in, which qslurm.circuits.check loads for the first circuit with `version 1`."""
