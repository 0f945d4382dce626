"""`Center` where several platforms are configured: it is the way to one of them."""

from __future__ import annotations

import os
from types import SimpleNamespace

import msgspec
import pytest

from qslurm import Center
from qslurm.c1.api.futures import ArrayFutures, settle_job, settle_tasks
from qslurm.errors import (
    ConfigError,
    InvalidInputError,
    JobFailedError,
    NotReadyError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.slurm.job_info import JobInfo
from tests.unit.jobs import job_info

BELL = "version 3.0\nqubit[4] q\nbit[4] b\nH q[0]\nb = measure q\n"


class Sent(list):
    """Where each payload went, and the last one."""

    payload = away = None
    asked = 0

    def __init__(self):
        super().__init__()
        self.connections = []


class C2:
    """Takes every payload; its jobs stay pending."""

    def __init__(self, config, sent):
        self.config, self.prefix, self.has_job_manager = config, config.prefix, True
        backends = [
            {"name": name, "state": "idle", "qubits": qubits, "max_shots": 100}
            for name, qubits in {"two": 2, "five": 5}.items()
        ]
        self.backends = backends
        self.job_manager = SimpleNamespace(backends=self._read_backends, limits=self._limits, loads=list)
        self.slurm = SimpleNamespace(
            jobs=list,
            partitions=lambda: {"p_two": "UP", "p_five": "UP"},
            submit=self._take,
            tasks=self._known,
            find_by_key=lambda key: JobInfo(job_id=13, name=key, state="PENDING"),
        )
        self.submissions_at_once, self.reads = 2, 0
        self._sent = sent
        sent.connections.append(self)

    def _read_backends(self):
        self.reads += 1
        return self.backends

    def _take(self, payload):
        self._sent.append((self.config.platform, payload["job"]["partition"]))
        self._sent.payload = payload
        return SimpleNamespace(job_id=12, warnings=[], message="")

    def _limits(self):
        self._sent.asked += 1
        if self._sent.away:
            raise self._sent.away
        return self.backends

    def _known(self, job_id):
        if job_id != 7:
            raise UnknownJobError(f"C2 has no job {job_id}.")
        return []

    def delay(self, waited_s):
        return 0.0

    def close(self):
        pass


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """What was sent where."""
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n[platform.tuna]\nurl = "http://tuna"\n')
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("QSLURM_PLATFORM", raising=False)
    sent = Sent()
    monkeypatch.setattr(
        "qslurm.c1.connection.center_connection.open_connection", lambda config: C2(config, sent)
    )
    monkeypatch.setattr("qslurm.c1.api.job_watcher.JobWatcher.add", lambda self, job: None)
    monkeypatch.setattr("qslurm.c1.api.agent_changes.ChangeListener.listen", lambda self: None)
    return sent


def test_a_job_knows_what_the_command_calls_it(sent):
    job = Center(platform="tuna").submit(BELL, backend="five")
    assert (job.id, job.ref, repr(job)) == (12, "tuna:12", "<Job tuna:12>")
    assert repr(Center().submit(BELL, backend="five")) == "<Job 12>"
    assert sent == [("tuna", "p_five"), ("c2", "p_five")]


@pytest.mark.parametrize("how", ["submit", "map", "many"])
@pytest.mark.parametrize(
    ("backend", "shots", "words"),
    [
        ("two", 10, "asks for 4 qubits, and backend two takes at most 2"),
        ("five", 101, "asks for 101 shots, and backend five takes at most 100"),
        ("five", 100, ""),
        ("five", None, ""),
        ("unheard-of", 10**6, ""),
    ],
)
def test_what_is_beyond_the_backend_is_refused_unsent_as_by_the_command(sent, how, backend, shots, words):
    def submit(center):
        if how == "submit":
            center.submit(BELL, backend=backend, shots=shots)
        else:
            center.map([BELL] * (1 if how == "map" else 30), backend=backend, shots=shots)

    center = Center()
    if words:
        with pytest.raises(InvalidInputError, match=words):
            submit(center)
        assert sent == []
        sent.away = UnreachableError("C2 is away.")  # what was known a moment ago is still known
        with pytest.raises(InvalidInputError, match=words):
            submit(center)
        submit(Center())  # and where nothing is known C2 decides
    else:
        submit(center)
    assert sent == [("c2", f"p_{backend}")]
    assert sent.asked == (2 if words else 1)
    center.close()


def test_any_backend_is_the_first_free_one_with_enough_qubits(sent):
    Center(platform="tuna").submit(BELL, backend="any")
    Center(backend="any").submit(BELL.replace("4", "2"))
    Center().submit("#!/bin/bash\ntrue\n", backend="any", qubits=3)
    assert sent == [("tuna", "p_five"), ("c2", "p_two"), ("c2", "p_five")]
    with pytest.raises(InvalidInputError, match=r"needs 9 qubits.*five of c2 \(5 qubits\)"):
        Center().submit(BELL, backend="any", qubits=9)


def test_a_file_for_another_platform_is_not_sent(sent):
    with pytest.raises(InvalidInputError, match="names platform tuna, but would be submitted to c2"):
        Center().submit(f"// #QSLURM --platform tuna\n{BELL}", backend="five")
    with pytest.raises(InvalidInputError, match="names platform tuna, but would be submitted to c2"):
        Center().submit(f"// #QSLURM --platform tuna\n{BELL}", backend="any")
    with pytest.raises(ConfigError, match="Did you mean tuna"):
        Center(platform="tunna")
    assert sent == []


@pytest.mark.parametrize("backend", ["five", "any"])
@pytest.mark.parametrize(
    ("dependency", "message"),
    [
        ("afterok:99", "C2 has no job 99"),
        ("afterok:7:99", "C2 has no job 99"),
        ("afterany:tuna:7", r"on a job of tuna|No platform has all jobs of the dependency"),
    ],
)
def test_a_dependency_that_c2_would_not_keep_is_refused_as_by_the_command(sent, backend, dependency, message):
    options = {"backend": backend, "dependency": dependency}
    with pytest.raises(InvalidInputError, match=message):
        Center().submit(BELL, **options)
    for sources in ([BELL], [BELL] * 3, [BELL] * 30):
        with pytest.raises(InvalidInputError, match=message):
            Center().map(sources, **options)
    assert sent == []
    Center().submit(BELL, backend=backend, dependency="afterok:7")
    assert len(sent) == 1


def test_a_program_has_the_commands_options(sent, monkeypatch):
    monkeypatch.setenv("LEVEL", "3")
    Center().submit(
        BELL.replace("H q[0]", "Rx({{ theta }}) q[{{ at }}]"),
        backend="five",
        sweep={"theta": [0, 0.5], "at": "0:3"},
        dependency="afterok:7",
        begin="2030-01-01",
        hold=True,
        comment="mine",
        export="LEVEL",
    )
    job = sent.payload["job"]
    assert (job["array"], job["dependency"], job["hold"]) == ("0-7", "afterok:7", True)
    assert job["begin_time"] > 1_800_000_000
    assert job["comment"].endswith(" sweep=theta:0,0.5@at:0:3 -- mine")
    assert "LEVEL=3" in job["environment"]


def test_options_have_the_names_of_the_command(sent):
    text = BELL.replace("H q[0]", "Rx({{ theta }}) q[0]")
    Center().submit(text, backend="five", time="5", job_name="rabi", set={"theta": 0.5})
    first = sent.payload
    Center().submit(text, backend="five", time_limit="5", name="rabi", variables={"theta": 0.5})
    assert first["script"] == sent.payload["script"]
    assert first["job"]["name"] == sent.payload["job"]["name"] == "rabi"
    assert first["job"]["time_limit"] == sent.payload["job"]["time_limit"]


@pytest.mark.parametrize(("call", "sources"), [("submit", [BELL]), ("map", [[BELL]]), ("session", [])])
def test_an_unknown_option_is_a_type_error_as_for_any_function(sent, call, sources):
    with pytest.raises(TypeError, match=f"{call}\\(\\) got an unexpected keyword argument 'shotz'"):
        getattr(Center(backend="five"), call)(*sources, shotz=5)
    assert sent == []


@pytest.mark.parametrize(("last", "settled"), [("RUNNING", None), ("COMPLETED", [{"0": 5}, {"1": 5}])])
def test_a_sweep_has_a_result_for_each_task_once_all_have_ended(last, settled):
    comment = "qslurm key=0123456789 kind=circuit sweep=theta:0,0.5"
    records = [
        job_info(
            job_id=12 + task, name="x", state=state, comment=comment, array_job_id=12, array_task_id=task
        )
        for task, state in enumerate(["COMPLETED", last])
    ]
    c2 = center_with(records, {12: {"0": 5}, 13: {"1": 5}})
    result = settle_job(c2, 12)
    if settled is None:
        assert result is None
    else:
        assert [task.counts for task in result.tasks] == settled
        assert [task.parameters for task in result.tasks] == [{"theta": "0"}, {"theta": "0.5"}]


def center_with(records, counts):
    return SimpleNamespace(
        prefix="",
        has_job_manager=True,
        slurm=SimpleNamespace(tasks=lambda _: records, accounted_tasks=lambda _: records),
        job_manager=SimpleNamespace(
            job=lambda job_id: {},
            results=lambda job_id: {
                "job_id": job_id,
                "key": f"k#{job_id}",
                "kind": "circuit",
                "counts": counts[job_id],
            },
        ),
    )


def test_a_state_that_was_reported_is_not_queried_again():
    c2 = center_with([], {12: {"0": 5}})
    c2.slurm = None
    running = job_info(job_id=12, name="x", state="RUNNING")
    assert settle_job(c2, 12, [running]) is None
    assert settle_job(c2, 12, [msgspec.structs.replace(running, state="COMPLETED")]).counts == {"0": 5}
    with pytest.raises(JobFailedError):
        settle_job(c2, 12, [msgspec.structs.replace(running, state="FAILED")])
    array = ArrayFutures(12, 1)
    task = job_info(job_id=12, name="x", state="COMPLETED", array_job_id=12, array_task_id=0)
    assert settle_tasks(c2, array, [task]) is not None
    assert array.futures[0].result().counts == {"0": 5}


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (None, {}, "not NoneType"),
        (b"version 3.0", {}, r"not bytes.*\.decode\(\)"),
        ("", {}, "has no name"),
        (BELL, {"shots": 0}, "shots is 0; it must be an integer, 1 or more"),
        (BELL, {"shots": True}, "shots is True"),
        (BELL, {"hold": "no"}, "hold is 'no'; it must be True or False"),
        (BELL, {"time_limit": 10}, "time_limit is 10; it must be a string"),
        (BELL, {"time": 10}, "time is 10; it must be a string"),
        (BELL, {"time": "5", "time_limit": "5"}, "time and time_limit are the same option"),
        (BELL, {"set": "theta=1"}, "set is 'theta=1'; it must be a dict"),
        (BELL, {"qpu_seconds": float("nan")}, "a positive number"),
        (BELL, {"then_if": "never"}, "one of ok, any, failed"),
        (BELL, {"sweep": "theta=1,2"}, "a dict of names"),
        (BELL, {"sweep": {"theta": 5}}, "A sweep's values must be a list"),
    ],
)
def test_what_an_option_can_not_be_is_said_by_its_name(sent, source, options, said):
    with pytest.raises(InvalidInputError, match=said):
        Center(backend="five").submit(source, **options)
    assert sent == []


