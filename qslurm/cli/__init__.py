"""The `qslurm` program: thin commands that parse, call, and print."""

from __future__ import annotations


def main() -> None:
    """Run `qslurm` with the process's arguments, and exit with the contract's code."""
    import sys

    from qslurm.cli.app import run

    sys.exit(run(sys.argv[1:]))
