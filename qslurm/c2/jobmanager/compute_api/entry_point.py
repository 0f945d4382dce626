"""The entry point of the Compute API as a plug-in of the job manager."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from qslurm.c2.config.file import C2Config
from qslurm.c2.jobmanager.center_limits import CenterLimits
from qslurm.c2.jobmanager.compute_api.api_records import ApiRecords
from qslurm.c2.jobmanager.compute_api.endpoints import ComputeApi
from qslurm.c2.jobmanager.compute_api.runner import ApiCaller
from qslurm.c2.jobmanager.compute_api.slurm_runner import SlurmRunner
from qslurm.c2.jobmanager.http import token_of
from qslurm.c2.jobmanager.shared_status import SharedStatus


def routes(
    config: C2Config, center_of: Callable[[Request], str], status: SharedStatus, limits: CenterLimits
) -> list[Route]:
    """The routes below /quantum-inspire. `center_of` returns the center of a request's token, or raises TokenError."""

    def authenticate(request: Request) -> ApiCaller:
        return ApiCaller(center_of(request), token_of(request))

    section = config.jobmanager
    runner = SlurmRunner(config, lambda: status.get().backends)
    url = (section.url or f"http://{section.listen}").rstrip("/") + "/quantum-inspire"
    return ComputeApi(ApiRecords(section.compute), runner, authenticate, limits, url).routes()
