"""The job manager's endpoints for clients that follow jobs.

    GET /v1/changes   the center's jobs that have changed (?since= of the last answer; ?wait=, seconds until one does)
    GET /v1/queue     all of the center's jobs, with their queue positions
    GET /v1/places    only the queue positions
    GET /v1/loads     the numbers of waiting and running jobs of all centers in each partition

A job is an array of the fields of JobInfo (slurm/job_info.py). Answers are JSON, or MessagePack for clients that
accept application/msgpack. 503 while there are no current jobs; slurmrestd may have them.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qslurm.c2.config.file import C2Config
from qslurm.c2.config.user_ids import uids_of
from qslurm.c2.jobmanager.center_changes import CenterChanges
from qslurm.c2.jobmanager.center_limits import CenterLimits
from qslurm.c2.jobmanager.feed_server import FeedServer
from qslurm.c2.jobmanager.http import ChunkedResponse, refuse_other_fields
from qslurm.errors import InvalidInputError
from qslurm.protocol.job_changes import QueueListing
from qslurm.system.notifier import Notifier, within

LONGEST_WAIT_S = 50.0
"""Proxies usually time out after 60 s."""

MOST_WAITING = 8
"""Waiting requests of one center; with one more, the oldest is answered at once."""

_WAS_READ = ("was read",)  # a topic of the notifier; centers' names are strings

T = TypeVar("T")


@dataclass
class ChangesTimings:
    """Maximum waits for the gate (seconds)."""

    start_s: float = 5.0
    """For its first reading after a pause."""

    fresh_s: float = 1.0
    """For a new reading before jobs are listed; after that a list half a second old is good enough."""


@dataclass(eq=False)
class _Waiter:
    """A waiting request; a dismissed one is answered at once."""

    event: asyncio.Event
    is_dismissed: bool = False

    def dismiss(self) -> None:
        self.is_dismissed = True
        self.event.set()


class ChangesApi:
    """The endpoints, which wait and so run in the event loop, and the feed from the gate, until `close`."""

    def __init__(self, config: C2Config, timings: ChangesTimings | None = None) -> None:
        self._timings = timings or ChangesTimings()
        self._notifier: Notifier | None = None
        self._waiting: defaultdict[str, list[_Waiter]] = defaultdict(list)
        self._is_closing = False
        self._feed = FeedServer(
            config.jobmanager.feed,
            config.slurm.user_prefix,
            {0, os.getuid(), *uids_of(config.dispatcher.trusted_users, "[dispatcher] trusted_users")},
            self._notify,
            lambda: self._notify(_WAS_READ),
        )
        self._limits: CenterLimits

    def routes(self, authenticate: Callable[[Request], str], limits: CenterLimits) -> list[Route]:
        """The routes. `authenticate` returns a request's center, `limits` bound what it may use."""
        self._limits = limits

        def route(path: str, endpoint: Callable[[Request], Awaitable[Response]], *fields: str) -> Route:
            async def answer(request: Request) -> Response:
                center = request.state.center = authenticate(request)
                limits.begin(request, center)
                refuse_other_fields(request, frozenset(fields))
                if endpoint != self.changes:  # of those MOST_WAITING wait, and for long
                    await limits.turn(request)
                return await endpoint(request)

            return Route(path, answer, methods=["GET"])

        return [
            route("/v1/changes", self.changes, "since", "wait"),
            route("/v1/queue", self.queue),
            route("/v1/places", self.places),
            route("/v1/loads", self.loads),
        ]

    def dismiss(self) -> None:
        """Answer all waiting requests. In the loop's thread only."""
        self._is_closing = True
        for waiting in self._waiting.values():
            for waiter in waiting:
                waiter.dismiss()
        self._notify("")

    def close(self) -> None:
        """Close the feed."""
        self._feed.close()

    async def changes(self, request: Request) -> Response:
        """The changes since a cursor, as soon as there are some."""
        center: str = request.state.center
        since = request.query_params.get("since", "")[:64]
        deadline = asyncio.get_running_loop().time() + _seconds(request)
        with self._waits(center) as waiter:
            page = await self._ask(center, lambda changes: changes.page(center, since))
            while not (page.jobs or page.gone or page.reset or waiter.is_dismissed):
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or not await within(waiter.event, left):
                    break
                waiter.event.clear()
                page = await self._ask(center, lambda changes: changes.page(center, since))
        return await self._answer(request, lambda: page)

    async def queue(self, request: Request) -> Response:
        """All jobs of the center and their queue positions, including those submitted a moment ago."""
        center: str = request.state.center
        await self._be_fresh(center)
        rows = await self._ask(center, lambda changes: changes.jobs(center))

        def listing() -> QueueListing:
            return QueueListing(
                jobs=rows, places=_of(self._feed.places() or {}, [row.job_id for row in rows])
            )

        return await self._answer(request, listing)

    async def places(self, request: Request) -> Response:
        """The queue positions of the center's jobs."""
        center: str = request.state.center
        ids = await self._ask(center, lambda changes: [job.job_id for job in changes.jobs(center)])
        return await self._answer(request, lambda: QueueListing(places=_of(self._feed.places() or {}, ids)))

    async def loads(self, request: Request) -> Response:
        """The load of each partition, which all centers may see."""
        center: str = request.state.center
        await self._be_fresh(center)
        await self._ask(center, lambda _: True)  # raises while there are no current jobs
        return await self._answer(request, lambda: self._feed.loads() or [])

    async def _ask(self, center: str, question: Callable[[CenterChanges], T]) -> T:
        """Query the jobs; waits while the gate starts reading the queue. UnreachableError without current jobs.

        The feed is queried in a thread, here and below: its lock is held while an update is applied.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timings.start_s
        with self._topics().listening("") as event:
            while (answer := await self._limits.work(center, lambda: self._feed.read(question))) is None:
                left = deadline - loop.time()
                if self._is_closing or left <= 0 or not await within(event, left):
                    raise self._feed.unavailable()
                event.clear()
        return answer

    async def _be_fresh(self, center: str) -> None:
        """Wait until the gate has read the queue, for a limited time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timings.fresh_s
        with self._topics().listening(_WAS_READ) as event:
            reading = await self._limits.work(center, self._feed.request_reading)
            while not self._feed.is_answered(reading):
                left = deadline - loop.time()
                if self._is_closing or left <= 0 or not await within(event, left):
                    return
                event.clear()

    async def _answer(self, request: Request, document: Callable[[], object]) -> Response:
        """Build and encode a document in a thread: with ten thousand jobs this takes a while."""
        packed = "application/msgpack" in request.headers.get("accept", "")
        encode, kind = (msgspec.msgpack.encode, "msgpack") if packed else (msgspec.json.encode, "json")
        body = await self._limits.work(request.state.center, lambda: encode(document()))
        return ChunkedResponse(body, media_type=f"application/{kind}")

    @contextmanager
    def _waits(self, center: str) -> Iterator[_Waiter]:
        with self._topics().listening(center, "") as event:
            waiter, waiting = _Waiter(event), self._waiting[center]
            waiting.append(waiter)
            if len(waiting) > MOST_WAITING:
                waiting[0].dismiss()
                del waiting[0]
            try:
                yield waiter
            finally:
                if waiter in waiting:
                    waiting.remove(waiter)

    def _topics(self) -> Notifier:
        if self._notifier is None:
            self._notifier = Notifier(asyncio.get_running_loop())
        return self._notifier

    def _notify(self, what: Hashable) -> None:
        if self._notifier is not None:
            self._notifier.notify(what)


def _of(places: Mapping[int, int], job_ids: Sequence[int]) -> list[tuple[int, int]]:
    return [(job_id, places[job_id]) for job_id in job_ids if job_id in places]


def _seconds(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise InvalidInputError("wait must be a number of seconds.", hint="For example ?wait=25.")
    return min(float(text), LONGEST_WAIT_S)
