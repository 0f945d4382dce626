"""Options that a file brings along."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qslurm.c1.config.settings import Config
from qslurm.c1.submission.directives import read_directives
from qslurm.errors import InvalidInputError
from qslurm.payload.envelope import unpack
from qslurm.payload.spec import JobSpec, job_options
from tests.unit.payloads import payload_for

CIRCUIT = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nb = measure q\n"


def said(text: str) -> tuple[dict[str, Any], list[str]]:
    remarks: list[str] = []
    return read_directives(text, "file", remarks.append), remarks


@pytest.mark.parametrize("mark", ["#QSLURM", "// #QSLURM", "//#QSLURM"])
def test_lines_above_the_code_are_options(mark):
    text = f"{mark} --shots 77 -b qx  # a remark\n\n{mark} --job-name 'two words' -H\n{CIRCUIT}"
    assert said(text) == ({"shots": 77, "backend": "qx", "name": "two words", "hold": True}, [])


def test_of_an_option_that_stands_twice_the_last_counts_and_values_add_up():
    text = "#!/bin/bash\n#QSLURM --time 5 --set a=1\n#QSLURM --time=10 --set b=2\n"
    assert said(text)[0] == {"time_limit": "10", "variables": ["a=1", "b=2"]}


def test_a_line_below_the_code_is_not_read_and_that_is_said():
    found, remarks = said("#!/bin/bash\n#QSLURM --time 5\necho\n#QSLURM --time 10\n")
    assert found == {"time_limit": "5"}
    assert remarks == [
        "file:4: this #QSLURM line is ignored; it must precede the first line of code, line 3."
    ]


@pytest.mark.parametrize(
    "line", ["# QSLURM --shots 5", "#QSLURM-DATA {}", "#QSLURMS --shots 5", "echo '#QSLURM -s 5'"]
)
def test_what_only_looks_like_one_is_none(line):
    assert said(f"{line}\n") == ({}, [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--shot 5", "file:2: unknown #QSLURM option '--shot'. Did you mean --shots?"),
        ("--wait", "unknown #QSLURM option '--wait'"),
        ("--token-file x", "unknown #QSLURM option '--token-file'"),
        ("qx", "unknown #QSLURM option 'qx'"),
        ("--shots", "file:2: #QSLURM --shots: expected one argument."),
        ("--shots many", "file:2: #QSLURM --shots: invalid value 'many'."),
        ("--shots 0", "invalid value '0'"),
        ("--qpu-seconds nan", "invalid value 'nan'"),
        ("--seed -1", "--seed"),
        ("--hold=yes", "--hold"),
        ("--job-name 'open", "invalid #QSLURM line: no closing quotation"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(words, expected):
    with pytest.raises(InvalidInputError) as caught:
        said(f"#!/bin/bash\n#QSLURM {words}\n")
    assert expected in str(caught.value)


def test_every_option_of_a_job_can_stand_in_its_file():
    assert set(job_options("file")) == {*job_options("submit"), "platform"}


@pytest.fixture
def circuit(tmp_path):
    file = tmp_path / "bell.cq"
    file.write_text(f"// #QSLURM --shots 77 --time 5 --backend spin2 --comment mine\n{CIRCUIT}")
    return file


def test_the_command_line_wins_over_the_file_and_that_over_the_configuration(circuit):
    config = Config()
    assert unpack(payload_for(config, JobSpec(file=circuit), {})["script"]).shots == 77
    payload = payload_for(config, JobSpec(file=circuit, shots=5, backend="qx"), {})
    assert unpack(payload["script"]).shots == 5
    assert payload["job"]["partition"] == "p_qx"
    assert payload["job"]["time_limit"]["number"] == 5
    assert payload["job"]["comment"].endswith(" -- mine")


def test_a_partition_of_the_command_line_is_not_mixed_with_the_files_backend(circuit):
    payload = payload_for(Config(), JobSpec(file=circuit, partition="p_qx"), {})
    assert "backend=qx" in payload["job"]["comment"]


def test_all_of_sbatchs_options_reach_the_payload(circuit):
    request = JobSpec(
        file=circuit,
        dependency="afterok:12",
        array="0-3%2",
        begin="now+1hour",
        hold=True,
        export="A=1,B",
        qos="high",
    )
    job = payload_for(Config(), request, {"B": "2"})["job"]
    assert (job["dependency"], job["array"], job["hold"], job["qos"]) == ("afterok:12", "0-3%2", True, "high")
    assert job["begin_time"] > 1_700_000_000
    assert job["environment"][-2:] == ["A=1", "B=2"]


@pytest.mark.parametrize(
    "name", ["SLURM_JWT", "SBATCH_PARTITION", "QSLURM_TOKEN", "HQ_ACCESS_KEY", "PBS_JOBCOOKIE"]
)
def test_no_token_and_nothing_of_this_machines_slurm_can_be_exported(name, circuit):
    with pytest.raises(InvalidInputError, match=name):
        payload_for(Config(), JobSpec(file=circuit, export=name), {name: "x"})


def test_a_template_that_would_lose_an_option_is_refused(circuit, tmp_path):
    (tmp_path / "bare.json.j2").write_text(
        '{"job": {"partition": {{ partition }}, "environment": {{ environment }}}, "script": {{ script }}}'
    )
    config = Config(job=Config().job.__class__(template_folders=[str(tmp_path)]))
    with pytest.raises(InvalidInputError, match="leaves out --hold"):
        payload_for(config, JobSpec(file=circuit, template="bare", hold=True), {})


SCRIPT = "#!/bin/bash\n"


@pytest.mark.parametrize(
    "option",
    [name for name, one in job_options("file").items() if one.type == "text" and not one.option.may_be_empty],
)
@pytest.mark.parametrize("said_in", ["file", "command"])
def test_an_empty_text_is_no_option_that_was_not_given(option, said_in, tmp_path):
    field = job_options()[option].field
    file = tmp_path / "job.sh"
    file.write_text(SCRIPT + (f"#QSLURM --{option} ''\n" if said_in == "file" else ""))
    asked = {} if field in ("backend", "partition", "platform") else {"backend": "qx"}
    with pytest.raises(InvalidInputError, match=f"--{option} is empty"):
        payload_for(
            Config(), JobSpec(file=file, **asked, **({field: ""} if said_in == "command" else {})), {}
        )


def test_no_comment_and_no_variables_win_over_those_of_the_file(tmp_path):
    file = tmp_path / "job.sh"
    file.write_text(SCRIPT + "#QSLURM --comment mine --export HOME\n")
    made = payload_for(Config(), JobSpec(file=file, backend="qx", comment="", export=""), {"HOME": "/h"})[
        "job"
    ]
    assert "mine" not in made["comment"]
    assert not any(entry.startswith("HOME=") for entry in made["environment"])


def test_a_zero_of_the_command_line_wins_over_the_files(tmp_path):
    file = tmp_path / "bell.cq"
    file.write_text("// #QSLURM --seed 5 --shots 7\n" + CIRCUIT)
    made = payload_for(Config(), JobSpec(file=file, backend="qx", seed=0), {})
    assert (unpack(made["script"]).seed, unpack(made["script"]).shots) == (0, 7)


BASH = "#!/bin/bash\n"
JOB = {"partition": "p_qx", "environment": ["PATH=/bin"]}


def as_file(form, script, folder):
    """A batch script as a file of its own, or in a payload's: beside the job, or in it."""
    if form == "sh":
        file, text = folder / "job.sh", script
    else:
        file = folder / "job.json"
        payload = {"job": JOB, "script": script} if form == "beside" else {"job": {**JOB, "script": script}}
        text = json.dumps(payload)
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize("form", ["sh", "beside", "inside"])
def test_sbatch_lines_are_remarked_upon_wherever_a_script_stands(form, tmp_path):
    file = as_file(form, f"{BASH}#SBATCH --time 5\necho\n", tmp_path)
    remarks: list[str] = []
    payload_for(Config(), JobSpec(file=file, backend="qx"), {}, remarks.append)
    assert len(remarks) == 1
    assert "does not read its #SBATCH" in remarks[0]


