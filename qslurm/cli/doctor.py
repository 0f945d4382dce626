"""`qslurm doctor`: check this host's part of qslurm."""

from __future__ import annotations

import os
from pathlib import Path

import click

from qslurm.cli.output import print_json, print_table
from qslurm.cli.shared_options import c2_config_option, json_option, platform_option


@click.command()
@c2_config_option
@platform_option
@json_option
def doctor(config_file: Path | None, platform: str | None, as_json: bool) -> int:
    """Check this host's part of qslurm, and print how to fix what fails; exit 1 if a check failed.

    On a host with C2's configuration this checks C2's services (run it as root), elsewhere the center's access to C2,
    or to each of its platforms.

    \b
    Examples:
      qslurm doctor
      qslurm doctor --platform tuna
    """
    import msgspec

    from qslurm.doctor.findings import LIMIT_S, Check, Finding, ok, run

    findings: list[Finding]
    if config_file is not None or os.access("/etc/qslurm/c2.toml", os.F_OK):
        from qslurm.c2.config.file import DEFAULT_PATH, load_c2_config
        from qslurm.doctor.c2 import NEEDS, c2_checks

        c2_config = load_c2_config(config_file)
        findings = [
            ok("config", f"{config_file or DEFAULT_PATH} is valid"),
            *run(c2_checks(c2_config), NEEDS, limit_s=LIMIT_S),
        ]
    else:
        from qslurm.c1.config.platforms import load_platforms
        from qslurm.doctor.c1 import c1_checks

        platforms = load_platforms({"platform": platform})
        checks: dict[str, Check] = {}
        for name in platforms.wanted:
            checks |= c1_checks(platforms.config(name))
        findings = run(checks)
    bad = sum(one.state == "fail" for one in findings)
    if as_json:
        print_json({"findings": msgspec.to_builtins(findings), "ok": not bad})
    else:
        print_table(("", "WHAT", "IS", "DO"), [(one.state, one.name, one.what, one.do) for one in findings])
    return 1 if bad else 0
