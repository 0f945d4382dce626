"""Commands where several platforms are configured: whose job is meant, and what is said when one is away."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec
import pytest

from qslurm.cli.app import run
from qslurm.cli.shared_options import PlatformName
from qslurm.errors import RefusedError, UnknownJobError, UnreachableError
from tests.unit.jobs import job_info

TWO = '[c2]\nurl = "http://c2"\n[platform.tuna]\nurl = "http://tuna"\n'


class Platform:
    """A platform of which some jobs are known, or that is away."""

    def __init__(self, *jobs, away=None):
        self.known = {job.job_id: job for job in jobs}
        self.away = away
        self.cancelled = []
        self.rows = []

    def __call__(self, config):
        if self.away:
            return SimpleNamespace(
                config=config,
                slurm=Away(self.away),
                job_manager=Away(self.away),
                has_job_manager=False,
                submissions_at_once=4,
                delay=lambda waited: 0.0,
                close=lambda: None,
            )
        slurm = SimpleNamespace(
            user="me",
            api_version="v0.0.39",
            jobs=lambda: list(self.known.values()),
            accounted=lambda since: list(self.known.values()),
            tasks=lambda job_id: [self._job(job_id)],
            cancel=lambda job_id, task: self._cancel(job_id),
            update=lambda job_id, fields: [],
        )
        results = SimpleNamespace(usage=lambda since, until: self.rows, jobs=list)
        return SimpleNamespace(
            config=config,
            prefix=config.prefix,
            slurm=slurm,
            job_manager=results,
            has_job_manager=False,
            submissions_at_once=4,
            delay=lambda waited: 0.0,
            close=lambda: None,
        )

    def _job(self, job_id):
        if job_id not in self.known:
            raise UnknownJobError(f"C2 has no job {job_id}.")
        return self.known[job_id]

    def _cancel(self, job_id):
        self.cancelled.append(self._job(job_id).job_id)
        return []


class Away:
    """Raises whatever is asked."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        raise self._error