def test_a_job_is_named_by_its_id_or_its_key_and_by_nothing_else(sent):
    center = Center()
    assert [center.job(name).id for name in (12, "12", "c2:12", "0123456789abcdef" * 2)] == [12, 12, 12, 13]
    for name in (0, -1, 2**63, True, None, 1.5, "x", "12_3", "12+0", "tuna:12"):
        with pytest.raises(InvalidInputError, match="job id"):
            center.job(name)


def test_a_closed_center_says_so_and_leaves_nobody_waiting(sent):
    center = Center(backend="five")
    job = center.submit(BELL)
    center.close()
    center.close()
    with pytest.raises(NotReadyError, match=r"closed before job 12 had ended; the job continues.*job\(12\)"):
        job.result(timeout=60)
    for use in (lambda: center.submit(BELL), lambda: center.job(12), job.status, job.cancel, center.jobs):
        with pytest.raises(InvalidInputError, match="closed"):
            use()


def test_a_forked_process_has_connections_of_its_own(sent, monkeypatch):
    watched = []
    monkeypatch.setattr("qslurm.c1.api.job_watcher.JobWatcher.add", lambda self, job: watched.append(job))
    center = Center(backend="five")
    job, parents = center.submit(BELL), list(sent.connections)
    watched.clear()
    child = os.fork()
    if child == 0:
        center.backends()
        own = sent.connections[len(parents) :]
        is_good = job in watched and [one.reads for one in own if one.reads] == [1]
        os._exit(0 if is_good and not any(one.reads for one in parents) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_of_a_map_that_can_not_be_submitted_nothing_is_left(sent, monkeypatch):
    cancelled = []
    monkeypatch.setattr(Center, "cancel", lambda self, job_id: cancelled.append(job_id))
    with pytest.raises(InvalidInputError, match=r"Cannot read none\.cq"):
        Center(backend="five").map([BELL, "none.cq"])
    with pytest.raises(InvalidInputError, match="use submit for a single one"):
        Center(backend="five").map(BELL)
    assert (len(sent), cancelled) == (0, [])
