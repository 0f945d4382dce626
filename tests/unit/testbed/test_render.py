from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from testbed import TestbedError
from testbed.render import defaults, main, merged, render, setting, templates


def test_every_template_can_be_rendered_with_the_defaults() -> None:
    names = templates()
    assert "c2/qslurm.conf.j2" in names
    for name in names:
        assert "{{" not in render(name, defaults())


def test_every_variable_is_used_by_a_template() -> None:
    sources = "".join(Path("deploy", name).read_text() for name in templates())
    for table, values in defaults().items():
        one = values[0] if isinstance(values, list) else values
        prefix = "one" if isinstance(values, list) else table
        assert [name for name in one if f"{prefix}.{name}" not in sources] == []


def test_c2_toml_is_what_the_services_read() -> None:
    from qslurm.c2.config.file import parse_c2_config

    config = parse_c2_config(render("c2/c2.toml.j2", defaults()))
    assert [backend.name for backend in config.backend] == ["qx"]
    assert config.slurm.conf == "/etc/slurm/slurm.conf"


UNITS = [name for name in templates() if name.endswith(".service.j2")]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_restarts_without_a_limit_and_leaves_no_core(name: str) -> None:
    """A core of a service has its tokens and keys in it; a service that stays down stops every center's jobs."""
    lines = render(name, defaults()).splitlines()
    assert "LimitCORE=0" in lines
    if "Type=oneshot" not in lines:
        assert {"StartLimitIntervalSec=0", "Restart=on-failure", "RestartSec=1"} <= set(lines)
    jobs_are_its_children = (
        "qslurm-runtimes" in name
    )  # a limit of memory would be one for all jobs of the node
    assert any(line.startswith("MemoryMax=") for line in lines) is not jobs_are_its_children


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_knows_every_word_of_a_unit(name: str, tmp_path: Path) -> None:
    python = {"python": sys.executable}
    unit = tmp_path / Path(name).name.removesuffix(".j2")
    unit.write_text(render(name, merged(defaults(), {"qslurm": python, "center": python})))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [
        line for line in done.stderr.splitlines() if unit.name in line and "is not executable" not in line
    ] == []


def test_nginx_passes_on_each_version_that_the_client_speaks_and_no_other() -> None:
    from qslurm.slurm.rest.adapters import ADAPTERS

    text = render("c2/nginx.conf.j2", defaults()).replace(r"\z", r"\Z")  # PCRE's words in Python's
    rules = re.findall(r'"~(\^\S.*)" 1;', text)
    every_version = [f"v0.0.{number}" for number in range(30, 60)]

    def passed(request: str) -> set[str]:
        return {one for one in every_version if any(re.match(rule, request.format(one)) for rule in rules)}

    for request in (
        "GET /slurm/slurm/{}/ping",
        "POST /slurm/slurm/{}/job/submit",
        "GET /slurm/slurmdb/{}/jobs",
    ):
        assert passed(request) == set(ADAPTERS)
    for request in (
        "DELETE /slurm/slurmdb/{}/qos/normal",
        "GET /slurm/slurm/{}/nodes",
        "PUT /slurm/slurm/{}/ping",
    ):
        assert passed(request) == set()


def test_hooks_outlive_the_services_they_wait_for() -> None:
    """PrologEpilogTimeout must leave time for the dispatcher's answer and Slurm's own commands."""
    values = defaults()
    assert values["c2"]["hook_timeout_s"] >= values["qslurm"]["admit_timeout_s"] + 10


def test_each_backend_has_a_partition_that_is_down() -> None:
    values = merged(defaults(), {"backend": [{"name": "qx"}, {"name": "tuna5", "qubits": 5}]})
    lines = render("c2/qslurm.conf.j2", values).splitlines()
    partitions = [line for line in lines if line.startswith("PartitionName=")]
    assert [line.split()[0] for line in partitions] == ["PartitionName=p_qx", "PartitionName=p_tuna5"]
    assert all(line.endswith("State=DOWN") for line in partitions)


