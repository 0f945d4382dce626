"""The job manager's endpoints for who follows jobs: what has changed, and who is next.

    GET /v1/changes   the center's jobs that have changed (?since=, of the last answer; ?wait=, seconds until one does)
    GET /v1/queue     all of the center's jobs, with their places in line
    GET /v1/places    only the places
    GET /v1/loads     how many jobs wait and run in each partition, those of other centers, too

Each job is an array, of the fields of JobInfo (slurm/job_info.py). Answers are JSON, or MessagePack for who accepts
application/msgpack. 503 while nobody can say how the jobs are; slurmrestd may know.
"""

from __future__ import annotations

import asyncio
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
from qslurm.c2.jobmanager.center_changes import CenterChanges
from qslurm.c2.jobmanager.center_limits import CenterLimits
from qslurm.c2.jobmanager.feed_server import FeedServer
from qslurm.c2.jobmanager.http import InPieces, refuse_other_fields
from qslurm.errors import InvalidInputError
from qslurm.protocol.job_changes import QueueListing
from qslurm.system.notifier import Notifier, within

LONGEST_WAIT_S = 50.0
"""A proxy gives up on an answer after 60 s, as a rule."""

BEGIN_S = 5.0
"""For the gate to look, after it has rested."""

FRESH_S = 1.0
"""So long a list waits for the gate to look: one that is half a second old is better than none."""

MOST_WAITING = 8
"""Questions of one center that wait; one more, and the oldest is answered at once."""

_LOOKED = ("looked",)  # a bell that no center's name can be

T = TypeVar("T")


@dataclass(eq=False)
class _Waiter:
    """A question that waits; one that is dismissed is answered at once."""

    event: asyncio.Event
    is_dismissed: bool = False

    def dismiss(self) -> None:
        self.is_dismissed = True
        self.event.set()


class ChangesApi:
    """The endpoints. They wait, so they run in the event loop. It listens to the gate until it is closed."""

    def __init__(self, config: C2Config) -> None:
        self._bell: Notifier | None = None
        self._waiting: defaultdict[str, list[_Waiter]] = defaultdict(list)
        self._is_closing = False
        trusted = config.dispatcher.trusted_users
        prefix = config.slurm.user_prefix
        self._feed = FeedServer(
            config.jobmanager.feed, prefix, trusted, self._ring, lambda: self._ring(_LOOKED)
        )
        self._limits: CenterLimits

    def routes(self, authenticate: Callable[[Request], str], limits: CenterLimits) -> list[Route]:
        """Their paths. `authenticate` says which center asks, `limits` count what it asks."""
        self._limits = limits

        def route(path: str, endpoint: Callable[[Request], Awaitable[Response]], *fields: str) -> Route:
            async def answer(request: Request) -> Response:
                center = request.state.center = authenticate(request)
                limits.begin(request, center)
                refuse_other_fields(request, frozenset(fields))
                if endpoint != self.changes:  # of those few wait at a time, and for long
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
        """Answer all who wait. In the loop's thread only."""
        self._is_closing = True
        for waiting in self._waiting.values():
            for waiter in waiting:
                waiter.dismiss()
        self._ring("")

    def close(self) -> None:
        """Listen to the gate no more."""
        self._feed.close()

    async def changes(self, request: Request) -> Response:
        """What has changed since; as soon as something has."""
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
        """All jobs of the center, and their places; those that were submitted a moment ago, too."""
        center: str = request.state.center
        await self._be_fresh(center)
        rows = await self._ask(center, lambda changes: changes.jobs(center))

        def line() -> QueueListing:
            return QueueListing(
                jobs=rows, places=_of(self._feed.places() or {}, [row.job_id for row in rows])
            )

        return await self._answer(request, line)

    async def places(self, request: Request) -> Response:
        """The center's places."""
        center: str = request.state.center
        ids = await self._ask(center, lambda changes: [job.job_id for job in changes.jobs(center)])
        return await self._answer(request, lambda: QueueListing(places=_of(self._feed.places() or {}, ids)))

    async def loads(self, request: Request) -> Response:
        """How many jobs wait and run in each partition: that much of each other centers may know."""
        center: str = request.state.center
        await self._be_fresh(center)
        await self._ask(center, lambda _: True)  # or say why nobody knows
        return await self._answer(request, lambda: self._feed.loads() or [])

    async def _ask(self, center: str, question: Callable[[CenterChanges], T]) -> T:
        """The table's answer; the gate may need a moment to begin. UnreachableError if it does not come.

        The feed is asked in a thread, here and below: its lock is held while what the gate says is taken in.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BEGIN_S
        with self._rings().listening("") as event:
            while (answer := await self._limits.work(center, lambda: self._feed.read(question))) is None:
                left = deadline - loop.time()
                if self._is_closing or left <= 0 or not await within(event, left):
                    raise self._feed.silence()
                event.clear()
        return answer

    async def _be_fresh(self, center: str) -> None:
        """Wait until the gate has looked, unless that takes long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FRESH_S
        with self._rings().listening(_LOOKED) as event:
            question = await self._limits.work(center, self._feed.demand)
            while not self._feed.has_looked(question):
                left = deadline - loop.time()
                if self._is_closing or left <= 0 or not await within(event, left):
                    return
                event.clear()

    async def _answer(self, request: Request, document: Callable[[], object]) -> Response:
        """Make a document, and the answer of it, in a thread: of ten thousand jobs both take a while."""
        packed = "application/msgpack" in request.headers.get("accept", "")
        encode, kind = (msgspec.msgpack.encode, "msgpack") if packed else (msgspec.json.encode, "json")
        body = await self._limits.work(request.state.center, lambda: encode(document()))
        return InPieces(body, media_type=f"application/{kind}")

    @contextmanager
    def _waits(self, center: str) -> Iterator[_Waiter]:
        with self._rings().listening(center, "") as event:
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

    def _rings(self) -> Notifier:
        if self._bell is None:
            self._bell = Notifier(asyncio.get_running_loop())
        return self._bell

    def _ring(self, what: Hashable) -> None:
        if self._bell is not None:
            self._bell.ring(what)


def _of(places: Mapping[int, int], job_ids: Sequence[int]) -> list[tuple[int, int]]:
    return [(job_id, places[job_id]) for job_id in job_ids if job_id in places]


def _seconds(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise InvalidInputError("wait must be a number of seconds.", hint="For example ?wait=25.")
    return min(float(text), LONGEST_WAIT_S)