def job(job_id, state="PENDING", **facts):
    return job_info(job_id=job_id, name=f"job{job_id}", state=state, user="me", **facts)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two platforms; their jobs have partly the same ids."""
    (tmp_path / "config.toml").write_text(TWO)
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("QSLURM_PLATFORM", raising=False)
    found = {"c2": Platform(job(12), job(13)), "tuna": Platform(job(12), job(77))}
    monkeypatch.setattr(
        "qslurm.c1.connection.center_connection.open_connection",
        lambda config, say=None: found[config.platform](config),
    )
    return found


def test_the_queue_is_that_of_all_platforms_with_ids_as_commands_take_them(world, capsys):
    assert run(["queue"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["JOBID", "PLATFORM"]
    assert [tuple(row.split()[:2]) for row in rows] == [
        ("12", "c2"),
        ("13", "c2"),
        ("tuna:12", "tuna"),
        ("tuna:77", "tuna"),
    ]
    assert run(["queue", "--platform", "tuna", "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [(one["id"], one["job_id"], one["platform"]) for one in jobs] == [
        ("tuna:12", 12, "tuna"),
        ("tuna:77", 77, "tuna"),
    ]


def test_one_platform_needs_no_column(world, tmp_path, capsys):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n')
    assert run(["queue"]) == 0
    header, first, _ = capsys.readouterr().out.splitlines()
    assert "PLATFORM" not in header
    assert first.split()[0] == "12"


@pytest.mark.parametrize("command", ["queue", "history", "usage", "info"])
def test_a_platform_that_is_away_is_said_and_the_others_are_shown(command, world, capsys):
    world["tuna"] = Platform(away=UnreachableError("tuna's C2 does not answer."))
    if command == "info":
        world["c2"] = Platform(away=RefusedError("No."))  # what info asks for is tested where it is decided
    code = run([command])
    said = capsys.readouterr()
    assert code == 5
    if command == "info":
        assert said.out == ""
        assert said.err.splitlines() == ["qslurm: c2: No.", "qslurm: tuna: tuna's C2 does not answer."]
        return
    assert "qslurm: tuna: tuna's C2 does not answer." in said.err
    assert "PLATFORM" in said.out
    assert run([command, "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert document["errors"]["tuna"]["type"] == "unreachable"
    assert "error" not in document


def test_usage_is_by_platform_or_over_all(world, capsys):
    row = {
        "origin": "slurm:x:1:ann",
        "account": "a",
        "backend": "qx",
        "jobs": 1,
        "executions": 2,
        "shots": 10,
    }
    world["c2"].rows, world["tuna"].rows = [{**row, "qpu_seconds": 1.0}], [{**row, "qpu_seconds": 2.0}]
    assert run(["usage", "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["usage"]
    assert [(one["platform"], one["user"], one["qpu_seconds"]) for one in used] == [
        ("tuna", "ann", 2.0),
        ("c2", "ann", 1.0),
    ]
    assert run(["usage", "--by", "user", "--json"]) == 0
    assert [one["shots"] for one in json.loads(capsys.readouterr().out)["usage"]] == [20]


def test_a_jobs_name_says_its_platform(world, capsys):
    assert run(["cancel", "12", "tuna:77", "--json"]) == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["jobs"]] == ["12", "tuna:77"]
    assert (world["c2"].cancelled, world["tuna"].cancelled) == ([12], [77])
    assert run(["show", "tuna:77"]) == 0
    shown = capsys.readouterr().out
    assert "tuna:77 job77" in shown
    assert "platform  tuna" in shown
    assert run(["show", "77", "--platform", "tuna", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "tuna:77"


def test_the_environments_platform_is_the_usual_one(world, monkeypatch, capsys):
    monkeypatch.setenv("QSLURM_PLATFORM", "tuna")
    assert run(["show", "77", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "77"
    assert run(["show", "c2:13", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "c2:13"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "77"), 3, "Only platform c2 was queried; use tuna:77 for a job on tuna."),
        (("show", "tuna:13"), 3, "Only platform tuna was queried; use c2:13 for a job on c2."),
        (("wait", "77"), 3, "use tuna:77 for"),
        (("cancel", "13", "77"), 3, "use tuna:77 for"),
        (("show", "tuno:77"), 2, "Unknown platform 'tuno'. Did you mean tuna?"),
        (("show", "tuna:12", "-M", "c2"), 2, "Job tuna:12 is on platform tuna, but --platform is c2."),
        (("queue", "-M", "spin"), 2, "Unknown platform 'spin'. Available: c2, tuna."),
        (("show", "tuna:"), 2, "Invalid job id 'tuna:'."),
        (("show", ":77"), 2, "Invalid job id ':77'."),
        (("show", "tu na:77"), 2, "Invalid job id 'tu na:77'."),
        (("show", "tuna:77:1"), 2, "Invalid job id 'tuna:77:1'."),
    ],
)
def test_a_job_of_another_platform_is_not_found_by_chance(words, code, said, world, capsys):
    assert run(words) == code
    assert said in capsys.readouterr().err


def test_an_unknown_job_of_the_only_platform_is_just_unknown(world, tmp_path, capsys):
    (tmp_path / "config.toml").write_text('[c2]\nurl = "http://c2"\n')
    assert run(["show", "77"]) == 3
    assert capsys.readouterr().err == "qslurm: C2 has no job 77.\n"


def test_a_shell_completes_platforms(world):
    assert [one.value for one in PlatformName().shell_complete(None, None, "t")] == ["tuna"]  # type: ignore[arg-type]


# --- submitting


BELL = "version 3.0\nqubit[{qubits}] q\nbit[2] b\nH q[0]\nb[0] = measure q[0]\n"


@pytest.fixture
def files(world, tmp_path, monkeypatch):
    """Circuits of 2 and 9 qubits; on c2 qx is busy, tuna has a small free backend and a large busy one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.cq").write_text(BELL.format(qubits=2))
    (tmp_path / "large.cq").write_text(BELL.format(qubits=9))
    (tmp_path / "vqe.py").write_text("def execute(qi):\n    pass\ndef finalize(r):\n    return {}\n")
    sent = []
    for name, backends in {
        "c2": [{"name": "qx", "state": "executing", "qubits": 26, "max_shots": 1000}],
        "tuna": [
            {"name": "tuna5", "state": "idle", "qubits": 5, "max_shots": 100},
            {"name": "big", "state": "idle", "qubits": 40, "max_shots": 100, "queued": 3},
        ],
    }.items():
        world[name] = Offering(name, backends, sent)
    return sent


