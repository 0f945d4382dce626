"""What operators, centers and Prometheus see while jobs run on C2, and what the services log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qslurm.payload.envelope import Envelope, pack
from qslurm.payload.handover import SHIPPED
from tests.unit.logfmt import read_all

if TYPE_CHECKING:
    from c2_platform import Platform

pytestmark = pytest.mark.slurm

SLOW = "version 3.0\nqubit[24] q\nbit[24] b\nH q\nb = measure q\n"
COUPLES = '''
BELL = """version 3.0
qubit[2] q
bit[2] b
H q[0]
CNOT q[0], q[1]
b = measure q
"""

def execute(qi):
    while True:
        qi.execute_circuit(BELL, 100)

def finalize(measured):
    return {}
'''


def submit(platform: Platform, kind: Any, source: str, *, user: str = "center_snellius") -> int:
    data = pack(Envelope(kind=kind, source=source, file=f"job.{kind}", shots=1))
    return platform.submit(f"{SHIPPED[-1]}{data}\n", user=user, kind=kind)


def status(platform: Platform, user: str = "root") -> dict[str, Any]:
    found = json.loads(platform.operator("dispatcher", "status", "--json", user=user))
    assert isinstance(found, dict)
    return found


def total(platform: Platform, name: str, **labels: str) -> float:
    """The sum of all series of a metric with these labels."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    text = requests.get(platform.testbed.metrics_url, headers=accept, timeout=30).text
    samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def test_what_holds_a_backend_and_what_waits_is_shown_to_those_it_concerns(platform: Platform) -> None:
    slow = submit(platform, "circuit", SLOW)
    platform.until(lambda: status(platform)["backends"][0]["executing"] == 1)
    couples = submit(platform, "hybrid", COUPLES, user="center_lumi")
    platform.until(lambda: status(platform)["queue"])
    seen = status(platform)
    (waiting,) = seen["queue"]
    assert (waiting["job_id"], waiting["center"], waiting["position"]) == (couples, "lumi", 1)
    assert waiting["reason"] == "1 of 1 in the queue of qx"
    assert sorted(task["job_id"] for task in seen["tasks"]) == [slow, couples]
    assert seen["runtimes"]["wanted"] == 2
    own = status(platform, "center_snellius")
    assert ([task["job_id"] for task in own["tasks"]], own["queue"], own["open_jobs"]) == ([slow], [], 2)
    stranger = status(platform, "qs_bob")
    assert (stranger["tasks"], stranger["queue"], stranger["backends"][0]["queued"]) == ([], [], 1)
    assert total(platform, "qslurm_open_jobs", center="lumi", kind="hybrid") == 1

    platform.testbed.c2(["scancel", str(slow)])
    platform.until(lambda: status(platform)["holds"])
    assert {(hold["job_id"], hold["by"]) for hold in status(platform)["holds"]} == {(couples, "lane")}
    assert status(platform, "center_snellius")["holds"] == []
    table = platform.operator("dispatcher", "status")
    assert f"{couples}" in next(line for line in table.splitlines() if " lane " in line)
    platform.until(lambda: total(platform, "qslurm_executions_total", center="lumi", way="lane") > 100)

    platform.testbed.c2(["scancel", str(couples)])
    platform.until(lambda: total(platform, "qslurm_open_jobs") == 0)
    assert total(platform, "qslurm_jobs_ended_total", center="lumi", state="cancelled") >= 1
    assert total(platform, "qslurm_warm_runtimes_given_total") >= 1
    assert total(platform, "qslurm_dispatcher_up") == 1


@pytest.fixture
def written(platform: Platform) -> Iterator[Callable[[], list[dict[str, str]]]]:
    """All lines that services have logged since the test began."""
    logs = platform.testbed.layout.logs
    files = [logs / f"{name}.log" for name in ("dispatcher", "gate", "jobmanager", "runtimes", "tokens")]
    files.append(platform.gate_folder / "hooks.log")
    begins = {file: file.stat().st_size if file.exists() else 0 for file in files}

    def since(file: Path) -> str:
        with file.open() as text:
            text.seek(begins[file])
            return text.read()

    def lines() -> list[dict[str, str]]:
        texts = [since(file) for file in files if file.exists()]
        for secret in ("MUNGE:", platform.testbed.token("snellius"), "measure q", "execute_circuit"):
            assert not any(secret in text for text in texts)
        return [line for text in texts for line in read_all(text)]

    yield lines


def test_each_line_of_every_service_can_be_read_and_a_jobs_lines_have_its_id(
    platform: Platform, written: Callable[[], list[dict[str, str]]]
) -> None:
    done = submit(platform, "hybrid", COUPLES.replace("while True", "for _ in range(50)"))
    platform.until_state(done, "COMPLETED")
    hopeless = submit(platform, "circuit", "version 3.0\nqubit q\nNonsense q\n")
    platform.until_state(hopeless, "CANCELLED")
    platform.operator("backend", "offline", "qx", "--reason", "two words")
    with platform.without_gate():
        platform.scontrol("update", "PartitionName=p_qx", "State=UP")
        waits = platform.submit_bell()
        platform.until_turned_away(waits)
    platform.operator("backend", "online", "qx")
    platform.until_state(waits, "COMPLETED")
    platform.until(lambda: not platform.open_tasks())

    lines = written()
    for job_id, expected in (
        (done, {"prolog admitted", "epilog ended", "dispatcher job changes", "dispatcher step attaches",
                "runtimes warm runtime assigned"}),
        (hopeless, {"prolog cancelled", "dispatcher job refused", "dispatcher job changes"}),
        (waits, {"prolog requeued", "prolog admitted", "gate job released"}),
    ):  # fmt: skip
        own = [line for line in lines if line.get("job") == str(job_id)]
        assert expected <= {f"{line['part']} {line['event']}" for line in own}
        assert {line["center"] for line in own} == {"snellius"}
    states = [
        line["state"] for line in lines if line.get("job") == str(done) and "kind" in line and "state" in line
    ]
    assert states == ["admitted", "running", "finished"]
    assert {"backend set", "partition set"} <= {line["event"] for line in lines}
    assert any(line.get("why") == "two words" for line in lines)
