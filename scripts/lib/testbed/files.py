"""Renders deploy/ with the testbed's values, so that the tests cover what an operator installs."""

from __future__ import annotations

import secrets
import socket
import subprocess
from pathlib import Path
from typing import Any

from testbed import releases, users
from testbed.layout import Layout, write
from testbed.render import Variables, defaults, merged, render
from testbed.saved_state import SavedState

LOOPBACK = "127.0.0.1"
BACKENDS: tuple[dict[str, Any], ...] = (
    {"name": "qx", "runtime": "qx", "qubits": 26, "workers": 1},
    {"name": "spin2", "runtime": "qx", "qubits": 2, "workers": 1},
)
"""Both are emulated: `spin2` stands for the two-qubit chip of that name."""

CENTER = "snellius"
"""The center whose cluster C1 is."""

NO_CGROUPS = """\
# No plugin here uses cgroups, and slurmd must not look for them either: left to itself it takes cgroup/v2 where
# /sys/fs/cgroup is one, asks systemd for a scope, and leaves a process in it; without systemd it does not start.
# This plugin does nothing until it is used. Slurm has no `disabled` before 23.11.
CgroupPlugin=cgroup/v1
"""
NO_CGROUPS_NEWER = "CgroupPlugin=disabled\n"


def values(layout: Layout, saved: SavedState) -> Variables:
    """deploy/variables.toml with the testbed's changes."""
    ports = saved.ports
    host = socket.gethostname().partition(".")[0]
    cluster = {
        "host": host,
        "address": LOOPBACK,
        "node_host": host,
        "node_address": LOOPBACK,
        "cpus": 16,
        "real_memory_mb": _memory_mb(),
        "config_overrides": True,
        "cgroups": False,
        "kill_wait_s": 2,
    }
    changes: dict[str, Any] = {
        "c1": cluster | _of_cluster(layout, saved, "c1"),
        "c2": cluster
        | _of_cluster(layout, saved, "c2")
        | {
            "slurmdbd_host": host,
            "slurmdbd_address": LOOPBACK,
            "slurmdbd_port": ports["c2_slurmdbd"],
            "slurmrestd_listen": f"{LOOPBACK}:{ports['c2_slurmrestd']}",
            "slurmrestd_user": users.REST,
            "conf": str(layout.c2_conf.parent),
            "home": str(layout.work),
            "plugins": str(layout.slurm_programs / "plugins") if layout.has_own_slurm("c2") else "",
        },
        "database": {
            "host": LOOPBACK,
            "port": ports["database"],
            "password": saved.password,
            "name": layout.database_name,
        },
        "qslurm": {
            "python": str(layout.python),
            "config": str(layout.c2_qslurm),
            "hooks": str(layout.hooks),
            "slurm_bin": str(layout.slurm_program("c2", "scontrol").parent),
            "socket": str(layout.dispatcher_socket),
            "store": str(layout.store),
            "gate_state": str(layout.gate),
            "runtimes_socket": str(layout.runtimes_socket),
            # stories count in a file how often a script has run
            "confine_scripts": False,
            "center_kinds": {center: ["circuit", "hybrid", "script", "session"] for center in users.CENTERS},
            "confine": "always" if _can_confine() else "never",
            "forgotten_s": 30,
            "job_memory_mb": 1000,  # small, so that it takes no time to reach them
            "job_file_mb": 200,
            "job_tmp_mb": 500,
            "feed": str(layout.feed_socket),
            "jobmanager_listen": f"{LOOPBACK}:{ports['jobmanager']}",
            "compute": str(layout.store.with_name("compute.db")),
            "proxy": "",  # none, but in the stories about it
            "jobmanager_url": f"http://{LOOPBACK}:{ports['jobmanager']}",
            "slurmrestd_url": f"http://{LOOPBACK}:{ports['c2_slurmrestd']}",
            "sessions_listen": f"{LOOPBACK}:{ports['sessions']}",
            "sessions_key": str(layout.store.with_name("sessions.key")),
            "metrics_listen": f"{LOOPBACK}:{ports['metrics']}",
            "logs": str(layout.job_logs),
            "private_keys": str(layout.keys),
            "jwks": str(layout.jwks),
            "tokens_user": users.TOKENS,
            "tokens_socket": str(layout.tokens_socket),
        },
        "backend": list(BACKENDS),
        "center": {
            "c2_url": f"http://{LOOPBACK}:{ports['c2_slurmrestd']}",
            "results_url": f"http://{LOOPBACK}:{ports['jobmanager']}",
            "user": f"center_{CENTER}",
            "token_file": str(layout.token),
            "python": str(layout.python),
            "config": str(layout.c1_qslurm),
            "agent_socket": "",  # researchers have a token of their own here, unless a story says otherwise
            "agent_address": "",
            "agent_user": users.AGENT,
            "agent_state": str(layout.agent_state),
            "releaser_user": users.SLURM,
        },
    }
    return merged(defaults(), changes)


