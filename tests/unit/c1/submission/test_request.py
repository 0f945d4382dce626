import io
import json
import re
from pathlib import Path

import pytest

from qslurm.c1.config.settings import Config, JobSettings
from qslurm.c1.sessions.opening import SessionOptions
from qslurm.c1.sessions.opening import batch_of as prepare_session
from qslurm.c1.submission.job_reader import read, unused_options
from qslurm.errors import CircuitError, InvalidInputError
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import unpack
from qslurm.payload.spec import JobSpec
from qslurm.payload.templates import shipped_folder
from tests.unit.payloads import payload_for

EXAMPLES = shipped_folder() / "examples"
IN_A_JOB = {
    "SLURM_JOB_ID": "77",
    "SLURM_CLUSTER_NAME": "snellius",
    "SLURM_JOB_USER": "ann",
    "SLURM_JWT": "secret",
}


def payload_of(name, **options):
    return payload_for(Config(), JobSpec(file=EXAMPLES / name, **options), IN_A_JOB)


def test_a_circuit_travels_in_its_batch_script_with_all_that_was_asked():
    payload = payload_of("bell.cq", backend="spin2", shots=77, seed=3, time_limit="5:00")
    assert payload["job"]["partition"] == "p_spin2"
    envelope = unpack(payload["script"])
    assert (envelope.kind, envelope.shots, envelope.seed) == ("circuit", 77, 3)
    assert envelope.source == (EXAMPLES / "bell.cq").read_text()


def test_the_comment_says_whose_job_it_was_and_nothing_else_of_the_center_goes_along():
    payload = payload_of("vqe_h2.py", backend="qx")
    said = Comment.parse(payload["job"]["comment"])
    assert (said.kind, said.backend, said.origin) == ("hybrid", "qx", "slurm:snellius:77:ann")
    assert "secret" not in json.dumps(payload)
    assert not any(word.startswith("SLURM_") for word in payload["job"]["environment"])


def test_a_zero_is_an_option_that_a_payload_does_not_hear_of():
    assert unused_options(JobSpec(file=Path("a.json"), seed=0)) == ["--seed"]
    assert unused_options(JobSpec(file=Path("a.json"))) == []


@pytest.mark.parametrize(
    "where",
    [{"partition": "p_qx,p_spin2"}, {"backend": "qx,spin2"}, {"partition": "p_qx,p_spin2", "backend": "qx"}],
)
def test_a_job_for_several_backends_is_refused_in_a_sentence(where):
    with pytest.raises(InvalidInputError, match="A job is for one backend"):
        payload_for(Config(), JobSpec(file=EXAMPLES / "bell.cq", **where), {})
    job = SessionOptions(JobSpec(source="", kind="hybrid", **where), 60.0, None)
    with pytest.raises(InvalidInputError, match="A job is for one backend"):
        prepare_session(Config(), job, "0" * 64, {})


def test_a_partition_that_is_named_wins_over_the_configurations_backend():
    config = Config(job=JobSettings(backend="qx"))
    payload = payload_for(config, JobSpec(file=EXAMPLES / "bell.cq", partition="p_spin2"), {})
    assert Comment.parse(payload["job"]["comment"]).backend == "spin2"


def test_no_two_submissions_have_the_same_key():
    keys = {Comment.parse(payload_of("bell.cq", backend="qx")["job"]["comment"]).key for _ in range(20)}
    assert len(keys) == 20


