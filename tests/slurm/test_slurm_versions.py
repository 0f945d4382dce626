"""C2 with newer releases of Slurm: each API version, the whole way of a job, and an upgrade while a center works."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from people import Researcher, eventually
from testbed import Testbed
from testbed.releases import ReleaseUnavailableError

from qslurm.c2.config.file import load_c2_config
from qslurm.c2.gate.change_detector import ChangeDetector, activity_of
from qslurm.c2.slurm_commands import SlurmCommands
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

SERVED = {
    "24.11": ("v0.0.40", "v0.0.41", "v0.0.42"),
    "26.05": ("v0.0.42", "v0.0.43", "v0.0.44", "v0.0.45"),
}

each_release = pytest.mark.parametrize("c2", SERVED, indirect=True)
each_version = pytest.mark.parametrize(
    ("c2", "version"),
    [(release, version) for release, versions in SERVED.items() for version in versions],
    indirect=["c2"],
)

Connect = Callable[..., SlurmrestClient]


def _brought_up(instance: str, release: str) -> Testbed:
    testbed = Testbed(instance, slurm=release)
    try:
        testbed.up()
    except ReleaseUnavailableError as error:
        pytest.skip(str(error))
    return testbed


@pytest.fixture(scope="module")
def instance(test_instance: str) -> Iterator[str]:
    """One testbed of these stories' own, changing its Slurm; down at the end."""
    name = f"{test_instance[:12]}-new"
    Testbed(name).down()
    yield name
    Testbed(name).down()


@pytest.fixture(scope="module")
def c2(request: pytest.FixtureRequest, instance: str) -> Testbed:
    """A testbed whose C2 runs this release."""
    return _brought_up(instance, request.param)


@pytest.fixture(scope="module")
def tokens(c2: Testbed) -> dict[str, str]:
    return {center: c2.token(center) for center in ("snellius", "lumi")}


@pytest.fixture
def connect(c2: Testbed, tokens: dict[str, str]) -> Iterator[Connect]:
    """Makes clients of this C2."""
    if not c2.is_up():
        c2.up()
    made: list[SlurmrestClient] = []

    def make(
        version: str = "auto",
        center: str = "snellius",
        *,
        token: str = "",
        timeout_s: float = 30.0,
        on_version: Callable[[str], None] | None = None,
    ) -> SlurmrestClient:
        given = Secret(token or tokens[center])
        endpoint = Endpoint(c2.rest_url, given, f"center_{center}", timeout_s)
        client = SlurmrestClient(endpoint, api_version=version, on_version=on_version)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def _payload(**job: Any) -> dict[str, Any]:
    full = {
        "partition": "p_spin2",
        "name": "newer",
        "comment": Comment(key=new_key(), kind="script", backend="spin2").format(),
        "hold": True,
        "current_working_directory": "/tmp",
        "environment": {"PATH": "/usr/bin:/bin", "A": "b=c"},
        "tasks": 1,
        **job,
    }
    return {"job": full, "script": "#!/bin/bash\nsleep 600\n"}


# --- each API version


@each_version
def test_a_job_is_submitted_once_read_found_changed_and_cancelled(c2, version, connect):
    center = connect(version)
    center.ping()
    assert set(center.partitions()) == {"p_qx", "p_spin2"}
    assert set(center.partitions().values()) <= {"UP", "DOWN"}
    payload = _payload(
        time_limit={"set": True, "infinite": False, "number": 7},
        nodes=1,
        begin_time=1_900_000_000,
        distribution_plane_size=4,
        kill_warning_signal="TERM",
        kill_warning_delay=60,
        mail_type=["END"],
        open_mode=["APPEND"],
        requeue=True,
    )
    submitted = center.submit(payload)
    assert submitted.warnings == ["Job is in held state, pending scheduler release"]
    job = center.job(submitted.job_id)
    assert (job.state, job.user, job.account) == ("PENDING", "center_snellius", "snellius")
    assert (job.time_limit_minutes, job.marks.backend) == (7, "spin2")
    shown = c2.c2(("scontrol", "show", "job", str(job.job_id))).stdout
    for said in ("NumNodes=1", "StartTime=2030-03-17"):
        assert said in shown
    key = job.marks.key
    assert key
    found = center.find_by_key(key)
    assert found is not None
    assert found.job_id == job.job_id
    with pytest.raises(DuplicateError):
        center.submit(payload)
    assert center.update(job.job_id, {"hold": False}) == []
    with pytest.raises((PermissionDeniedError, UnknownJobError)):
        connect(version, "lumi").cancel(job.job_id)
    assert center.cancel(job.job_id) == []
    assert center.job(job.job_id).outcome == "cancelled"
    assert len(center.cancel(job.job_id)) == 1, "it says that the job is over"
    assert center.find_by_key(new_key()) is None