@pytest.mark.parametrize(
    "changes", [{"c3": {}}, {"c2": {"hots": "head1"}}, {"backend": [{"name": "qx", "qbits": 2}]}]
)
def test_an_unknown_variable_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TestbedError, match=r"variables\.toml"):
        merged(defaults(), changes)


def test_a_variable_that_is_missing_is_refused() -> None:
    values = defaults()
    del values["c2"]["host"]
    with pytest.raises(TestbedError, match="host"):
        render("c2/slurm.conf.j2", values)


def test_a_value_can_not_become_a_line_of_its_own() -> None:
    values = merged(defaults(), {"c2": {"cluster": "qi\nSlurmUser=root"}})
    with pytest.raises(TestbedError, match="line break"):
        render("c2/slurm.conf.j2", values)


def test_hooks_quote_what_they_are_given() -> None:
    values = merged(defaults(), {"qslurm": {"python": "/opt/my tools/python"}})
    assert "exec '/opt/my tools/python' -I -m qslurm hook prolog" in render(
        "c2/hooks/prolog-slurmctld.j2", values
    )


@pytest.mark.parametrize(
    "hook", ["prolog-slurmctld", "epilog-slurmctld", "task-prolog", "task-epilog", "qslurm-step"]
)
def test_hooks_are_shell_scripts(hook: str) -> None:
    text = render(f"c2/hooks/{hook}.j2", defaults())
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_are_toml_or_a_plain_word() -> None:
    assert setting("c2.cpus=8") == {"c2": {"cpus": 8}}
    assert setting("c2.cgroups=false") == {"c2": {"cgroups": False}}
    assert setting("c2.host=head1") == {"c2": {"host": "head1"}}
    with pytest.raises(TestbedError, match="host=head1"):
        setting("host=head1")


def test_the_program_writes_every_file(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[c2]\ncluster = "delft"\n')
    assert main(["--set-file", str(site), "--set", "c2.host=head1", str(tmp_path / "out")]) == 0
    files = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert files == {name.removesuffix(".j2") for name in templates()}
    assert "ClusterName=delft\nSlurmctldHost=head1(" in (tmp_path / "out/c2/slurm.conf").read_text()
    assert os.access(tmp_path / "out/c2/hooks/prolog-slurmctld", os.X_OK)
    assert (tmp_path / "out/c2/slurmdbd.conf").stat().st_mode & 0o777 == 0o600


def test_the_program_refuses_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "c2.hots=head1", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: Unknown hots in [c2] of deploy/variables.toml.\n"


def test_c1s_configuration_is_toml() -> None:
    assert tomllib.loads(render("c1/config.toml.j2", defaults()))["c2"]["user"] == "center_snellius"


@pytest.mark.parametrize(
    ("unit", "own"),
    [
        ("qslurm-agent{}.service", {"ExecStart", "RuntimeDirectory", "StateDirectory"}),
        ("qslurm-releaser{}.service", {"ExecStart"}),
        ("qslurm-token-renew{}.service", {"ExecStart"}),
        ("qslurm-token-renew{}.timer", set()),
    ],
)
def test_what_a_center_runs_can_be_run_for_each_platform(unit: str, own: set[str]) -> None:
    one, each = (render(f"c1/systemd/{unit.format(kind)}.j2", defaults()) for kind in ("", "@"))
    changed = set(each.splitlines()) - set(one.splitlines())
    assert {line.partition("=")[0] for line in changed} == {"Description", *own}
    assert all("%i" in line for line in changed)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize("unit", ["qslurm-dispatcher", "qslurm-gate", "qslurm-jobmanager", "slurmrestd"])
def test_units_are_what_systemd_takes(unit: str, tmp_path: Path) -> None:
    values = merged(
        defaults(), {"qslurm": {"python": "/usr/bin/python3", "user": "root", "slurm_user": "root"}}
    )
    values = merged(values, {"c2": {"slurmrestd_user": "root"}})
    file = tmp_path / f"{unit}.service"
    text = render(f"c2/systemd/{unit}.service.j2", values).replace("/usr/sbin/slurmrestd", "/bin/true")
    file.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False
    )
    assert unit not in done.stderr, done.stderr