class Offering(Platform):
    """A platform with backends and an empty queue, that takes every job."""

    def __init__(self, name, backends, sent):
        super().__init__()
        self.name, self.backends, self.sent = name, backends, sent

    def __call__(self, config):
        center = super().__call__(config)
        center.job_manager.backends = lambda: self.backends
        center.job_manager.loads = list
        center.slurm.partitions = lambda: {f"p_{one['name']}": "UP" for one in self.backends}
        center.slurm.submit = self._take
        return center

    def _take(self, payload):
        self.sent.append((self.name, payload["job"]["partition"]))
        return SimpleNamespace(job_id=500 + len(self.sent), warnings=[], message="")


@pytest.mark.parametrize(
    ("words", "printed", "sent"),
    [
        (("small.cq", "-b", "any"), "tuna:501", ("tuna", "p_tuna5")),
        (("large.cq", "-b", "any"), "501", ("c2", "p_qx")),
        (("large.cq", "-b", "any", "-M", "tuna"), "tuna:501", ("tuna", "p_big")),
        (("small.cq", "-b", "any", "--shots", "500"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "any", "--qubits", "30"), "tuna:501", ("tuna", "p_big")),
        (("small.cq", "-b", "any", "-d", "afterok:12"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "any", "-d", "afterok:c2:12"), "501", ("c2", "p_qx")),
        (("vqe.py", "-b", "any"), "tuna:501", ("tuna", "p_tuna5")),
        (("vqe.py", "-b", "any", "--qubits", "9"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "qx"), "501", ("c2", "p_qx")),
        (("small.cq", "-b", "tuna5", "-M", "tuna"), "tuna:501", ("tuna", "p_tuna5")),
    ],
)
def test_a_job_goes_where_it_is_sent_or_to_the_first_free_one_that_fits(
    words, printed, sent, world, files, capsys
):
    world["c2"].known[12] = job(12)
    assert run(["submit", *words, "--parsable"]) == 0
    assert capsys.readouterr().out == f"{printed}\n"
    assert files == [sent]


def test_it_is_said_which_was_chosen_and_why(files, capsys):
    assert run(["submit", "small.cq", "-b", "any"]) == 0
    said = capsys.readouterr()
    assert said.err == "--backend any: tuna5 of tuna is free.\n"
    assert said.out == "Submitted job tuna:501 to p_tuna5 on tuna\n"


def test_a_platform_that_is_away_is_not_chosen(world, files, capsys):
    world["tuna"] = Platform(away=UnreachableError("tuna's C2 does not answer."))
    assert run(["submit", "small.cq", "-b", "any", "--json"]) == 0
    said = capsys.readouterr()
    assert "qslurm: tuna: tuna's C2 does not answer." in said.err
    document = json.loads(said.out)
    assert (document["id"], document["platform"]) == ("501", "c2")


def test_many_files_go_to_one_backend_that_fits_all(files, capsys):
    assert run(["submit", "small.cq", "large.cq", "-b", "any", "-M", "tuna", "--json"]) == 0
    assert [one["id"][:6] for one in json.loads(capsys.readouterr().out)["jobs"]] == ["tuna:5", "tuna:5"]
    assert files == [("tuna", "p_big")] * 2


def test_a_file_may_say_its_platform(files, tmp_path, capsys):
    (tmp_path / "own.cq").write_text("// #QSLURM -M tuna -b tuna5\n" + BELL.format(qubits=2))
    assert run(["submit", "own.cq", "--parsable"]) == 0
    assert run(["submit", "own.cq", "-M", "c2", "-b", "qx", "--parsable"]) == 0
    assert files == [("tuna", "p_tuna5"), ("c2", "p_qx")]
    capsys.readouterr()
    assert run(["submit", "own.cq", "-M", "c2", "--parsable"]) == 2  # its backend is tuna's
    assert "No backend given" in capsys.readouterr().err
    (tmp_path / "other.cq").write_text("// #QSLURM -M c2 -b qx\n" + BELL.format(qubits=2))
    assert run(["submit", "own.cq", "other.cq"]) == 2
    assert "different platforms: c2, tuna" in capsys.readouterr().err


