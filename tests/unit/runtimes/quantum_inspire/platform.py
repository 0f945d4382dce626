"""A Quantum Inspire of our own: the job manager's Compute API over HTTP, with QX behind it, and things that go wrong.

Whatever is asked of it arrives over a real connection; only Slurm is not there: jobs are run by QX in this process.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qslurm.c2.jobmanager.center_limits import CenterLimits
from qslurm.c2.jobmanager.compute_api.api_records import ApiRecords
from qslurm.c2.jobmanager.compute_api.endpoints import ComputeApi
from qslurm.c2.jobmanager.compute_api.runner import ApiCaller, MeasuredCircuit, Progress
from qslurm.c2.jobmanager.http import with_headers
from qslurm.errors import QslurmError, TokenError
from qslurm.payload.spec import JobSpec
from qslurm.protocol.messages import BackendStatus
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.qx import simulate

TOKEN = "token-that-nobody-may-see"
REFRESH = "refresh-token-that-nobody-may-see"
BACKEND = "QX emulator"


class QxRunner:
    """Runs circuits when they are asked after, unless they are held."""

    def __init__(self) -> None:
        self._last = 0
        self.new()

    def new(self) -> None:
        """Forget what has happened."""
        self.state, self.reason = "idle", ""
        self.begun: list[JobSpec] = []
        self.executed: list[int] = []
        self.cancelled: list[int] = []
        self.hold = ""
        """A status that jobs have instead of being run."""
        self.fails = ""
        """What jobs fail with."""
        self.silent_results = 0
        """How often a finished job's result is not there yet."""
        self.seconds = 0.0
        self.by_qubit = False
        """Whether results are keyed by qubit, as QX itself gives them, and not by classical bit."""
        self.change: Callable[[MeasuredCircuit], MeasuredCircuit] = lambda measured: measured
        self._done: dict[int, MeasuredCircuit] = {}

    def backends(self) -> list[BackendStatus]:
        return [
            BackendStatus(
                name=BACKEND, state=self.state, reason=self.reason, since=0.0, qubits=12, max_shots=4096,
                default_shots=1024, runtimes=1, queued=0, executing=0,
            )
        ]  # fmt: skip

    def begin(self, caller: ApiCaller, spec: JobSpec) -> int:
        del caller
        known = [number for number, one in enumerate(self.begun, 1) if one.key == spec.key]
        if known:
            return known[0]
        self.begun.append(spec)
        return len(self.begun)

    def progress(self, caller: ApiCaller, runs: Sequence[int]) -> dict[int, Progress]:
        del caller
        return {run: self._progress(run) for run in runs}

    def _progress(self, run: int) -> Progress:
        if self.hold:
            return Progress(self.hold)  # type: ignore[arg-type]
        if self.fails:
            return Progress("failed", self.fails, time.time())
        if run not in self._done:
            self._run(run)
        return Progress("completed", "", time.time())

    def _run(self, run: int) -> None:
        spec = self.begun[run - 1]
        self.executed.append(run)
        try:
            outcome = self._simulate(spec)
        except QslurmError as error:
            self.fails = str(error)
            return
        self._done[run] = self.change(
            MeasuredCircuit(
                number=run, at=time.time(), counts=raw(outcome.counts), raw_data=raw(outcome.raw_data),
                shots_requested=outcome.shots_requested, shots_done=outcome.shots_done, seconds=self.seconds,
            )
        )  # fmt: skip

    def _simulate(self, spec: JobSpec) -> Outcome:
        shots = spec.shots or 1024
        if not self.by_qubit:
            return simulate(spec.source, shots, raw_data=spec.raw_data, file=spec.file)
        import qxelarator

        found = qxelarator.execute_string(spec.source, iterations=shots).results
        return Outcome(counts=found, shots_requested=shots, shots_done=shots, seconds=0.0)

    def results(self, caller: ApiCaller, run: int) -> tuple[int, int]:
        del caller
        if self.silent_results > 0:
            self.silent_results -= 1
            return 0, 0
        return int(run in self._done), len(self._done[run].counts) if run in self._done else 0

    def measured(self, caller: ApiCaller, run: int, first: int, most: int) -> list[MeasuredCircuit]:
        del caller
        return [self._done[run]][first : first + most] if run in self._done else []

    def final_result(self, caller: ApiCaller, run: int) -> msgspec.Raw | None:
        return None

    def cancel(self, caller: ApiCaller, run: int) -> None:
        self.cancelled.append(run)

    def log(self, caller: ApiCaller, run: int) -> list[str]:
        return [f"line {number}" for number in range(5)]


class Fault(NamedTuple):
    """What goes wrong with requests whose method and path match, and how often still.

    `what`: "lost" (the request is not heard), "cut" (it is done, its answer does not arrive), "silent" (it is done,
    and the answer never comes), "rubbish", "huge", or a status such as "503".
    """

    pattern: re.Pattern[str]
    what: str
    times: int
    detail: str


