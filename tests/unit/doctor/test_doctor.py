from __future__ import annotations

import subprocess
import sys
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
import responses
from click.testing import CliRunner
from testbed.layout import CHECKOUT

from qslurm.c1.config.settings import AgentSettings, C2Settings, Config
from qslurm.c1.connection.agent_messages import AgentStatus, TokenState
from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config, GateConfig
from qslurm.c2.config.jobmanager_section import JobManagerConfig
from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.gate.heartbeat import Heartbeat
from qslurm.cli.app import qslurm
from qslurm.doctor import daemons
from qslurm.doctor.c1 import agent_findings, c1_checks, reach_checks
from qslurm.doctor.c2 import NEEDS, c2_checks
from qslurm.doctor.findings import Finding, fail, ok, patience, run
from qslurm.doctor.node import node_checks
from qslurm.errors import UnreachableError
from qslurm.runtimes.classical.warm.warm_status import query_warm_status
from qslurm.tokens.secret import Secret

ROOT = CHECKOUT


def test_a_check_that_fails_does_not_stop_the_others() -> None:
    def broken() -> Iterator[Finding]:
        yield ok("a", "half")
        raise UnreachableError("Nobody is there.", hint="Start it.")

    found = list(run({"a": broken, "b": lambda: [ok("b", "well")]}))
    assert [(one.name, one.state) for one in found] == [("a", "ok"), ("a", "fail"), ("b", "ok")]
    assert (found[1].what, found[1].do) == ("Nobody is there.", "Start it.")


def test_checks_are_made_side_by_side_and_one_that_hangs_is_a_failure() -> None:
    meeting, never = threading.Barrier(2), threading.Event()

    def meets() -> list[Finding]:
        meeting.wait()  # for the other one
        return [ok("met", "well")]

    def hangs() -> Iterator[Finding]:
        yield ok("hangs", "half")
        never.wait()

    assert [one.state for one in run({"a": meets, "b": meets})] == ["ok", "ok"]
    found = run({"a": lambda: [ok("a", "well")], "hangs": hangs}, limit_s=0.05)
    never.set()
    assert [(one.name, one.state) for one in found] == [("a", "ok"), ("hangs", "ok"), ("hangs", "fail")]
    assert found[2].do


def test_what_fails_because_something_else_does_is_not_blamed() -> None:
    broken = {name: lambda name=name: [fail(name, "is broken", "Mend it.")] for name in ("a", "b", "c")}
    found = {one.name: one for one in run(broken, {"b": ("a", "x"), "c": ("x",)})}
    assert {name: one.state for name, one in found.items()} == {"a": "fail", "b": "warn", "c": "fail"}
    assert "a" in found["b"].what
    well = {"a": broken["a"], "b": lambda: [ok("b", "well")]}
    assert [one.state for one in run(well, {"b": ("a",)})] == ["fail", "ok"]


@pytest.mark.parametrize(
    ("load", "cpus", "seconds"),
    [(0.0, 2, 2.0), (16.0, 2, 2.0), (32.0, 2, 4.0), (1000.0, 2, 10.0), (64.0, 64, 2.0)],
)
def test_what_waits_for_a_cpu_is_slow_and_not_dead(load: float, cpus: int, seconds: float) -> None:
    assert patience(load, cpus) == seconds


def test_a_node_too_busy_to_test_confinement_in_time_is_not_called_broken(tmp_path: Path) -> None:
    config = C2Config(runtimes=RuntimesConfig(socket=str(tmp_path / "warm")))
    (found,) = node_checks(config, patience_s=0.0)["confinement"]()
    assert (found.state, found.what) == ("warn", "not tested within 0 s: this node is busy")


def test_a_bug_in_a_check_is_not_hidden() -> None:
    def has_a_bug() -> Iterator[Finding]:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        run({"a": has_a_bug})


def test_what_is_needed_is_itself_looked_at() -> None:
    checks = c2_checks(C2Config())
    assert NEEDS.keys() <= checks.keys()
    assert set().union(*NEEDS.values()) <= checks.keys()


def test_a_gate_that_is_not_at_work_is_a_failure(tmp_path: Path) -> None:
    config = C2Config(gate=GateConfig(state=str(tmp_path), interval_s=0.05))

    def gate() -> Iterable[Finding]:
        return daemons.gate(config, patience_s=0.3)

    assert [one.state for one in gate()] == ["fail"]
    works, stop = Heartbeat(str(tmp_path)), threading.Event()

    def work() -> None:
        while not stop.wait(0.01):
            works.write()

    worker = threading.Thread(target=work)
    worker.start()
    assert [one.state for one in gate()] == ["ok"]
    stop.set()
    worker.join()
    assert [one.state for one in gate()] == ["fail"]