def test_a_raw_payload_gets_a_key_only_and_options_that_say_nothing_to_it_are_named():
    raw = json.loads((EXAMPLES / "payload.json").read_text())
    sent = payload_of("payload.json", shots=5, time_limit="3")
    marks = Comment.parse(sent["job"].pop("comment"))
    assert marks.key
    assert sent == raw
    request = JobSpec(file=Path("payload.json"), shots=5, time_limit="3", name="x", variables={"a": "b"})
    assert unused_options(request) == ["--job-name", "--set", "--shots", "--time"]
    assert unused_options(JobSpec(file=Path("payload.json"))) == []
    assert unused_options(JobSpec(file=Path("bell.cq"), shots=5)) == []


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (JobSpec(), InvalidInputError, "No file given"),
        (JobSpec(file=EXAMPLES / "bell.cq"), InvalidInputError, "No backend given"),
        (
            JobSpec(file=EXAMPLES / "bell.cq", backend="qx", time_limit="soon"),
            InvalidInputError,
            "time limit",
        ),
        (JobSpec(file=EXAMPLES / "none.cq", backend="qx"), InvalidInputError, "no such file"),
    ],
)
def test_what_can_not_be_submitted_says_why(request_, error, words):
    with pytest.raises(error, match=words):
        payload_for(Config(), request_, {})


def test_a_wrong_circuit_never_leaves(tmp_path):
    file = tmp_path / "wrong.cq"
    file.write_text("version 3.0\nqubit[2] q\nHH q[0]\n")
    with pytest.raises(CircuitError, match=r"wrong\.cq:3:1"):
        payload_for(Config(), JobSpec(file=file, backend="qx"), {})


def test_a_job_may_be_given_as_a_text():
    payload = payload_for(
        Config(), JobSpec(source="version 3.0; qubit q; bit b; b = measure q", backend="qx"), {}
    )
    assert (payload["job"]["name"], unpack(payload["script"]).kind) == ("circuit", "circuit")
    hybrid = "def execute(qi):\n    pass\ndef finalize(results):\n    return {}\n"
    assert (
        unpack(payload_for(Config(), JobSpec(source=hybrid, backend="qx"), {})["script"]).file == "hybrid.py"
    )
    with pytest.raises(CircuitError, match=r"circuit\.cq:1:"):
        payload_for(Config(), JobSpec(source="version 3.0; nonsense", backend="qx"), {})
    with pytest.raises(InvalidInputError):
        payload_for(Config(), JobSpec(source="", backend="qx"), {})


def test_a_payload_on_stdin_is_sent_as_it_is_and_its_options_are_named(monkeypatch):
    raw = (EXAMPLES / "payload.json").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    request = read(JobSpec(file=Path("-"), shots=5))
    sent = payload_for(Config(), request, {})
    assert Comment.parse(sent["job"].pop("comment")).key
    assert sent == json.loads(raw)
    assert unused_options(request) == ["--shots"]


SCRIPT = "#!/bin/bash\necho $theta\n"
VALUES = ",".join(f"{number / 7:.9f}" for number in range(1000))

TOO_LONG = {
    # what is too long, and how its user has called it
    "--job-name": ({"name": "x" * 1025}, "--job-name: 1025 bytes"),
    "--export": ({"export": f"A={'x' * 100_000}"}, "--export A: 100002 bytes"),
    "--comment": ({"comment": "x" * 1024}, "yours can have"),
    "--sweep of a script": ({"sweep": ("theta=0:9:0.001",)}, "The values of the sweep's 9001 tasks"),
    "--sweep as a list": ({"sweep": (f"theta={VALUES}",)}, "The sweep is"),
}


@pytest.mark.parametrize(("options", "words"), TOO_LONG.values(), ids=TOO_LONG)
def test_what_is_too_long_is_called_as_its_user_has_called_it(options, words):
    with pytest.raises(InvalidInputError) as refused:
        payload_for(Config(), JobSpec(source=SCRIPT, kind="script", backend="qx", **options), {})
    assert words in str(refused.value)
    assert re.search(r"job\.\w", str(refused.value)) is None


def test_a_sweep_that_is_too_long_for_a_script_can_be_run_in_parts_as_it_is_told():
    swept = {"source": SCRIPT, "kind": "script", "backend": "qx", "sweep": ("theta=0:9:0.001",)}
    with pytest.raises(InvalidInputError, match="--array 0-999"):
        payload_for(Config(), JobSpec(**swept), {})
    assert payload_for(Config(), JobSpec(**swept, array="0-999"), {})["job"]["array"] == "0-999"
