"""Quantum runtimes on other hosts: their identity, their health, and when they count as lost.

They connect by TCP with CURVE encryption, each with a key that an operator has allowed for one backend and that
identifies it. A disconnected runtime keeps its orders for a while: it may finish them and reconnect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qslurm.c2.config.dispatcher_section import RemoteConfig
from qslurm.c2.dispatcher.listeners.connection_limits import ConnectionLimits, end_connection
from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.pool.remote_orders import Remote, RemoteOrders, log_fields_of
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.protocol.curve.allowed_keys import AllowedKeys, KeyOwner
from qslurm.protocol.curve.key_files import read_keys
from qslurm.protocol.curve.zap import ZapHandler, sender_key
from qslurm.protocol.messages import Message
from qslurm.protocol.messages.remote_runtimes import (
    FRAME_LIMIT,
    MISSED_HEARTBEATS,
    PROTOCOL,
    Declined,
    Enlist,
    Enlisted,
    FromRuntime,
    HeartbeatReply,
    Leave,
    RemoteResult,
    RuntimeHeartbeat,
    decode_from_runtime,
    encode_frames,
)
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

CHECK_S = 0.5
"""How often the folder of allowed keys is read."""

_DOMAIN = "runtimes"


@dataclass(frozen=True)
class _Origin:
    """The sender of a message: its key, and the address for replies."""

    key: bytes
    holder: KeyOwner
    address: bytes
    descriptor: int


class RemoteRuntimePool:
    """All runtimes on other hosts. Poll `sources`; every round call `receive`, `check`, `assign`, and once all changes
    are stored `confirm`. Times are monotonic seconds.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        registry: TaskRegistry,
        config: RemoteConfig,
        *,
        limit_s: float,
        numbers: Iterator[int],
    ) -> None:
        import zmq

        self.backend_types: dict[str, BackendType] = {}
        self._registry = registry
        self._config = config
        self._away_s = config.beat_s * MISSED_HEARTBEATS
        self._limit_s = limit_s
        self._numbers = numbers
        self._remotes: dict[bytes, Remote] = {}
        self._orders = RemoteOrders(registry, self._send, limit_s=limit_s, grace_s=config.grace_s)
        self._allowed = AllowedKeys(Path(config.allowed))
        self._next_check = 0.0
        self._zap = ZapHandler(context)
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.maxmsgsize = FRAME_LIMIT
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._socket.heartbeat_ivl = round(config.beat_s * 1000)
        self._socket.heartbeat_timeout = round(self._away_s * 1000)
        self._zap.guard(self._socket, read_keys(Path(config.key)), _DOMAIN, self._admits)
        self._connection_limits = ConnectionLimits(self._socket)
        self.sources = (self._socket, self._zap.socket, self._connection_limits.monitor)

    def bind(self) -> str:
        """Listen. Returns the address; QslurmError if it cannot."""
        import zmq

        try:
            self._socket.bind(self._config.listen)
        except zmq.ZMQError as error:
            raise QslurmError(
                f"[remote] listen: cannot listen on {self._config.listen}: {error}.",
                hint="Use tcp://ADDRESS:PORT, with an address of this host and a free port.",
            ) from error
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def receive(self, now: float) -> None:
        """Handle all received messages."""
        import zmq

        self._zap.handle()
        self._connection_limits.process_events()
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if len(frames) > 1:
                self._handle(frames[0].bytes, frames[1:], now)

    def check(self, now: float) -> None:
        """Disconnect runtimes with a revoked key; give up lost runtimes and overdue orders."""
        if now >= self._next_check:
            self._next_check = now + CHECK_S
            self._allowed.reload()
            self._orders.tidy()
        for remote in list(self._remotes.values()):
            silent = now - remote.last_seen
            if self._allowed.keys.get(remote.key) != remote.holder:
                self._lose(remote, "The key of the quantum runtime was revoked")
                end_connection(remote.descriptor)
            elif silent > (self._config.grace_s if remote.orders else self._away_s):
                self._lose(remote, "Lost the connection to the quantum runtime on another host")
            elif not remote.away and silent > self._away_s:
                remote.away = True
                log.warning("runtime not responding", **log_fields_of(remote.holder))
            self._orders.give_up_overdue(remote, now)
            self._orders.match_unclaimed(remote)

    def assign(self) -> None:
        """Assign orders to all runtimes that can take some; `confirm` sends them."""
        for remote in self._remotes.values():
            while not remote.away and remote.health.ready and len(remote.orders) < remote.workers:
                if not self._orders.assign_one(remote):
                    break

    def drop(self, numbers: Iterable[int]) -> None:
        """Make these runtimes drop the orders that the task registry does not know any more."""
        wanted = self._registry.running
        for remote in self._remotes.values():
            if remote.number in numbers:
                for order in [order for order in remote.orders if order not in wanted]:
                    if order not in remote.unclaimed:
                        self._orders.drop(remote, order)

    def confirm(self, now: float) -> None:
        """All changes are stored: send new orders, and confirm results."""
        self._orders.confirm(now)

    def joined(self, backend: str) -> int:
        """The number of connected runtimes of a backend."""
        return sum(1 for remote in self._of(backend) if not remote.away)

    def health(self, backend: str) -> Health | None:
        """The best health that a backend's runtimes report; None if there is no report."""
        reports = [
            Health("offline", f"its quantum runtime {remote.holder.name} is not responding")
            if remote.away
            else remote.health
            for remote in self._of(backend)
        ]
        return min(reports, key=lambda health: not health.ready, default=None)

    def next_event(self) -> float:
        """When `check` has something to do next."""
        return self._next_check

    def close(self) -> None:
        """Close without a message: runtimes keep their orders and reconnect to the next dispatcher."""
        self._connection_limits.close()
        self._socket.close()
        self._zap.close()

    # --- messages ------------------------------------------------------------------------------------

    def _admits(self, key: bytes) -> bool:
        self._allowed.reload()
        return key in self._allowed.keys

    def _of(self, backend: str) -> list[Remote]:
        return [remote for remote in self._remotes.values() if remote.holder.group == backend]

    def _handle(self, address: bytes, frames: list[zmq.Frame], now: float) -> None:
        key = sender_key(frames[-1])
        try:
            message = decode_from_runtime([frame.buffer for frame in frames])
        except InvalidInputError as error:
            log.warning("malformed message from a runtime", key=key.decode(), why=error.message)
            return
        if not isinstance(message, RuntimeHeartbeat):
            self._allowed.reload()
        holder, descriptor = self._allowed.keys.get(key), _descriptor(frames[-1])
        if holder is None:
            end_connection(descriptor)
            return
        if isinstance(message, Enlist):
            self._send(address, self._enlist(message, _Origin(key, holder, address, descriptor), now))
            return
        remote = self._remotes.get(key)
        if remote is None or remote.instance != message.instance:
            self._send(address, HeartbeatReply(known=False))
            return
        self._note_seen(remote, address, now)
        self._handle_known(remote, message)

    def _handle_known(self, remote: Remote, message: FromRuntime) -> None:
        if isinstance(message, RuntimeHeartbeat):
            if message.health != remote.health:
                state, why = message.health.state, message.health.reason
                log.info("target reports", **log_fields_of(remote.holder), state=state, why=why)
            remote.health = message.health
            if message.backend_type is not None:
                self.backend_types[remote.holder.group] = message.backend_type
            self._send(remote.address, HeartbeatReply(known=True))
        elif isinstance(message, RemoteResult):
            self._orders.take_answer(remote, message)
        elif isinstance(message, Leave):
            self._lose(remote, "The quantum runtime was stopped")

    def _enlist(self, message: Enlist, origin: _Origin, now: float) -> Message:
        holder = origin.holder
        backend = self._registry.backends.get(holder.group)
        if message.protocol != PROTOCOL:
            return Declined(reason="it runs another version of qslurm than the dispatcher")
        if backend is None or message.backend != holder.group:
            return Declined(reason=f"its key is for backend {holder.group!r}")
        known = self._remotes.get(origin.key)
        if known is not None and known.instance != message.instance:
            if not known.away and now - known.last_seen <= self._away_s:
                return Declined(reason="another runtime is connected with the same key")
            self._lose(known, "The quantum runtime was restarted")
            known = None
        if known is None:
            free = backend.remote - sum(remote.workers for remote in self._of(holder.group))
            if min(free, message.workers) < 1:
                return Declined(reason=f"backend {holder.group!r} takes no more runtimes (setting `remote`)")
            known = Remote(
                number=next(self._numbers),
                key=origin.key,
                holder=holder,
                instance=message.instance,
                workers=min(free, message.workers),
                address=origin.address,
                descriptor=origin.descriptor,
                last_seen=now,
                health=Health("offline", "its quantum runtime is starting"),
            )
            self._remotes[origin.key] = known
            log.info("runtime connected", **log_fields_of(holder))
        known.descriptor = origin.descriptor
        self._note_seen(known, origin.address, now)
        drop = [claim.order for claim in message.claims if not self._orders.may_continue(known, claim, now)]
        drop += self._orders.not_received(known, {claim.order for claim in message.claims})
        return Enlisted(
            backend=backend,
            workers=known.workers,
            execution_limit_s=self._limit_s,
            beat_s=self._config.beat_s,
            drop=drop,
            attempt=message.attempt,
        )

    def _note_seen(self, remote: Remote, address: bytes, now: float) -> None:
        remote.address = address
        remote.last_seen = now
        if remote.away:
            remote.away = False
            log.info("runtime reconnected", **log_fields_of(remote.holder))

    def _lose(self, remote: Remote, why: str) -> None:
        log.warning("runtime lost", **log_fields_of(remote.holder), why=why)
        del self._remotes[remote.key]
        assignment.lost(self._registry, remote.number, why)

    def _send(self, address: bytes, message: Message) -> None:
        self._socket.send_multipart([address, *encode_frames(message)])


def _descriptor(frame: zmq.Frame) -> int:
    """The descriptor of a message's connection (ZMQ_SRCFD)."""
    import zmq

    found = frame.get(zmq.SRCFD)
    return found if isinstance(found, int) else -1
