"""`scripts/testbed`: start, stop and inspect a testbed."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from testbed.errors import TestbedError
from testbed.instance import Testbed
from testbed.releases import RELEASES, check


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/testbed",
        description="Two real Slurm clusters on this host: C1, a center, and C2, beside a quantum platform.",
        epilog="All files are below .state in the checkout.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="default", help="instance (default: %(default)s)")
    which = common.add_mutually_exclusive_group()
    which.add_argument(
        "--slurm",
        choices=tuple(RELEASES),
        help="Slurm release of C2; newer ones are downloaded once (default: as before, at first the host's)",
    )
    which.add_argument(
        "--slurm-prefix",
        dest="slurm",
        type=os.path.abspath,
        metavar="DIR",
        help="folder of C2's installed Slurm (its configure's --prefix)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", parents=[common], help="start the clusters, or daemons that do not run")
    up.add_argument(
        "--only", action="append", metavar="DAEMON", help="start only this daemon and those that it needs"
    )
    commands.add_parser("down", parents=[common], help="stop everything")
    status = commands.add_parser(
        "status", parents=[common], help="show the daemons; exit code 1 if one is not running"
    )
    status.add_argument("--json", action="store_true", help="print one JSON document")
    env = commands.add_parser(
        "env",
        parents=[common],
        help='print variables for a shell: eval "$(scripts/testbed env)", then sbatch, qslurm …',
    )
    env.add_argument("--c2", action="store_true", help="for C2 (default: for C1)")
    for name, text in (
        ("restart", "stop a daemon and start it"),
        ("kill", "SIGKILL a daemon, as a crash would"),
    ):
        one = commands.add_parser(name, parents=[common], help=text)
        one.add_argument("daemon", help="name, as in `status`")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        say = partial(print, " ", flush=True)
        return _run(_testbed(options, say), options)
    except (TestbedError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Continue with `scripts/testbed up`, or run `scripts/testbed down`.",
            file=sys.stderr,
        )
        return 130


def _testbed(options: argparse.Namespace, say: Callable[[str], None]) -> Testbed:
    """The instance; only `up` may change its release."""
    if options.command == "up":
        return Testbed(options.name, say=say, slurm=options.slurm)
    testbed = Testbed(options.name, say=say)
    if options.slurm and check(options.slurm) != testbed.layout.slurm:
        raise TestbedError(
            f"Testbed {testbed.name!r} runs Slurm {testbed.layout.slurm}. Change it with `up --slurm`."
        )
    return testbed


def _run(testbed: Testbed, options: argparse.Namespace) -> int:
    began = time.monotonic()
    match options.command:
        case "up":
            testbed.up(options.only)
            seconds = time.monotonic() - began
            print(f"{testbed.name} is up after {seconds:.1f} s: {testbed.rest_url}, {testbed.folder}")
        case "down":
            testbed.down()
            print(f"{testbed.name} is down after {time.monotonic() - began:.1f} s")
        case "restart":
            testbed.restart(options.daemon)
        case "kill":
            testbed.kill(options.daemon)
        case "env":
            _print_environment(testbed, c2=options.c2)
        case "status":
            return _print_status(testbed, as_json=options.json)
    return 0


def _print_environment(testbed: Testbed, *, c2: bool) -> None:
    """Print the variables that select the cluster; user and home stay unchanged."""
    environment = testbed.env_c2() if c2 else testbed.env_c1()
    for name in ("SLURM_CONF", "QSLURM_CONFIG", "QSLURM_C2_CONFIG"):
        if name in environment:
            print(f"export {name}={shlex.quote(environment[name])}")
        else:
            print(f"unset {name}")
    folders = [testbed.layout.programs]
    if c2 and testbed.layout.has_own_slurm("c2"):
        folders.append(testbed.layout.slurm_programs)
    print(f'export PATH={shlex.quote(":".join(map(str, folders)))}:"$PATH"')


def _print_status(testbed: Testbed, *, as_json: bool) -> int:
    daemons = testbed.status()
    healthy = bool(daemons) and all(one.state == "running" for one in daemons)
    if as_json:
        report = {
            "name": testbed.name,
            "up": healthy,
            "folder": str(testbed.folder),
            "slurm": testbed.layout.slurm,
            "ports": dict(testbed.ports),
            "daemons": [asdict(one) for one in daemons],
        }
        print(json.dumps(report))
    elif not daemons:
        print(f"Testbed {testbed.name!r} was never started.")
    else:
        for one in daemons:
            print(f"{one.name:14} {one.state:8} {one.pid or '':>8} {_age(one.seconds):>8}  {one.log}")
    return 0 if healthy else 1


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.0f} s"


if __name__ == "__main__":
    raise SystemExit(main())
