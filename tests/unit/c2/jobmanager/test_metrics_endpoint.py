"""GET /metrics, beside a real dispatcher that has executed real circuits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config
from qslurm.c2.config.jobmanager_section import MetricsConfig
from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.c2.jobmanager.http_service import answering_metrics
from qslurm.c2.jobmanager.metrics_endpoint import families
from qslurm.errors import ConfigError, UnreachableError
from qslurm.protocol.messages import Finish, Metrics
from qslurm.protocol.metrics import FAMILIES, Counters, LabeledValue
from qslurm.runtimes.classical.warm.warm_status import WarmStatus
from tests.unit.c2.dispatcher.running import BELL, Running, circuit_job, slow_circuit
from tests.unit.runtimes.lanes.test_leases import couple, session
from tests.unit.waiting import until

UID = os.getuid()
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture(scope="module")
def url(shared: Running) -> Iterator[str]:
    config = C2Config(
        dispatcher=shared.config,
        metrics=MetricsConfig(listen="127.0.0.1:0"),
        runtimes=RuntimesConfig(socket=str(shared.folder / "warm")),
    )
    with answering_metrics(config, identity=shared.identity) as port:
        yield f"http://127.0.0.1:{port}/metrics"


def samples(url: str) -> list[Sample]:
    """All samples, as Prometheus' own parser of OpenMetrics reads them."""
    answer = requests.get(url, headers=OPENMETRICS, timeout=20)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    return [sample for family in parse_openmetrics(answer.text) for sample in family.samples]


def total(found: list[Sample], name: str, **labels: str) -> float:
    """The sum of all series with these labels."""
    return sum(one.value for one in found if one.name == name and labels.items() <= one.labels.items())


def stored(running: Running) -> dict[str, float]:
    """What the store says has been executed."""
    import sqlite3

    connection = sqlite3.connect(running.config.store)
    try:
        done, failed, seconds, shots = connection.execute(
            "SELECT sum(state = 'done'), sum(state = 'failed'), sum(seconds), sum(shots_done) FROM executions"
        ).fetchone()
    finally:
        connection.close()
    return {"done": done, "failed": failed, "seconds": seconds, "shots": shots}


def test_the_numbers_are_those_of_the_store(shared: Running, url: str) -> None:
    shared.ask(circuit_job(1, uid=UID, shots=300))
    with session(shared, 2) as step:
        couple(step)
        for _ in range(20):
            step.execute(BELL, 10, False)
        with pytest.raises(Exception, match="instruction"):
            step.execute(BELL.replace("H ", "HH "), 10, False)
        step.execute(BELL, 10, True)  # raw data: not by lane
        step.conclude(final_result="{}")
    shared.ask(circuit_job(3, slow_circuit(24), uid=UID, shots=1))
    until(shared.executing)
    shared.ask(Finish(job_id=3, restart=0, state="CANCELLED"))
    until(lambda: total(samples(url), "qslurm_executions_total", outcome="withdrawn") == 1)
    found, truth = samples(url), stored(shared)
    for outcome in ("done", "failed"):
        assert total(found, "qslurm_executions_total", outcome=outcome, center="a") == truth[outcome]
    assert total(found, "qslurm_executions_total", way="lane") >= 20
    assert total(found, "qslurm_qpu_seconds_total", backend="qx") == pytest.approx(truth["seconds"])
    assert total(found, "qslurm_shots_total", backend="qx") == truth["shots"]
    over = truth["done"] + truth["failed"]
    assert total(found, "qslurm_execution_seconds_count", backend="qx") == over
    by_dispatcher = sum(
        total(found, "qslurm_executions_total", way="dispatcher", outcome=one) for one in ("done", "failed")
    )
    assert total(found, "qslurm_queue_wait_seconds_count") == by_dispatcher + 1
    assert total(found, "qslurm_step_seconds_count") == by_dispatcher - 1
    assert total(found, "qslurm_admission_seconds_count") == 3
    assert total(found, "qslurm_admissions_total", answer="admitted") == 3
    assert total(found, "qslurm_jobs_ended_total", state="finished") == 2
    assert total(found, "qslurm_jobs_ended_total", state="cancelled") == 1
    assert total(found, "qslurm_leases_total") >= 1
    assert total(found, "qslurm_store_commit_seconds_count") > 3