@each_version
def test_exclusive_nodes_are_exclusive_in_every_version(c2, version, connect):
    center = connect(version)
    for word, shown in (("true", "OverSubscribe=NO "), ("user", "=USER "), ("false", "OverSubscribe=YES ")):
        job_id = center.submit(_payload(exclusive=[word])).job_id
        job = c2.c2(("scontrol", "show", "job", str(job_id))).stdout
        center.cancel(job_id)
        assert shown in job


@each_version
def test_what_slurm_refuses_is_refused_with_its_number(version, connect):
    center = connect(version)
    for job, number in (
        ({"partition": "p_nowhere"}, 2000),
        ({"account": "lumi"}, 2045),
        ({"qos": "gold"}, 2066),
    ):
        with pytest.raises(RefusedError) as caught:
            center.submit(_payload(**job))
        assert caught.value.slurm_error == number
    with pytest.raises(RefusedError):
        center.submit(_payload(environment=[], comment=""))
    for ask in (center.job, center.cancel):
        with pytest.raises(UnknownJobError):
            ask(99_999_999)


@each_version
def test_a_token_that_is_not_c2s_is_a_token_error_on_every_path(version, connect, tokens):
    head, claims, signature = tokens["snellius"].split(".")
    forged = connect(version, token=f"{head}.{claims}.{signature[::-1]}")
    for ask, arguments in (
        *(("ping", []), ("submit", [_payload()]), ("job", [1]), ("cancel", [1]), ("jobs", [])),
        *(("accounted", [0]), ("update", [1, {"hold": True}])),
    ):
        with pytest.raises(TokenError, match="refused the token"):
            getattr(forged, ask)(*arguments)
    with pytest.raises(TokenError):
        connect(version, "lumi", token=tokens["snellius"]).submit(_payload())


# --- each release


@each_release
def test_the_newest_version_is_found_and_remembered(c2, connect):
    told: list[str] = []
    center = connect(on_version=told.append)
    center.ping()
    center.jobs()
    assert told == [SERVED[c2.layout.slurm][-1]]


@each_release
def test_a_circuit_and_a_hybrid_job_cross_from_c1_and_back(c2, connect):
    alice = Researcher(c2)
    alice.has_example("bell.cq")
    output = alice.folder / "bell.sbatch.out"
    output.unlink(missing_ok=True)
    alice.sbatches(
        "bell.sbatch", "#!/bin/bash\nqslurm submit bell.cq --backend qx --shots 500 --wait --json\n"
    )
    hybrid = alice.gets("submit", alice.has_example("vqe_h2.py"), "--backend", "qx")
    assert hybrid["api_version"] in SERVED[c2.layout.slurm], (
        "one that is remembered is good as long as it is served"
    )
    assert alice.ends_as(hybrid["job_id"]) == "COMPLETED"
    assert alice.gets("results", str(hybrid["job_id"]))["final_result"]
    text = eventually(
        lambda: output.exists() and output.read_text().endswith("}\n") and output.read_text(), "the counts"
    )
    assert set(json.loads(text)["results"]["counts"]) == {"00", "11"}


@each_release
def test_a_job_that_the_platform_turns_away_waits_for_it_and_then_runs(c2, connect, platform_of):
    """What a failing PrologSlurmctld does, and how soon the job is started again, is Slurm's, and may change."""
    platform = platform_of(c2)
    platform.clean()
    with platform.without_gate():
        c2.stop("dispatcher")
        job_id = platform.submit_bell()
        platform.until_turned_away(job_id)
        assert platform.node_state() in {"idle", "mix"}
        c2.start("dispatcher")
    platform.until_state(job_id, "COMPLETED")


@each_release
def test_a_batch_script_that_fails_says_with_what_code(c2, connect):
    alice = Researcher(c2)
    alice.writes("three.sh", "#!/bin/bash\nexit 3\n")
    job_id = alice.submits("three.sh", "--backend", "qx")
    done = alice.types("wait", str(job_id))
    assert done.returncode == 6, done.stderr
    job = connect().job(job_id)
    assert (job.state, job.exit_code, job.signal) == ("FAILED", 3, None)