def agents_values(variables: Variables, layout: Layout, saved: SavedState) -> Variables:
    """The values of a center with an agent, which alone reads the token."""
    center = {
        "token_file": str(layout.agent_token),
        "config": str(layout.agent_config),
        "agent_socket": str(layout.agent_socket),
        "agent_address": f"{LOOPBACK}:{saved.ports['agent']}",
    }
    return merged(variables, {"center": center})


def _of_cluster(layout: Layout, saved: SavedState, name: str) -> dict[str, Any]:
    return {
        "slurmctld_port": saved.ports[f"{name}_slurmctld"],
        "slurmd_port": saved.ports[f"{name}_slurmd"],
        "munge_socket": str(layout.munge_socket(name)),
        "state": str(layout.slurm_state(name)),
        "spool": str(layout.spool(name)),
        "log": str(layout.logs / name),
        "run": str(layout.run / name),  # a folder each: slurmctld ends the one its pid file names
    }


def _can_confine() -> bool:
    """In some containers nobody can make namespaces; there the operator of this C2 says that jobs are not confined."""
    command = ("unshare", "--mount", "--pid", "--net", "--fork", "true")
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def _memory_mb() -> int:
    """The memory of a node in the configuration: slurmd refuses more than the host has."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    total_kb = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    return min(8000, total_kb * 9 // 10 // 1024)


def write_all(layout: Layout, saved: SavedState, variables: Variables) -> None:
    """Write every configuration file, key and wrapper."""
    plain = {
        "c1/slurm.conf.j2": layout.c1_conf,
        "c1/config.toml.j2": layout.c1_qslurm,
        "c2/slurm.conf.j2": layout.c2_conf,
        "c2/qslurm.conf.j2": layout.c2_conf.with_name("qslurm.conf"),
        "c2/job_submit.lua.j2": layout.c2_conf.with_name("job_submit.lua"),
        "c2/c2.toml.j2": layout.c2_qslurm,
    }
    for template, target in plain.items():
        write(target, render(template, variables))
    write(layout.agent_config, render("c1/config.toml.j2", agents_values(variables, layout, saved)))
    for hook in ("prolog-slurmctld", "epilog-slurmctld", "task-prolog", "task-epilog", "qslurm-step"):
        write(layout.hooks / hook, render(f"c2/hooks/{hook}.j2", variables), mode=0o755)
    for cluster, conf in (("c1", layout.c1_conf), ("c2", layout.c2_conf)):
        newer = layout.has_own_slurm(cluster) and releases.version(layout) >= (23, 11)
        text = NO_CGROUPS_NEWER if newer else NO_CGROUPS
        write(conf.with_name("cgroup.conf"), text)
    slurmdbd = layout.c2_conf.with_name("slurmdbd.conf")
    write(slurmdbd, render("c2/slurmdbd.conf.j2", variables), mode=0o600, user=users.SLURM, group=users.SLURM)
    # not the console script: its first line names a path that job users may not be able to reach
    write(layout.programs / "qslurm", f'#!/bin/sh\nexec {layout.python} -I -m qslurm "$@"\n', mode=0o755)
    for cluster in ("c1", "c2"):
        key = layout.munge_key(cluster)
        if not key.exists():
            write(key, secrets.token_hex(64), mode=0o400, user=users.MUNGE, group=users.MUNGE)