def test_what_is_there_now_is_there(shared: Running, url: str) -> None:
    for job_id in (11, 12, 13):
        shared.ask(circuit_job(job_id, slow_circuit(24), uid=UID, shots=1))
    until(lambda: total(samples(url), "qslurm_queue_length", backend="qx") == 2)
    found = samples(url)
    assert total(found, "qslurm_executing", backend="qx") == 1
    assert total(found, "qslurm_backend_up", backend="qx") == 1
    assert total(found, "qslurm_backend_state", state="executing") == 1
    assert total(found, "qslurm_backend_state") == 1
    assert total(found, "qslurm_open_jobs", center="a", kind="circuit") == 3
    assert total(found, "qslurm_open_jobs", state="running") == 1
    for job_id in (13, 12, 11):
        shared.ask(Finish(job_id=job_id, restart=0, state="CANCELLED"))
    until(lambda: total(samples(url), "qslurm_open_jobs") == 0)


def test_who_wants_the_old_text_gets_it_and_every_metric_says_what_it_is(url: str) -> None:
    answer = requests.get(url, timeout=20)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in parse_text(answer.text)}
    for name, family in FAMILIES.items():
        assert found[f"qslurm_{name}"].documentation == family.help
        assert found[f"qslurm_{name}"].type == family.kind
    assert found["qslurm_build_info"].samples[0].labels["version"]
    assert found["qslurm_dispatcher_process_resident_memory_bytes"].samples[0].value > 1e6


def test_nothing_else_is_there(url: str) -> None:
    base = url.removesuffix("/metrics")
    assert requests.get(f"{base}/v1/jobs", timeout=20).status_code == 404
    assert requests.get(f"{base}/healthz", timeout=20).status_code == 404
    assert requests.post(url, timeout=20).status_code == 405


def test_a_dispatcher_that_is_away_is_a_number_too() -> None:
    config = C2Config(
        dispatcher=DispatcherConfig(socket="/nonexistent/d.sock", munge_socket="/nonexistent/m.sock"),
        metrics=MetricsConfig(listen="127.0.0.1:0"),
        runtimes=RuntimesConfig(socket="/nonexistent/warm.sock"),
    )
    with answering_metrics(config) as port:
        found = samples(f"http://127.0.0.1:{port}/metrics")
    assert [(one.name, one.value) for one in found] == [("qslurm_dispatcher_up", 0.0)]


def test_no_address_is_no_listener_and_a_wrong_or_taken_one_is_said() -> None:
    with answering_metrics(C2Config()) as port:
        assert port == 0
    with (
        pytest.raises(ConfigError, match=r"\[metrics\]"),
        answering_metrics(C2Config(metrics=MetricsConfig(listen="0.0.0.0:9042"))),
    ):
        pass
    with answering_metrics(C2Config(metrics=MetricsConfig(listen="127.0.0.1:0"))) as port:
        taken = C2Config(metrics=MetricsConfig(listen=f"127.0.0.1:{port}"))
        with pytest.raises(UnreachableError, match="for metrics"), answering_metrics(taken):
            pass


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a}b{", "ä 😀", "", "a,b=c", "\x1b[2J", "x" * 5000])
def test_odd_names_stay_one_label(name: str) -> None:
    counters = Counters()
    counters.execution(name, name, "done", "lane", seconds=0.5, shots=1)
    metrics = Metrics(version="1", pid=1, values=counters.values(), spreads=counters.spreads())
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    class Fixed:
        def collect(self) -> list[Any]:
            return list(families(metrics, None))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Fixed())  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    found = [one for family in parse_openmetrics(text) for one in family.samples]
    assert total(found, "qslurm_executions_total", backend=name, center=name) == 1


def test_warm_runtimes_are_counted_where_they_are() -> None:
    warm = WarmStatus(ready=1, wanted=2, given=7, confined=True, pid=1, cold=3)
    found = {one.name: one.value for family in families(None, warm) for one in family.samples}
    assert found["qslurm_warm_runtimes_ready"] == 1
    assert found["qslurm_warm_runtimes_given_total"] == 7
    assert found["qslurm_warm_runtimes_cold_total"] == 3


def test_what_a_later_dispatcher_counts_besides_is_left_out() -> None:
    values = Counters().values() | {"new": [LabeledValue((), 1.0)]}
    metrics = Metrics(version="2", pid=1, values=values, spreads={})
    assert "qslurm_new" not in [family.name for family in families(metrics, None)]