@each_release
def test_what_becomes_of_jobs_is_told_without_slurmrestd(c2, tokens):
    """By sdiag's numbers, by squeue's word that something has changed, and by its columns."""
    slurm = SlurmCommands(load_c2_config(c2.layout.c2_qslurm).slurm)
    name = "a|b\n77777|RUNNING|None|p_qx|center_lumi|lumi\n" + "ü" * 150
    key = new_key()

    def asks(path: str, center: str = "snellius") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {tokens[center]}"}
        answer = requests.get(f"{c2.results_url}/v1/{path}", headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def troubles() -> int:
        return c2.log("gate").read_text().count("about=feed")

    c2.up()
    c2.stop("slurmrestd")
    had, watch = troubles(), ChangeDetector(slurm)

    def activity():
        return activity_of(slurm.statistics())

    try:
        eventually(watch.changed, "squeue's first word")
        eventually(lambda: activity() == activity(), "queries to be no activity")
        before = activity()
        done = c2.c2(
            ("sbatch", "--parsable", "--hold", "--partition=p_spin2", "--chdir=/", f"--job-name={name}",
             f"--comment=qslurm key={key} kind=script backend=spin2"),
            user="center_snellius", stdin="#!/bin/sh\n",
        )  # fmt: skip
        job_id = int(done.stdout)
        assert activity() != before
        eventually(watch.changed, "squeue to notice")
        (job,) = [job for job in Researcher(c2).gets("queue")["jobs"] if job["job_id"] == job_id]
        assert (job["state"], job["reason"], job["key"]) == ("PENDING", "JobHeldUser", key)
        assert job["name"] == name.encode()[:200].decode(errors="ignore")
        assert (job["user"], job["account"]) == ("center_snellius", "snellius")
        assert not [job for job in asks("queue", "lumi")["jobs"] if job[0] == 77777]
        since = asks("changes")["since"]
        assert c2.c2(("scancel", str(job_id))).returncode == 0

        def told() -> list[str]:
            page = asks(f"changes?wait=20&since={since}")
            return [job[1] for job in page["jobs"] if job[0] == job_id]

        eventually(lambda: told() == ["CANCELLED"], "its end to be told")
        assert troubles() == had, "the gate reads all that squeue writes"
    finally:
        watch.close()
        c2.start("slurmrestd")


@each_release
def test_daemons_that_are_away_are_told_from_a_bad_token(c2, connect):
    version = SERVED[c2.layout.slurm][-1]
    center = connect(version)
    c2.kill("slurmdbd")
    with pytest.raises(UnreachableError, match="accounting"):
        center.accounted(0)
    c2.stop("slurmctld-c2")
    with pytest.raises(UnreachableError) as caught:
        center.submit(_payload())
    assert not isinstance(caught.value, UncertainError)


@each_release
def test_a_submission_to_a_frozen_slurmctld_is_uncertain_and_becomes_one_job(c2, connect):
    version = SERVED[c2.layout.slurm][-1]
    impatient, patient = connect(version, timeout_s=1.0), connect(version)
    payload = _payload()
    pid = c2.pid("slurmctld-c2")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(UncertainError):
            impatient.submit(payload)
    finally:
        os.kill(pid, signal.SIGCONT)
    with suppress(DuplicateError):  # unlike 22.05, 26.05 was seen to take the second of two that wait first
        patient.submit(payload)
    with pytest.raises(DuplicateError):
        patient.submit(payload)
    key = Comment.parse(payload["job"]["comment"]).key
    (job,) = [job for job in patient.jobs() if job.marks.key == key]
    patient.cancel(job.job_id)


# --- an upgrade


def test_a_server_that_is_upgraded_is_noticed_by_a_running_center(instance):
    """22.05, then 24.11, then 26.05 on the same port; nobody tells the center."""
    testbed = _brought_up(instance, "22.05")
    told: list[str] = []
    center = SlurmrestClient(
        Endpoint(testbed.rest_url, Secret(testbed.token()), "center_snellius"),
        known_version="v0.0.38",
        on_version=told.append,
    )
    alice = Researcher(testbed)
    with center:
        assert center.job(center.submit(_payload()).job_id).state == "PENDING"
        assert told == [], "what is remembered is believed"
        alice.submits(
            alice.has_example("bell.cq"), "--backend", "qx"
        )  # the command remembers, too, in its file
        for release, expected in (
            ("24.11", ["v0.0.42"]),
            ("26.05", ["v0.0.42"]),
            ("22.05", ["v0.0.42", "v0.0.38"]),
        ):
            testbed.stop("slurmrestd")
            with pytest.raises(UnreachableError):
                center.ping()
            url = testbed.rest_url
            testbed = _brought_up(instance, release)
            assert testbed.rest_url == url
            assert center.job(center.submit(_payload()).job_id).state == "PENDING"
            assert told == expected
            assert Researcher(testbed).ends_as(alice.submits("bell.cq", "--backend", "qx")) == "COMPLETED"
