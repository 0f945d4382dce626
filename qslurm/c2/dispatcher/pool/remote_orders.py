"""The orders assigned to quantum runtimes on other hosts, their deadlines, and the keys that may answer them."""

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
    """A connected runtime. `orders` are those assigned to it, with the deadline of each.

    `unclaimed` are those of them that no job has requested since the dispatcher was restarted.
    """

    number: int
    key: bytes
    holder: KeyOwner
    instance: bytes
    workers: int
    address: bytes
    descriptor: int
    last_seen: float
    health: Health
    away: bool = False
    orders: dict[int, float] = field(default_factory=dict)
    unclaimed: dict[int, Claim] = field(default_factory=dict)


@dataclass(frozen=True)
class _AssignedOrder:
    """The only key that may answer an order."""

    key: bytes
    task: int


class RemoteOrders:
    """All orders. `send` takes an address and a message. Times are monotonic seconds."""

    def __init__(
        self,
        registry: TaskRegistry,
        send: Callable[[bytes, Message], None],
        *,
        limit_s: float,
        grace_s: float,
    ) -> None:
        registry.orders = itertools.count(time.time_ns() // 1000)  # other hosts may know earlier orders
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
        """All changes are stored: send orders, and confirm results, which runtimes delete then.

        An order sent earlier could be running when the dispatcher is killed, without the next one knowing of it.
        """
        for address, order in self._confirmations:
            self._send(address, ResultAcknowledged(order=order))
        self._confirmations.clear()
        for remote, assign in self._assignments:
            claim = assign.claim
            if assignment.claims(self._registry, remote.number, claim):  # unless withdrawn
                remote.orders[claim.order] = self._deadline(now)
                self._send(remote.address, assign)
        self._assignments.clear()

    def assign_one(self, remote: Remote) -> bool:
        """Assign a runtime its next circuit, which `confirm` sends; False if there is none."""
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
        self._registry.changes.append(
            statements.insert_order(run.order, execution.task, execution.seq, holder)
        )
        left_s, used_up = assignment.left_s(self._registry, run.order)
        self._assignments.append((remote, Assign(claim=claim, run=run, left_s=left_s, used_up=used_up)))
        return True

    def may_continue(self, remote: Remote, claim: Claim, now: float) -> bool:
        """Whether a reconnected runtime may continue with an order."""
        registry = self._registry
        if any(order == claim.order for _, order in self._confirmations):
            return True  # its result is here and not stored yet: the runtime must keep it
        if not self._is_assigned(remote, claim):
            return False
        if not assignment.claims(registry, remote.number, claim) and not assignment.adopt(
            registry, remote.number, claim
        ):
            if not assignment.may_be_requested(registry, claim):
                return False
            remote.unclaimed[claim.order] = claim
        remote.orders.setdefault(claim.order, self._deadline(now))
        return True

    def match_unclaimed(self, remote: Remote) -> None:
        """Match orders of an earlier dispatcher with executions that jobs have requested again."""
        for order, claim in list(remote.unclaimed.items()):
            if assignment.adopt(self._registry, remote.number, claim):
                del remote.unclaimed[order]
            elif not assignment.may_be_requested(self._registry, claim):
                self.drop(remote, order)

    def not_received(self, remote: Remote, claimed: set[int]) -> list[int]:
        """Requeue the orders that have not reached a runtime; returns them, to be dropped if they arrive now."""
        missing = [order for order in remote.orders if order not in claimed]
        for order in missing:
            del remote.orders[order]
            assignment.requeue_order(self._registry, remote.number, order)
            self._unassign(order)
        return missing

    def take_answer(self, remote: Remote, message: RemoteResult) -> None:
        """Take a result; it counts if the order is assigned to this runtime."""
        claim = message.claim
        if self._is_assigned(remote, claim):
            result = msgspec.structs.replace(message.result, order=claim.order, runtime=remote.number)
            assignment.accept_result(self._registry, claim, result)
        else:  # a duplicate, or forged
            log.info("unexpected result from a runtime", **log_fields_of(remote.holder), order=claim.order)
        remote.orders.pop(claim.order, None)
        remote.unclaimed.pop(claim.order, None)
        self._unassign(claim.order, remote)
        self._confirmations.append((remote.address, claim.order))

    def _is_assigned(self, remote: Remote, claim: Claim) -> bool:
        return self._assigned.get(claim.order) == _AssignedOrder(remote.key, claim.task)

    def _deadline(self, now: float) -> float:
        # runtimes enforce the limit themselves; this is for those that fail to
        return now + self._limit_s + self._grace_s

    def give_up_overdue(self, remote: Remote, now: float) -> None:
        """Fail the orders of a runtime whose deadline has passed."""
        for order in [order for order, until in remote.orders.items() if until <= now]:
            why = f"The circuit exceeded its time limit of {self._limit_s:g} s"
            assignment.lost(self._registry, remote.number, why, fail=True, only=order)
            self.drop(remote, order)

    def drop(self, remote: Remote, order: int) -> None:
        """Make a runtime drop an order."""
        del remote.orders[order]
        remote.unclaimed.pop(order, None)
        self._unassign(order)
        self._send(remote.address, DropOrder(order=order))

    def _unassign(self, order: int, remote: Remote | None = None) -> None:
        assigned = self._assigned.get(order)
        if assigned is not None and (remote is None or assigned.key == remote.key):
            del self._assigned[order]
            self._registry.changes.append(statements.delete_order(order))

    def tidy(self) -> None:
        """Delete the orders of tasks that have ended."""
        tasks = self._registry.tasks
        for order in [order for order, assigned in self._assigned.items() if assigned.task not in tasks]:
            self._unassign(order)


def log_fields_of(holder: KeyOwner) -> dict[str, str]:
    """Fields of a log line about a runtime."""
    return {"backend": holder.group, "runtime": holder.name}
