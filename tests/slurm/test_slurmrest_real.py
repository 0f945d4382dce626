"""The slurmrestd client against the real one (Debian's Slurm, API v0.0.38), with real tokens and real faults."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from people import eventually
from testbed import Testbed

from qslurm.errors import (
    DuplicateError,
    PermissionDeniedError,
    RefusedError,
    TokenError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.payload.comment import Comment, new_key
from qslurm.slurm.rest import SlurmrestClient
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.tokens.secret import Secret

pytestmark = pytest.mark.slurm

PAPER = json.loads((Path(__file__).parents[1] / "recorded/v0.0.39/submit_paper.json").read_text())["request"][
    "body"
]


@pytest.fixture
def connect(testbed: Testbed) -> Iterator[Callable[..., SlurmrestClient]]:
    """Makes clients of C2's slurmrestd, as one of its centers."""
    made: list[SlurmrestClient] = []

    def make(
        center: str = "snellius", *, token: str | None = None, timeout_s: float = 30.0, **options: Any
    ) -> SlurmrestClient:
        given = Secret(token or testbed.token(center))
        endpoint = Endpoint(testbed.rest_url, given, f"center_{center}", timeout_s)
        made.append(SlurmrestClient(endpoint, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def snellius(connect: Callable[..., SlurmrestClient]) -> SlurmrestClient:
    return connect()


@pytest.fixture
def held(snellius: SlurmrestClient) -> Iterator[Callable[..., int]]:
    """Submits jobs that wait, held, and cancels them in the end."""
    submitted: list[int] = []

    def submit(payload: dict[str, Any] | None = None, **job: Any) -> int:
        submitted.append(snellius.submit(payload or _payload(**job)).job_id)
        return submitted[-1]

    yield submit
    for job_id in submitted:
        snellius.cancel(job_id)


def _payload(script: str = "#!/bin/bash\ntrue\n", **job: Any) -> dict[str, Any]:
    comment = Comment(key=new_key(), kind="script").format()
    full = {
        "partition": "p_spin2",
        "name": "real",
        "comment": comment,
        "hold": True,
        "current_working_directory": "/tmp",
        "environment": ["PATH=/usr/bin:/bin"],
        "tasks": 1,
        **job,
    }
    return {"job": full, "script": script}


def test_the_version_is_found_by_asking(snellius):
    assert snellius.api_version == "v0.0.38"
    snellius.ping()


def test_the_papers_payload_is_accepted(held, snellius):
    job = snellius.job(held({**PAPER, "job": {**PAPER["job"], "hold": True}}))
    assert (job.name, job.partition, job.user) == ("test", "p_spin2", "center_snellius")


@pytest.mark.parametrize("environment", [["PATH=/bin", "A=b=c"], {"PATH": "/bin", "A": "b=c"}])
def test_an_environment_is_accepted_in_both_forms(environment, held):
    assert held(environment=environment)


def test_every_shape_of_field_reaches_slurm(held, snellius):
    job = snellius.job(
        held(
            time_limit={"set": True, "infinite": False, "number": 7},
            nodes=1,
            begin_time=1_900_000_000,
            kill_warning_signal="TERM",
            kill_warning_delay={"set": True, "infinite": False, "number": 60},
            mail_type=["END"],
            priority=5,
            open_mode=["APPEND"],
            requeue=True,
        )
    )
    assert (job.state, job.time_limit_minutes) == ("PENDING", 7)


def test_a_waiting_job_is_read_and_found_by_its_key(held, snellius):
    key = new_key()
    job_id = held(comment=Comment(key=key, kind="script", backend="spin2").format())
    job = snellius.job(job_id)
    assert (job.job_id, job.state, job.user, job.account) == (
        job_id,
        "PENDING",
        "center_snellius",
        "snellius",
    )
    assert job.marks.backend == "spin2"
    assert not job.is_final
    found = snellius.find_by_key(key)
    assert found is not None
    assert found.job_id == job_id
    assert job_id in [each.job_id for each in snellius.jobs()]


def test_a_key_that_nobody_used_is_found_nowhere(snellius):
    assert snellius.find_by_key(new_key()) is None


def test_the_same_submission_twice_is_refused_as_a_duplicate(held, snellius):
    payload = _payload()
    held(payload)
    with pytest.raises(DuplicateError):
        snellius.submit(payload)


def test_a_held_job_is_a_success_with_a_warning(snellius):
    submitted = snellius.submit(_payload())
    assert "2042" in submitted.warnings[0]
    snellius.cancel(submitted.job_id)


def test_a_cancelled_job_is_over_and_may_be_cancelled_again(snellius):
    job_id = snellius.submit(_payload()).job_id
    snellius.cancel(job_id)
    job = snellius.job(job_id)
    assert (job.state, job.outcome) == ("CANCELLED", "cancelled")
    snellius.cancel(job_id)


def test_an_unknown_job_is_unknown(snellius):
    with pytest.raises(UnknownJobError):
        snellius.job(99_999_999)
    with pytest.raises(UnknownJobError):
        snellius.cancel(99_999_999)


def test_another_centers_job_can_not_be_cancelled(connect, held):
    job_id = held()
    with pytest.raises((PermissionDeniedError, UnknownJobError)):
        connect("lumi").cancel(job_id)


def test_a_script_of_five_megabytes_is_refused(snellius):
    with pytest.raises(RefusedError, match="4 MiB") as caught:
        snellius.submit(_payload("#!/bin/bash\n#" + "x" * 5 * 1024 * 1024))
    assert caught.value.slurm_error == 2012


def test_a_script_of_just_under_four_megabytes_is_accepted(held):
    """What C2's submit plugin puts before a script counts, too."""
    head, before = "#!/bin/bash\n#", 512
    assert held(_payload(head + "x" * (4 * 1024 * 1024 - len(head) - before)))


@pytest.mark.parametrize(
    ("job", "number"),
    [({"partition": "p_nowhere"}, 2000), ({"account": "lumi"}, 2045), ({"qos": "gold"}, 2066)],
)
def test_a_refusal_carries_slurms_number(job, number, snellius):
    with pytest.raises(RefusedError) as caught:
        snellius.submit(_payload(**job))
    assert caught.value.slurm_error == number


# --- tokens


def _forged(token: str) -> str:
    head, body, signature = token.split(".")
    return ".".join([head, body, signature[::-1]])


def _unsigned(token: str) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


@pytest.mark.parametrize("spoil", [_forged, _unsigned])
@pytest.mark.parametrize("ask", ["ping", "submit", "job", "cancel", "jobs"])
def test_a_token_that_is_not_c2s_is_a_token_error_on_every_path(spoil, ask, connect, testbed):
    client = connect(token=spoil(testbed.token()), api_version="v0.0.38")
    arguments = {"submit": [_payload()], "job": [1], "cancel": [1]}.get(ask, [])
    with pytest.raises(TokenError, match="refused the token"):
        getattr(client, ask)(*arguments)


def test_a_token_of_another_center_does_not_make_one_its_user(connect, testbed):
    with pytest.raises(TokenError):
        connect("lumi", token=testbed.token("snellius")).submit(_payload())


# --- daemons that die and freeze


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_dead_slurmctld_is_unreachable_and_the_token_is_not_blamed(connect, testbed):
    client = connect(api_version="v0.0.38")
    testbed.kill("slurmctld-c2")
    eventually(lambda: _refuses(testbed.ports["c2_slurmctld"]), "the kernel to close what slurmctld had open")
    with pytest.raises(UnreachableError) as caught:
        client.submit(_payload())
    assert not isinstance(caught.value, UncertainError)
    with pytest.raises(UnreachableError, match="slurmctld"):
        client.ping()


def test_a_dead_slurmrestd_is_unreachable(connect, testbed):
    client = connect(api_version="v0.0.38")
    client.ping()
    testbed.kill("slurmrestd")
    with pytest.raises(UnreachableError, match="slurmrestd at"):  # on the kept connection, or for a new one
        client.ping()


def test_a_submission_to_a_frozen_slurmctld_is_uncertain_and_found_by_its_key(connect, testbed):
    impatient, patient = connect(api_version="v0.0.38", timeout_s=1.0), connect(api_version="v0.0.38")
    payload = _payload()
    pid = testbed.pid("slurmctld-c2")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    thaw = threading.Timer(3.0, os.kill, (pid, signal.SIGCONT))
    thaw.start()
    try:
        with pytest.raises(UncertainError):
            impatient.submit(payload)
        thaw.join()
    finally:
        thaw.cancel()
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(DuplicateError):  # slurmctld answers in the order of asking, so the first one is in
        patient.submit(payload)
    found = patient.find_by_key(Comment.parse(payload["job"]["comment"]).key)
    assert found is not None
    patient.cancel(found.job_id)