def test_a_backend_s_options_reach_its_runtime_as_they_were_given() -> None:
    from qslurm.c2.config.file import parse_c2_config

    given = {"host": "qpu1", "missed_heartbeats": 4, "heartbeat_s": 0.5, "exclusive": False}
    values = merged(defaults(), {"backend": [{"name": "spin2", "runtime": "hardware", "options": given}]})
    (backend,) = parse_c2_config(render("c2/c2.toml.j2", values)).backend
    assert backend.options == given


def test_c2_knows_by_heart_what_qslurm_makes_and_who_may_send_what() -> None:
    from qslurm.c2.config.file import parse_c2_config
    from qslurm.payload.handover import SHIPPED

    values = merged(defaults(), {"qslurm": {"center_kinds": {"lumi": ["script"]}}})
    plugin = render("c2/job_submit.lua.j2", values)
    assert all(f"[==[\n{text}]==]" in plugin for text in SHIPPED)
    assert '["lumi"] = { script = true, }' in plugin
    config = parse_c2_config(render("c2/c2.toml.j2", values))
    assert (config.kinds_of("lumi"), config.kinds_of("else")) == (
        ["script"],
        ["circuit", "hybrid", "session"],
    )
    assert f'STEP = "{config.runtimes.step}"' in plugin


HOSTILE = {
    "PATH": "{mine}",
    "ENV": "{mine}/run",
    "BASH_ENV": "{mine}/run",
    "BASH_FUNC_exec%%": "() {{ . {mine}/run; }}",
    "BASH_FUNC_echo%%": "() {{ . {mine}/run; }}",
    "SHELLOPTS": "xtrace",
    "PS4": "$(. {mine}/run)",
    "PYTHONPATH": "{mine}",
    "PYTHONSTARTUP": "{mine}/run",
    "OPENSSL_CONF": "{mine}/none",
    "QSLURM_SWEEP": "0:LD_PRELOAD={mine}/run theta=1",
    "SLURM_ARRAY_TASK_ID": "0",
    "SLURM_JOB_PARTITION": "p_qx",
}


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("hook", ["task-prolog", "task-epilog", "qslurm-step"])
def test_what_begins_as_the_jobs_user_runs_nothing_that_the_environment_names(
    tmp_path: Path, hook: str, shell: str
) -> None:
    mine, python, seen = tmp_path / "mine", tmp_path / "python", tmp_path / "seen"
    mine.mkdir()
    for name in ("run", "sed", "tr", "env", "printf", "[", "exec"):
        (mine / name).write_text(f"touch {tmp_path}/ran\n")
        (mine / name).chmod(0o755)
    python.write_text(f'#!/bin/sh -p\necho "$*" >{seen}\n/usr/bin/env >>{seen}\n')
    python.chmod(0o755)
    values = merged(defaults(), {"qslurm": {"python": str(python), "runtimes_socket": f"{tmp_path}/none/s"}})
    file = tmp_path / hook
    file.write_text(render(f"c2/hooks/{hook}.j2", values))
    options = file.read_text().splitlines()[0].split()[1:]
    environment = {name: value.format(mine=mine) for name, value in HOSTILE.items()}
    command = [shutil.which(shell), *options, file, "job.sh", "--failed", "--script"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert not (tmp_path / "ran").exists()
    assert "LD_" not in done.stdout
    asked, *variables = seen.read_text().splitlines()
    assert not [one for one in variables if one.startswith("OPENSSL_")]
    assert asked.split()[-1] == ("job.sh" if hook == "qslurm-step" else "/etc/qslurm/c2.toml")
