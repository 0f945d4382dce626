"""GET /metrics: the counters of the dispatcher and this host's warm runtimes, as OpenMetrics or Prometheus text.

They are queried at each request, at most once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from qslurm.c2.config.file import C2Config
from qslurm.errors import QslurmError
from qslurm.protocol.messages import GetMetrics, Metrics
from qslurm.protocol.metrics import FAMILIES, LabeledHistogram, LabeledValue
from qslurm.runtimes.classical.warm.warm_status import WarmStatus, query_warm_status
from qslurm.system.event_log import EventLog
from qslurm.wire.credentials import Identity

log = EventLog(__name__)

PREFIX = "qslurm_"
PATIENCE_S = 2.0
AGE_S = 1.0
"""Seconds for which counters are cached."""

_WARM: dict[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str]] = {
    "wanted": (GaugeMetricFamily, "Warm runtimes configured on this host."),
    "ready": (GaugeMetricFamily, "Warm runtimes ready on this host."),
    "starting": (GaugeMetricFamily, "Warm runtimes being started."),
    "given": (CounterMetricFamily, "Warm runtimes handed to jobs."),
    "cold": (CounterMetricFamily, "Jobs that got no warm runtime and started their own."),
}


def make_metrics_app(config: C2Config, *, identity: Identity | None = None) -> ASGIApp:
    """The ASGI application for /metrics. `identity` identifies us to the dispatcher (default: by MUNGE)."""
    reader = MetricsReader(config, identity)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        registry = CollectorRegistry(auto_describe=False)
        for collector in reader.collectors():
            registry.register(collector)
        return Response(encode(registry), headers={"Content-Type": content_type})

    app = Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])
    app.router.redirect_slashes = False
    return app


class MetricsReader:
    """Queries the dispatcher and the warm runtimes' service, and caches their answers."""

    def __init__(self, config: C2Config, identity: Identity | None = None) -> None:
        self._config = config
        self._identity = identity
        self._lock = threading.Lock()
        self._found: tuple[Metrics | None, WarmStatus | None] = (None, None)
        self._queried_at = float("-inf")
        self._trouble = ""

    def collectors(self) -> Iterator[Collector]:
        """The current metrics."""
        with self._lock:
            if time.monotonic() - self._queried_at > AGE_S:
                self._found = (
                    self._ask(),
                    query_warm_status(self._config.runtimes.socket, patience_s=PATIENCE_S),
                )
                self._queried_at = time.monotonic()
            metrics, warm = self._found
        yield _Fixed(families(metrics, warm))
        if metrics is not None:
            pid = metrics.pid
            yield ProcessCollector(f"{PREFIX}dispatcher", pid=lambda: pid, registry=None)

    def _ask(self) -> Metrics | None:
        from qslurm.protocol.dispatcher_client import DispatcherClient

        dispatcher = self._config.dispatcher
        try:
            with DispatcherClient(
                dispatcher.socket,
                munge_socket=dispatcher.munge_socket,
                timeout_s=PATIENCE_S,
                identity=self._identity,
            ) as client:
                answer = client.ask(GetMetrics())
        except QslurmError as error:  # dispatcher_up is 0 then
            if error.message != self._trouble:
                log.warning("cannot read the dispatcher's metrics", why=error.message)
            self._trouble = error.message
            return None
        self._trouble = ""
        return answer if isinstance(answer, Metrics) else None


class _Fixed(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def families(metrics: Metrics | None, warm: WarmStatus | None) -> Iterator[Metric]:
    """All metric families; `metrics` is None if the dispatcher does not answer."""
    up = "1 if the dispatcher responds to the job manager."
    yield GaugeMetricFamily(f"{PREFIX}dispatcher_up", up, value=float(metrics is not None))
    if metrics is not None:
        version = {"version": metrics.version}
        yield InfoMetricFamily(f"{PREFIX}build", "The dispatcher's version.", value=version)
        for name, family in FAMILIES.items():
            labels, help_ = family.labels, family.help
            if family.kind == "histogram":
                yield _histogram(name, metrics.spreads.get(name, []))
            elif family.kind == "counter":
                counter = CounterMetricFamily(PREFIX + name, help_, labels=labels)
                yield _filled(counter, metrics.values.get(name, []))
            else:
                yield _filled(
                    GaugeMetricFamily(PREFIX + name, help_, labels=labels), metrics.values.get(name, [])
                )
    if warm is not None:
        for name, (kind, help_) in _WARM.items():
            yield kind(f"{PREFIX}warm_runtimes_{name}", help_, value=float(getattr(warm, name)))


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: Sequence[LabeledValue]
) -> CounterMetricFamily | GaugeMetricFamily:
    for one in values:
        family.add_metric(one.labels, one.value)
    return family


def _histogram(name: str, spreads: Sequence[LabeledHistogram]) -> HistogramMetricFamily:
    table = FAMILIES[name]
    family = HistogramMetricFamily(PREFIX + name, table.help, labels=table.labels)
    bounds = [*(repr(bound) for bound in table.bounds), "+Inf"]
    for one in spreads:
        family.add_metric(
            one.labels, list(zip(bounds, accumulate(one.counts), strict=True)), sum_value=one.total
        )
    return family