ON_A_SMALL_DISK = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from qslurm.doctor.disks import disk
print(disk(Path("/mnt")).state, disk(Path("/mnt")).what)
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("mount -t tmpfs -o size=1m none /mnt", "ok "),
        (
            "mount -t tmpfs -o size=1m none /mnt; head -c 1m /dev/zero > /mnt/x",
            "fail the disk of /mnt is full",
        ),
        (
            "mount -t tmpfs -o size=1m,nr_inodes=2 none /mnt; touch /mnt/x",
            "fail the disk of /mnt has no inodes",
        ),
        ("mount -t tmpfs -o size=1m,ro none /mnt", "fail the disk of /mnt is read-only"),
    ],
)
def test_a_disk_that_is_full_or_read_only_is_named(how: str, said: str) -> None:
    script = f'{how}; exec "$0" -c "$1" "$2"'
    command = ["unshare", "-Urm", "sh", "-c", script, sys.executable, ON_A_SMALL_DISK, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("this host lets nobody make a namespace")
    assert done.stdout.startswith(said), done.stdout + done.stderr


def test_logs_that_other_centers_can_read_are_a_failure(tmp_path: Path) -> None:
    for name, mode in (("center_a", 0o2770), ("center_b", 0o2775), ("center_c", 0o770)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    config = C2Config(jobmanager=JobManagerConfig(logs=str(tmp_path)))
    found = list(c2_checks(config)["logs"]())
    assert [one.state for one in found] == ["ok", "fail", "fail"]
    assert "chmod 2770" in found[1].do


def test_a_service_that_is_away_is_a_warning_and_jobs_start_slowly(tmp_path: Path) -> None:
    config = C2Config(runtimes=RuntimesConfig(socket=str(tmp_path / "none")))
    assert [one.state for one in c2_checks(config)["runtimes"]()] == ["warn"]
    assert query_warm_status(str(tmp_path / "none")) is None


def test_a_store_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    config = C2Config(dispatcher=DispatcherConfig(store=str(tmp_path / "none.db")))
    assert [one.state for one in run({"store": c2_checks(config)["store"]})] == ["fail"]


@pytest.mark.parametrize(
    ("settings", "states"), [(C2Settings(), ["fail", "warn"]), (C2Settings(url="http://c2"), ["ok", "warn"])]
)
def test_a_center_that_has_not_said_where_c2_is(settings: C2Settings, states: list[str]) -> None:
    checks = c1_checks(Config(c2=settings))
    assert [one.state for one in checks["config"]()] == states
    assert [one.state for one in checks["token"]()] == ["fail"]


@responses.activate
def test_without_a_token_it_is_seen_all_the_same_whether_a_slurmrestd_answers() -> None:
    url = "http://c2/slurm/v0.0.39/ping"
    found = reach_checks(Config(c2=C2Settings(url="http://c2")))["slurmrestd"]
    responses.get(url, body="Authentication failure", status=401)
    assert [(one.state, one.what) for one in found()] == [("ok", "http://c2 answers")]
    responses.replace(responses.GET, url, body="<html>Welcome")
    assert [one.state for one in run({"slurmrestd": found})] == ["fail"]


def token_of(user: str) -> str:
    parts = ({"alg": "RS256", "kid": "a"}, {"sun": user, "exp": 2_000_000_000})
    return ".".join(
        [*(urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=").decode() for part in parts), "c2ln"]
    )


@responses.activate
def test_a_token_of_another_user_than_the_one_that_is_said_is_a_failure() -> None:
    config = Config(c2=C2Settings(url="http://127.0.0.1:1", user="ann"), token=Secret(token_of("center_a")))
    (found,) = run({"token": c1_checks(config)["token"]})
    assert (found.state, "for user center_a" in found.what, "QUSER" in found.do) == ("fail", True, True)
    assert not responses.calls


@responses.activate
@pytest.mark.parametrize(
    ("recorded", "states"),
    [
        ("slurmdb_dead", ["fail"]),
        ("slurmdb_database_dead", ["fail"]),
        ("slurmdb_job_unknown", ["ok"]),
        ("version_unknown", ["ok"]),  # C2 serves no accounting
        ("slurmdb_auth_other_key", []),  # said of the token
        ("auth_none", []),
    ],
)
@pytest.mark.parametrize("version", ["v0.0.38-of-23.02", "v0.0.39"])
def test_an_accounting_that_is_away_is_a_failure_and_is_not_blamed_for_others(
    version: str, recorded: str, states: list[str]
) -> None:
    spoken = version.partition("-")[0]

    def answers(path: str, name: str) -> None:
        file = ROOT / "tests" / "recorded" / version / f"{name}.json"
        said = msgspec.json.decode(file.read_bytes())["response"]
        body = said["body"] if isinstance(said["body"], str) else msgspec.json.encode(said["body"]).decode()
        kind = said["headers"].get("Content-Type", "text/plain")
        responses.get(f"http://127.0.0.1:1{path}", body=body, status=said["status"], content_type=kind)

    other = "_other_key" if "auth" in recorded else ""
    answers(f"/slurmdb/{spoken}/job/1", recorded)
    answers(f"/slurm/{spoken}/ping", f"auth{other}" if other else "ping")
    answers(f"/slurm/{spoken}/jobs", "auth_other_key_jobs" if other else "jobs")
    settings = C2Settings(url="http://127.0.0.1:1", api_version=spoken)
    config = Config(c2=settings, token=Secret(token_of("center_a")))
    assert [one.state for one in run({"accounting": c1_checks(config)["accounting"]})] == states


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        ({"trouble": "Revoked."}, "fail", "Revoked."),
        ({}, "ok", "not yet known"),
        ({"renewable_until": 1_800_000_000}, "ok", "until 2027-01-15"),
        ({"renewable_until": 1_800_000_000, "ends_soon": True}, "warn", "only until 2027-01-15"),
    ],
)
def test_who_has_an_agent_and_no_token_asks_how_the_agents_is(
    changes: dict[str, object], state: str, said: str
) -> None:
    token = TokenState("center_a", expires=2_000_000_000, renew_at=1.9e9, **changes)  # type: ignore[arg-type]
    config = Config(c2=C2Settings(token_file="/nonexistent"), agent=AgentSettings(socket="/x"))
    assert set(c1_checks(config)) == {"agent", "accounting", "sessions"}
    found = {one.name: one for one in agent_findings(AgentStatus(token, waiting=3, open=1))}
    assert set(found) == {"agent", "token", "renewal"}
    assert "3 submissions not yet sent" in found["agent"].what
    assert (found["renewal"].state, said in found["renewal"].what) == (state, True)


def test_an_agents_clock_that_is_off_is_said() -> None:
    token = TokenState("center_a", expires=2_000_000_000, renew_at=1.9e9, clock_off_s=-600.0)
    found = list(agent_findings(AgentStatus(token, waiting=0, open=0)))
    assert ("clock", "fail", True) in [(one.name, one.state, "600 s behind" in one.what) for one in found]


def test_keys_that_their_service_can_not_read_or_others_can_are_a_failure(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    (tmp_path / "jwks.json").touch()
    tokens = TokensConfig(keys=str(keys), jwks=str(tmp_path / "jwks.json"), socket=str(tmp_path / "none"))
    checks = c2_checks(C2Config(tokens=tokens))
    assert next(iter(checks["keys"]())).state == "ok"
    keys.chmod(0o750)
    assert next(iter(checks["keys"]())).state == "fail"
    assert [one.state for one in checks["renewals"]()] == ["fail"]
    assert [one.state for one in c2_checks(C2Config())["renewals"]()] == ["warn"]


def test_json_is_one_document_and_the_exit_code_says_whether_something_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "config.toml"
    empty.write_text("")
    monkeypatch.delenv("QSLURM_C2_CONFIG", raising=False)
    monkeypatch.setenv("QSLURM_CONFIG", str(empty))
    for name in ("SLURM_JWT", "QSLURM_C2_URL", "QSLURM_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(qslurm, ["doctor", "--json"], standalone_mode=False)
    document = msgspec.json.decode(done.stdout)
    assert (done.return_value, document["ok"]) == (1, False)
    assert {"name", "state", "what", "do"} == set(document["findings"][0])


def test_each_of_several_platforms_is_looked_at_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[c2]\n[platform.tuna]\n[platform.spin]\n")
    monkeypatch.delenv("QSLURM_C2_CONFIG", raising=False)
    monkeypatch.setenv("QSLURM_CONFIG", str(file))
    for name in ("SLURM_JWT", "QSLURM_C2_URL", "QSLURM_TOKEN_FILE", "QSLURM_PLATFORM"):
        monkeypatch.delenv(name, raising=False)

    def findings(*words: str) -> list[tuple[str, str]]:
        done = CliRunner().invoke(qslurm, ["doctor", "--json", *words], standalone_mode=False)
        return [(one["name"], one["do"]) for one in msgspec.json.decode(done.stdout)["findings"]]

    looked_at = [name for name, _ in findings()]
    assert {name.partition(":")[0] for name in looked_at} == {"tuna", "spin"}
    assert all("[platform.tuna]" in do for _, do in findings("--platform", "tuna"))
