"""Record slurmrestd's responses into tests/recorded."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from testbed import Testbed, TestbedError
from testbed.layout import CHECKOUT
from testbed.releases import RELEASES

from qslurm.slurm.rest.adapters import ADAPTERS, parse_version
from recording.exchanges import Recorder, serves
from recording.story import tell

RECORDED = CHECKOUT / "tests" / "recorded"


def main() -> int:
    """Start a testbed, record the given API versions (default: all that it serves), and stop it."""
    parser = argparse.ArgumentParser(prog="scripts/record", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--slurm", choices=tuple(RELEASES), help="Slurm release of C2")
    which.add_argument(
        "--slurm-prefix",
        dest="slurm",
        type=os.path.abspath,
        metavar="DIR",
        help="folder of C2's installed Slurm",
    )
    parser.add_argument("--name", default="record", help="the testbed's name (default: %(default)s)")
    parser.add_argument("--into", type=Path, default=RECORDED, help="target folder (default: tests/recorded)")
    parser.add_argument(
        "version", nargs="*", type=parse_version, help="API versions (default: all it serves)"
    )
    options = parser.parse_args()
    try:
        with Testbed(options.name, slurm=options.slurm) as testbed:
            for version in options.version or [one for one in reversed(ADAPTERS) if serves(testbed, one)]:
                recorder = Recorder(testbed, version, options.into / version)
                tell(recorder)
                print(f"{version}: {recorder.count} exchanges")
    except TestbedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
