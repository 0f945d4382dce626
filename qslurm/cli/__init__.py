"""The `qslurm` program: thin commands that parse, call, and print."""

from __future__ import annotations


def main() -> None:
    """Run `qslurm` with the process's arguments, and exit with the contract's code."""
    import sys

    try:
        from qslurm.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while it was being imported
        code = 128 + 2
    sys.exit(code)
