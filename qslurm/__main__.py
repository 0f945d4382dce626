"""`python -m qslurm` is `qslurm`."""

from qslurm.cli import main

if __name__ == "__main__":
    main()
