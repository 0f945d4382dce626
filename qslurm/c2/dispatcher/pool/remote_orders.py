"""Orders that quantum runtimes on other hosts have been given: which, until when, and who alone may answer them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store import statements
from qslurm.protocol.curve.allowed_keys import KeyOwner
from qslurm.protocol.messages import Message
from qslurm.protocol.messages.remote_runtimes import (
    Assign,
    Claim,
    DropOrder,
    RemoteResult,
    ResultAcknowledged,
)
from qslurm.runtimes.health import Health
from qslurm.system.event_log import EventLog

log = EventLog(__name__)


@dataclass
class Remote:
    """A runtime that has enlisted. `orders` are what it was given, and until when each must be answered.

    `later` are those of them that nobody has asked for yet, since the dispatcher was started anew.
    """

    number: int
    key: bytes
    holder: KeyOwner
    instance: bytes
    workers: int
    address: bytes
    descriptor: int
    heard: float
    health: Health
    away: bool = False
    orders: dict[int, float] = field(default_factory=dict)
    later: dict[int, Claim] = field(default_factory=dict)


@dataclass(frozen=True)
class _AssignedOrder:
    """An order that another host may answer, and nobody else."""

    key: bytes
    task: int


class RemoteOrders:
    """All of them. `send` takes an address and a message for who is there. Times are monotonic seconds."""

    def __init__(
        self,
        registry: TaskRegistry,
        send: Callable[[bytes, Message], None],
        *,
        limit_s: float,
        grace_s: float,
    ) -> None:
        registry.orders = itertools.count(time.time_ns() // 1000)  # other hosts may know orders from before
        self._registry = registry
        self._send = send
        self._limit_s = limit_s
        self._grace_s = grace_s
        self._confirmations: list[tuple[bytes, int]] = []
        self._assignments: list[tuple[Remote, Assign]] = []  # not stored yet
        self._assigned = {
            row["number"]: _AssignedOrder(row["holder"].encode(), row["task"])
            for row in registry.store.handed_out()
        }

    def confirm(self, now: float) -> None:
        """Everything is stored: orders may be begun, and answers need not be kept elsewhere.

        An order sent earlier might be executing when the dispatcher is killed, and the next would not know of it.
        """
        for address, order in self._confirmations:
            self._send(address, ResultAcknowledged(order=order))
        self._confirmations.clear()
        for remote, assign in self._assignments:
            claim = assign.claim
            if assignment.claims(
                self._registry, remote.number, claim
            ):  # it may have been withdrawn meanwhile
                remote.orders[claim.order] = self._deadline(now)
                self._send(remote.address, assign)
        self._assignments.clear()

    def assign_one(self, remote: Remote) -> bool:
        """Give a runtime its next circuit, which it hears of by `confirm`; False if there is none for it."""
        run = assignment.assign(self._registry, remote.holder.group, remote.number)
        if run is None:
            return False
        _, execution = self._registry.running[run.order]
        claim = Claim(
            run.order, execution.task, execution.seq, execution.circuit_sha256, execution.circuit.shots
        )
        remote.orders[run.order] = float("inf")
        self._assigned[run.order] = _AssignedOrder(remote.key, execution.task)
        holder = remote.key.decode()
        self._registry.changes.append(statements.hand_out(run.order, execution.task, execution.seq, holder))
        left_s, used_up = assignment.left_s(self._registry, run.order)
        self._assignments.append((remote, Assign(claim=claim, run=run, left_s=left_s, used_up=used_up)))
        return True

    def takes_up(self, remote: Remote, claim: Claim, now: float) -> bool:
        """Whether a runtime that came back may go on with something."""
        registry = self._registry
        if any(order == claim.order for _, order in self._confirmations):
            return True  # its answer is here, and not stored: it must not be forgotten yet
        if not self._is_its(remote, claim):
            return False
        if not assignment.claims(registry, remote.number, claim) and not assignment.adopt(
            registry, remote.number, claim
        ):
            if not assignment.may_be_requested(registry, claim):
                return False
            remote.later[claim.order] = claim
        remote.orders.setdefault(claim.order, self._deadline(now))
        return True

    def match_later(self, remote: Remote) -> None:
        """A hybrid job asks again for what it had asked of a dispatcher before this one: it is under way."""
        for order, claim in list(remote.later.items()):
            if assignment.adopt(self._registry, remote.number, claim):
                del remote.later[order]
            elif not assignment.may_be_requested(self._registry, claim):
                self.drop(remote, order)

    def not_received(self, remote: Remote, claimed: set[int]) -> list[int]:
        """Orders that were given, and have not arrived; they wait again, and are dropped if they arrive now."""
        missing = [order for order in remote.orders if order not in claimed]
        for order in missing:
            del remote.orders[order]
            assignment.give_back(self._registry, remote.number, order)
            self._take_back(order)
        return missing

    def take_answer(self, remote: Remote, message: RemoteResult) -> None:
        """An outcome has come; it counts if this runtime was given the order."""
        claim = message.claim
        if self._is_its(remote, claim):
            result = msgspec.structs.replace(message.result, order=claim.order, runtime=remote.number)
            assignment.accept_result(self._registry, claim, result)
        else:  # said twice, if not out of malice
            log.info("unexpected result from a runtime", **log_fields_of(remote.holder), order=claim.order)
        remote.orders.pop(claim.order, None)
        remote.later.pop(claim.order, None)
        self._take_back(claim.order, remote)
        self._confirmations.append((remote.address, claim.order))

    def _is_its(self, remote: Remote, claim: Claim) -> bool:
        return self._assigned.get(claim.order) == _AssignedOrder(remote.key, claim.task)

    def _deadline(self, now: float) -> float:
        """Runtimes keep to the limit themselves; here it is for those that don't."""
        return now + self._limit_s + self._grace_s

    def give_up_overdue(self, remote: Remote, now: float) -> None:
        """Fail what a runtime should have answered by now."""
        for order in [order for order, until in remote.orders.items() if until <= now]:
            why = f"The circuit exceeded its time limit of {self._limit_s:g} s"
            assignment.lost(self._registry, remote.number, why, fail=True, only=order)
            self.drop(remote, order)

    def drop(self, remote: Remote, order: int) -> None:
        """Let a runtime forget an order."""
        del remote.orders[order]
        remote.later.pop(order, None)
        self._take_back(order)
        self._send(remote.address, DropOrder(order=order))

    def _take_back(self, order: int, remote: Remote | None = None) -> None:
        handed = self._assigned.get(order)
        if handed is not None and (remote is None or handed.key == remote.key):
            del self._assigned[order]
            self._registry.changes.append(statements.take_back(order))

    def tidy(self) -> None:
        """Forget orders of tasks that have ended."""
        tasks = self._registry.tasks
        for order in [order for order, handed in self._assigned.items() if handed.task not in tasks]:
            self._take_back(order)


def log_fields_of(holder: KeyOwner) -> dict[str, str]:
    """What a line of the log calls a runtime."""
    return {"backend": holder.group, "runtime": holder.name}
