"""Run benchmarks, each several times, and print medians compared with peers."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys

import bench
from bench.report import Report


def main() -> int:
    """Run the named benchmarks, or all."""
    known = sorted(
        module.name
        for module in pkgutil.iter_modules(bench.__path__)
        if module.name not in {"__main__", "clusters", "hybrid", "report"}
    )
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"benchmark: {', '.join(known)} (default: all)"
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="number of measurements of each (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; available: {', '.join(known)}")
    report = Report(runs=max(1, options.runs), quiet=options.json)
    for name in options.names or known:
        report.begin(name)
        importlib.import_module(f"bench.{name}").run(report)
    if options.json:
        print(json.dumps(report.document()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