@pytest.mark.parametrize("form", ["sh", "beside", "inside"])
@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("#!/bin/bash\r\ntrue\r\n", 1),
        (BASH + "true\r\nfalse\n", 2),
        (BASH + "true\nfalse\r", 3),
        (BASH + "true\n\r\n", 3),
        ("#!/bin/bash\rtrue\r", 1),
    ],
)
def test_line_ends_of_windows_are_refused_wherever_a_script_stands(form, script, line, tmp_path):
    with pytest.raises(InvalidInputError, match=rf"job\.sh:{line}: |script: line {line} ends"):
        payload_for(Config(), JobSpec(file=as_file(form, script, tmp_path), backend="qx"), {})


@pytest.mark.parametrize("form", ["sh", "beside", "inside"])
def test_a_carriage_return_within_a_line_is_its_writers_own(form, tmp_path):
    payload_for(Config(), JobSpec(file=as_file(form, BASH + "echo 'a\rb'\n", tmp_path), backend="qx"), {})


@pytest.mark.parametrize("text", ["version 3.0\r\nqubit q\r\nbit b\r\nb = measure q\r\n"])
def test_circuits_may_have_line_ends_of_windows(text, tmp_path):
    file = tmp_path / "bell.cq"
    file.write_bytes(text.encode())
    payload_for(Config(), JobSpec(file=file, backend="qx"), {})


def test_a_folder_that_a_payload_does_not_get_is_remarked_upon(tmp_path):
    file = tmp_path / "job.json"
    job = {
        "name": "x",
        "partition": "p_qx",
        "current_working_directory": "/scratch/ann",
        "environment": ["PATH=/bin"],
    }
    file.write_text(json.dumps({"job": job, "script": "#!/bin/bash\n"}))
    remarks: list[str] = []
    payload_for(Config(), JobSpec(file=file), {}, remarks.append)
    assert "C2 ignores current_working_directory" in remarks[0]