class Platform:
    """The server, in a thread of this process."""

    def __init__(self, folder: Path) -> None:
        self.runner = QxRunner()
        self.requests: list[str] = []
        self.tokens = {TOKEN}
        self.renewals: list[dict[str, str]] = []
        self.refuse_renewal = False
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._records = ApiRecords(folder / "records.db")
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/qi"
        limits = CenterLimits()
        api = ComputeApi(self._records, self.runner, self._authenticate, limits, self.url)
        token = Route("/oidc/token", self._renew, methods=["POST"])
        app = Starlette(routes=[Mount("/qi", routes=[token, *api.routes()])])
        app.router.redirect_slashes = False
        config = uvicorn.Config(
            self._with_faults(with_headers(app, limits)),
            lifespan="off",
            log_level="critical",
            timeout_graceful_shutdown=0,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        until = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < until
            time.sleep(0.005)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._records.close()

    def goes_wrong(self, pattern: str, what: str, *, times: int = 1, detail: str = "not today") -> None:
        with self._lock:
            self._faults.append(Fault(re.compile(pattern), what, times, detail))

    def new(self) -> None:
        """Forget what has happened, but for the records."""
        self.is_well()
        self.runner.new()
        self.requests.clear()
        self.renewals.clear()
        self.tokens = {TOKEN}
        self.refuse_renewal = False

    def is_well(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def count(self, pattern: str) -> int:
        """How many requests of this kind have been heard."""
        return sum(1 for request in self.requests if re.fullmatch(pattern, request))

    def credentials(self, path: Path, **changes: Any) -> Path:
        """The file that the official client logs in with."""
        auth = {
            "client_id": "x",
            "code_challenge_method": "S256",
            "code_verifyer_length": 64,
            "well_known_endpoint": f"{self.url}/oidc/.well-known/openid-configuration",
            "tokens": {
                "access_token": TOKEN,
                "expires_in": 3600,
                "refresh_token": REFRESH,
                "generated_at": time.time(),
            },
            "team_member_id": 7,
        }
        auth["tokens"].update(changes.pop("tokens", {}))  # type: ignore[attr-defined]
        auth.update(changes)
        path.touch(mode=0o600)
        path.write_text(json.dumps({"default_host": self.url, "auths": {self.url: auth}}))
        return path

    def _authenticate(self, request: Request) -> ApiCaller:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise TokenError("This token is not known here.")
        return ApiCaller("delft", token)

    async def _renew(self, request: Request) -> Response:
        from urllib.parse import parse_qsl

        form = dict(parse_qsl((await request.body()).decode()))
        self.renewals.append(form)
        if self.refuse_renewal:
            return JSONResponse({"error": "invalid_grant"}, 400)
        fresh = f"{TOKEN}-{len(self.renewals)}"
        self.tokens.add(fresh)
        return JSONResponse(
            {"access_token": fresh, "refresh_token": f"{REFRESH}-{len(self.renewals)}", "expires_in": 3600}
        )

    def _fault(self, request: str) -> Fault | None:
        with self._lock:
            for at, fault in enumerate(self._faults):
                if fault.pattern.fullmatch(request):
                    if fault.times > 1:
                        self._faults[at] = fault._replace(times=fault.times - 1)
                    else:
                        del self._faults[at]
                    return fault
        return None

    def _with_faults(self, app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            request = f"{scope['method']} {scope['path'].removeprefix('/qi')}"
            self.requests.append(request)
            fault = self._fault(request)
            if fault is None:
                await app(scope, receive, send)
                return
            if fault.what in {"cut", "silent"}:
                await app(scope, receive, _nowhere)
            await _go_wrong(fault, receive, send)

        return wrapped


def raw(value: object) -> msgspec.Raw | None:
    """As the store has it."""
    return None if value is None else msgspec.Raw(msgspec.json.encode(value))


async def _go_wrong(fault: Fault, receive: Receive, send: Send) -> None:
    if fault.what == "silent":
        while (await receive())["type"] != "http.disconnect":
            await asyncio.sleep(0.01)
        return
    if fault.what in {"lost", "cut"}:  # the answer's beginning, and then the connection's end
        await _begin(send, 200, length=1000)
        raise ConnectionAbortedError
    if fault.what == "rubbish":
        await _begin(send, 200)
        await send({"type": "http.response.body", "body": b'[{"items": 1'})
    elif fault.what == "huge":
        await _begin(send, 200)
        for _ in range(33):
            await send({"type": "http.response.body", "body": b" " * (1 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b"{}"})
    else:
        await _begin(send, int(fault.what))
        await send({"type": "http.response.body", "body": json.dumps({"detail": fault.detail}).encode()})


async def _begin(send: Send, status: int, length: int | None = None) -> None:
    headers = [(b"content-type", b"application/json")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _nowhere(_message: Message) -> None:
    """Where the answer of a request goes whose connection is cut."""