def test_the_configuration_may_leave_the_backend_open(files, tmp_path, capsys):
    (tmp_path / "config.toml").write_text(TWO + '[job]\nbackend = "any"\n')
    assert run(["submit", "small.cq", "--parsable"]) == 0
    assert run(["submit", "small.cq", "-p", "p_qx", "--parsable"]) == 0
    assert files == [("tuna", "p_tuna5"), ("c2", "p_qx")]


def test_what_the_center_does_not_allow_is_not_chosen(world, files, capsys):
    world["tuna"].backends[0]["allowed"] = False  # as the center's agent says
    assert run(["submit", "small.cq", "-b", "any", "-M", "tuna", "--parsable"]) == 0
    assert files == [("tuna", "p_big")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("large.cq", "-b", "any", "--qubits", "50"),
            "needs 50 qubits. There are qx of c2 (26 qubits), tuna5 of tuna",
        ),
        (
            ("small.cq", "-b", "any", "-p", "p_qx"),
            "--partition p_qx and --backend any are mutually exclusive.",
        ),
        (("small.cq", "-b", "any", "--qubits", "0"), "--qubits"),
        (("small.cq", "-b", "any", "-M", "tuno"), "Did you mean tuna?"),
        (
            ("small.cq", "-b", "any", "-M", "c2", "-d", "afterok:tuna:12"),
            "No platform has all jobs of the dependency",
        ),
        (("small.cq", "-b", "any", "-d", "afterok:12:tuna:13"), "they are on c2, tuna."),
        (
            ("small.cq", "-b", "qx", "-d", "afterok:tuna:12"),
            "is on a job of tuna, and this one would go to c2.",
        ),
        (("small.cq", "-b", "any", "-d", "afterok:tuno:12"), "they are on tuno."),
    ],
)
def test_nothing_is_sent_when_it_is_not_clear_where(words, said, files, capsys):
    assert run(["submit", *words]) == 2
    assert said in capsys.readouterr().err
    assert files == []


def test_a_number_of_qubits_that_decides_nothing_is_said(files, capsys):
    assert run(["submit", "small.cq", "-b", "qx", "--qubits", "3", "--parsable"]) == 0
    assert "--qubits has no effect without --backend any." in capsys.readouterr().err
    assert run(["submit", "vqe.py", "-b", "any", "--parsable"]) == 0
    assert "Use --qubits N." in capsys.readouterr().err


@pytest.fixture
def of_ann(world):
    comment = "qslurm key=0123456789 kind=circuit backend=qx origin=slurm:snellius:7:ann"
    for platform in world.values():
        platform.known = {
            one.job_id: msgspec.structs.replace(one, comment=comment) for one in platform.known.values()
        }
    return world


def test_jobs_are_cancelled_by_name_wherever_they_are(of_ann, capsys):
    assert run(["cancel", "--submitter", "ann", "-n", "job77", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "jobs": [{"job_id": 77, "id": "tuna:77", "cancelled": True, "warnings": []}]
    }
    assert said.err == "Cancelled 1 of 1 jobs.\n"
    assert run(["cancel", "-u", "ann", "12", "tuna:12"]) == 0
    assert (of_ann["c2"].cancelled, of_ann["tuna"].cancelled) == ([12], [77, 12])


def test_only_ones_own_jobs_are_cancelled_unless_somebody_is_named(of_ann, capsys):
    assert run(["cancel", "-n", "job12"]) == 0
    assert capsys.readouterr().err == "No pending or running job matches.\n"
    assert of_ann["c2"].cancelled == []


def test_a_platform_that_is_away_keeps_no_other_from_cancelling(of_ann, capsys):
    of_ann["tuna"] = Platform(away=UnreachableError("tuna's C2 does not answer."))
    assert run(["cancel", "-u", "ann", "-t", "PD"]) == 5
    said = capsys.readouterr().err
    assert said == "qslurm: tuna: tuna's C2 does not answer.\nCancelled 2 of 2 jobs.\n"
    assert of_ann["c2"].cancelled == [12, 13]


def test_cancel_wants_to_know_which(world, capsys):
    assert run(["cancel"]) == 2
    assert "No job given" in capsys.readouterr().err
    assert run(["cancel", "--me", "-t", "PENDIN"]) == 2
    assert "--state" in capsys.readouterr().err
