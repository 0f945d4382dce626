"""A sweep from the command line to the payload."""

from __future__ import annotations

import pytest

from qslurm.c1.config.settings import Config
from qslurm.errors import CircuitError, InvalidInputError
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import unpack
from qslurm.payload.spec import JobSpec
from tests.unit.payloads import payload_for

RABI = "version 3.0\nqubit q\nbit b\nRx({{ theta }}) q\nb = measure q\n"
HYBRID = "def execute(qi):\n    print(qi.parameters)\ndef finalize(results):\n    return {}\n"


@pytest.fixture
def prepared(tmp_path):
    def prepare_text(text, name="rabi.cq", **options):
        file = tmp_path / name
        file.write_text(text)
        return payload_for(Config(), JobSpec(file=file, backend="qx", **options), {})

    return prepare_text


def test_a_sweep_is_one_array_job_that_knows_the_values_of_its_tasks(prepared):
    payload = prepared(RABI, sweep=("theta=0:3:1",), comment="mine")
    assert payload["job"]["array"] == "0-3"
    assert Comment.parse(payload["job"]["comment"]).sweep == "theta:0:3:1"
    envelope = unpack(payload["script"])
    assert [envelope.of_task(index).source.splitlines()[3] for index in (0, 3)] == ["Rx(0) q", "Rx(3) q"]


@pytest.mark.parametrize(("array", "sent"), [("1,3", "1,3"), ("0-2%1", "0-2%1"), ("%2", "0-3%2")])
def test_an_array_beside_a_sweep_says_which_tasks_and_how_many_at_once(array, sent, prepared):
    assert prepared(RABI, sweep=("theta=0:3:1",), array=array)["job"]["array"] == sent


def test_a_value_for_all_tasks_is_filled_in_on_c1(prepared):
    text = RABI.replace("Rx({{ theta }})", "Rx({{ theta }}) q\nRz({{ phi }})")
    envelope = unpack(prepared(text, sweep=("theta=1,2",), variables={"phi": "0.5"})["script"])
    assert "Rz(0.5)" in envelope.source
    assert "{{ theta }}" in envelope.source
    assert unpack(prepared(RABI, variables={"theta": "0.5"})["script"]).parameters == {"theta": "0.5"}


def test_directives_can_sweep(prepared):
    payload = prepared("// #QSLURM --sweep theta=1,2,3 --array %1\n" + RABI)
    assert payload["job"]["array"] == "0-2%1"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"rabi\.cq:4: \{\{ theta \}\} has no value"),
        ({"sweep": ("phi=1,2",)}, r"has no \{\{ phi \}\}"),
        ({"sweep": ("theta=1,2",), "array": "0-9"}, "goes beyond the sweep"),
        ({"sweep": ("theta=soon:later",)}, "is not a number"),
        ({"variables": {"theta": "1", "tehta": "2"}}, "has no variable 'tehta'"),
        ({"sweep": tuple(f"theta={','.join(['0.123456'] * 200)}" for _ in "x")}, "comment"),
    ],
)
def test_a_sweep_that_can_not_be_meant_never_leaves(options, words, prepared):
    with pytest.raises(InvalidInputError, match=words):
        prepared(RABI, **options)


def test_every_tasks_circuit_is_checked_and_the_wrong_value_named(prepared):
    with pytest.raises(CircuitError, match=r"rabi\.cq:4:.*with theta=nonsense"):
        prepared(RABI, sweep=("theta=1,pi,nonsense",))


def test_openqasm_is_filled_in_only_where_it_is_translated(prepared):
    pytest.importorskip("qiskit")
    text = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nrx({{ theta }}) q[0];\nmeasure q -> c;\n'
    assert "0.5" in unpack(prepared(text, name="a.qasm", variables={"theta": "0.5"})["script"]).source
    with pytest.raises(InvalidInputError, match="OpenQASM"):
        prepared(text, name="a.qasm", sweep=("theta=1,2",))


def test_a_hybrid_file_has_the_values_as_parameters(prepared):
    payload = prepared(HYBRID, name="a.py", sweep=("theta=0.5,x",), variables={"steps": "3"})
    assert unpack(payload["script"]).of_task(1).parameters == {"steps": "3", "theta": "x"}


def test_a_batch_script_has_them_in_its_environment(prepared):
    payload = prepared(
        "#!/bin/bash\necho $theta\n", name="a.sh", sweep=("theta=0.5,1", "phi=a,b"), array="1-2"
    )
    assert payload["job"]["environment"][-1] == "QSLURM_SWEEP=1:theta=0.5 phi=b;2:theta=1 phi=a;"
    assert payload["script"].startswith("#!/bin/bash\necho")
