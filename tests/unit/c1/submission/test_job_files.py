import io
from pathlib import Path

import pytest

from qslurm.c1.submission.job_files import is_circuit, kind_of_text
from qslurm.c1.submission.job_reader import read
from qslurm.errors import InvalidInputError
from qslurm.payload.spec import JobSpec

CIRCUITS = [
    "version 3.0; qubit q",
    "// Bell\n\n/* two\nlines */ version 3",
    "# old\nversion 1.0",
    "OPENQASM 2.0;",
]
OTHERS = [
    "import numpy\n",
    "version = 3\n",
    "#!/bin/bash\nversion 3",
    "",
    "/* never ends",
    "version",
    "# only words",
]


@pytest.mark.parametrize("text", CIRCUITS)
def test_a_circuit_begins_with_its_languages_version(text):
    assert is_circuit(text)
    assert kind_of_text(text) == "circuit"


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_do_not(text):
    assert not is_circuit(text)


def test_what_is_neither_a_circuit_nor_a_script_is_a_hybrid_file():
    assert kind_of_text("#!/bin/sh\nhostname\n") == "script"
    assert kind_of_text("def execute(qi):\n    pass\n") == "hybrid"


def test_a_long_run_of_comments_is_read_at_once():
    assert not is_circuit("//" * 200_000)
    assert not is_circuit(" " * 200_000 + "x")
    assert not is_circuit("# \n" * 100_000)


@pytest.mark.parametrize(
    ("data", "kind", "name"),
    [
        (b"\xef\xbb\xbfversion 3.0; qubit[1] q", "circuit", "circuit.cq"),
        (b"#!/bin/bash\ntrue\n", "script", "script.sh"),
        (b"def execute(qi):\n    pass\n", "hybrid", "hybrid.py"),
        (b'\xef\xbb\xbf\n {"job": {}, "script": ""}', "payload", "payload.json"),
        (b'"job": {}, "script": ""}', "payload", "payload.json"),  # as the paper prints it
        (b'"""{"job": 1}"""\ndef execute(qi):\n    pass\n', "hybrid", "hybrid.py"),
    ],
)
def test_a_job_on_stdin_says_itself_of_what_kind_it_is(data, kind, name, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    request = read(JobSpec(file=Path("-")))
    assert (request.kind, str(request.file)) == (kind, name)
    with pytest.raises(InvalidInputError, match="stdin is empty"):
        read(JobSpec(file=Path("-")))
