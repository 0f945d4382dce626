"""The queue of a backend: it does what the policies say, starves nobody, and keeps reservations."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.scheduling.backend_queue import BackendQueue
from qslurm.c2.scheduling.fair_share import MINIMUM_S, FairShares
from qslurm.c2.scheduling.policy import POLICIES, QueuedExecution, choose
from qslurm.c2.scheduling.queue_positions import position, reason
from qslurm.c2.scheduling.reservations import Reservation

CENTERS = ["a", "b", "c"]
POLICY_NAMES = st.sampled_from(sorted(POLICIES))
SECONDS = st.floats(0.0, 5.0)


class Clerk:
    """A queue with a clock, and names for what is put into it."""

    def __init__(self, policy: str = "fifo", **settings: object) -> None:
        self.config = BackendConfig(name="qx", policy=policy, **settings)  # type: ignore[arg-type]
        self.queue = BackendQueue(self.config)
        self.now = 0.0
        self.number = 0

    def ask(self, job: int, center: str = "a", *, hybrid: bool = True) -> QueuedExecution:
        self.number += 1
        waiting = QueuedExecution(job, self.number, self.number, center, job, hybrid)
        self.queue.add(waiting, self.now)
        return self.queue.waiting_order.numbered(self.number)

    def take(self) -> QueuedExecution | None:
        return self.queue.take(self.now, self.now)

    def serve(self, seconds: float) -> QueuedExecution | None:
        taken = self.take()
        if taken is not None:
            self.now += seconds
            self.queue.finish(taken.task, taken.seq, seconds, self.now)
        return taken

    def place(self, waiting: QueuedExecution) -> int:
        return position(self.queue, waiting, self.now, self.now)

    def reserve(self, begins: float, ends: float, *, center: str = "", job_id: int = 0) -> None:
        number = len(self.queue.reservations) + 1
        self.queue.reservations[number] = Reservation(
            id=number, backend="qx", begins=begins, ends=ends, center=center, job_id=job_id
        )


class Backend(RuleBasedStateMachine):
    """Whatever is asked, lost, withdrawn and done: the queue's next one is the policy's, each runs just once."""

    def __init__(self) -> None:
        super().__init__()
        self.clerk = Clerk()
        self.waiting: dict[int, QueuedExecution] = {}
        self.running: dict[int, QueuedExecution] = {}
        self.over: set[int] = set()
        self.expected: QueuedExecution | None = None

    @precondition(lambda self: not self.clerk.number)
    @rule(policy=POLICY_NAMES, weight=st.floats(0.1, 10.0), ageing_s=st.floats(0, 20))
    def configure(self, policy: str, weight: float, ageing_s: float) -> None:
        self.clerk = Clerk(policy, weights={"b": weight}, ageing_s=ageing_s, half_life_s=30.0)

    @rule(job=st.integers(0, 8), hybrid=st.booleans())
    def ask(self, job: int, hybrid: bool) -> None:
        waiting = self.clerk.ask(job, CENTERS[job % 3], hybrid=hybrid)
        self.waiting[waiting.number] = waiting

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.clerk.now += seconds

    @rule()
    def start(self) -> None:
        taken = self.clerk.take()
        if not self.waiting:
            assert taken is None
            return
        assert taken is not None
        assert taken == self.expected
        self.running[taken.number] = self.waiting.pop(taken.number)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=SECONDS)
    def end(self, data: st.DataObject, seconds: float) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        one = self.running.pop(number)
        self.clerk.queue.finish(one.task, one.seq, seconds, self.clerk.now)
        self.over.add(number)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        one = self.running.pop(number)
        self.clerk.queue.requeue(one.task, one.seq)
        self.waiting[number] = one

    @precondition(lambda self: self.waiting or self.running)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        everything = self.waiting | self.running
        number = data.draw(st.sampled_from(sorted(everything)))
        one = everything[number]
        self.clerk.queue.withdraw(one.task, one.seq, self.clerk.now)
        self.waiting.pop(number, None)
        self.running.pop(number, None)
        self.over.add(number)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        queue = self.clerk.queue
        assert {one.number for one in queue.waiting_order.all()} == set(self.waiting)
        assert (len(queue), queue.running) == (len(self.waiting), len(self.running))
        assert not set(self.waiting) & (set(self.running) | self.over)

    @invariant()
    def the_next_is_what_the_plain_policy_says(self) -> None:
        queue = self.clerk.queue
        self.expected = None
        if self.waiting:
            standing = {center: queue.shares.standing(center) for center in CENTERS}
            ageing_s = self.clerk.config.ageing_s
            everything = list(self.waiting.values())
            self.expected = choose(everything, queue.policy, ageing_s=ageing_s, standing=standing)
        assert queue.choose(self.clerk.now, 0.0) == self.expected


Backend.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestBackend = Backend.TestCase


@given(policy=POLICY_NAMES, jobs=st.lists(st.integers(0, 8), min_size=1, max_size=40), data=st.data())
def test_everybody_is_told_the_place_that_the_policy_gives(
    policy: str, jobs: list[int], data: st.DataObject
) -> None:
    clerk = Clerk(policy, weights={"b": 2.0, "c": 0.5}, half_life_s=math.inf, ageing_s=3.0)
    for center in CENTERS:
        clerk.queue.charge(center, data.draw(st.integers(0, 6)) * 0.5, 0.0)
    clerk.ask(99, "a")
    clerk.serve(1.0)  # from now on an execution is expected to take 1 s
    clerk.queue.forget(99)
    asked = []
    for job in jobs:
        asked.append(clerk.ask(job, CENTERS[job % 3]))
        clerk.now += 0.25
    told = {one.number: clerk.place(one) for one in asked}
    served = [clerk.serve(1.0) for _ in asked]
    assert told == {one.number: place for place, one in enumerate(served, 1) if one is not None}


@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=3, max_size=3),
    seconds=st.lists(st.floats(0.01, 2.0), min_size=200, max_size=200),
    half_life_s=st.sampled_from([20.0, 1e4, math.inf]),
    workers=st.integers(1, 3),
)
@settings(max_examples=50)
def test_shares_converge_to_the_weights(
    weights: list[float], seconds: list[float], half_life_s: float, workers: int
) -> None:
    clerk = Clerk("fair", weights=dict(zip(CENTERS, weights, strict=True)), half_life_s=half_life_s)
    for job, center in enumerate(CENTERS):
        for _ in range(220):
            clerk.ask(job, center, hybrid=False)
    running = [clerk.take() for _ in range(workers)]
    for took in seconds:
        one = running.pop(0)
        assert one is not None
        clerk.now += took / workers
        clerk.queue.finish(one.task, one.seq, took, clerk.now)
        running.append(clerk.take())
    shares = clerk.queue.shares
    used = [shares.used(center, clerk.now) / shares.weight(center) for center in CENTERS]
    # Nobody is further ahead than by what was started last: the longest execution for the smallest weight.
    assert max(used) - min(used) <= (workers + 1) * 2.0 / min(weights) + 1e-6


@given(
    policy=POLICY_NAMES,
    idle_s=st.sampled_from([0.0, 0.5]),
    seconds=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=9),
)
@settings(max_examples=50)
def test_nobody_starves_however_much_the_others_ask(policy: str, idle_s: float, seconds: list[float]) -> None:
    clerk = Clerk(policy, ageing_s=10.0, session_idle_s=idle_s, session_max_s=5.0, half_life_s=100.0)
    for job in range(1, 4):  # they have coupled closely, and the third center has used a lot already
        for _ in range(3):
            clerk.ask(job, "b")
            clerk.serve(0.01)
    clerk.queue.charge("a", 2.0, clerk.now)
    patient = clerk.ask(77, "a", hybrid=False)
    for job in range(1, 4):
        clerk.ask(job, "b")
    for turn in range(5_000):
        taken = clerk.serve(seconds[turn % len(seconds)])
        if taken is None:
            clerk.now += 0.1
        elif taken.job == 77:
            return
        else:
            clerk.ask(taken.job, "b")
    raise AssertionError(f"{patient} was never served")


@given(
    policy=POLICY_NAMES,
    window=st.tuples(st.floats(0, 20), st.floats(0.1, 20)),
    job=st.sampled_from([0, 1, 2]),
    asks=st.lists(st.tuples(st.integers(0, 5), SECONDS), min_size=1, max_size=40),
    idle_s=st.sampled_from([0.0, 1.0]),
)
def test_in_a_reserved_window_nobody_else_starts_and_afterwards_all_are_served(
    policy: str, window: tuple[float, float], job: int, asks: list[tuple[int, float]], idle_s: float
) -> None:
    clerk = Clerk(policy, session_idle_s=idle_s)
    begins, ends = window[0], window[0] + window[1]
    clerk.reserve(begins, ends, center="" if job else "a", job_id=job)
    served = []
    for who, _ in asks:
        clerk.ask(who, CENTERS[who % 3])
    for _, seconds in asks * 2:
        start = clerk.now
        taken = clerk.serve(seconds)
        if taken is None:
            clerk.now += 0.5
            continue
        served.append(taken.number)
        if begins <= start < ends:
            assert taken.job == job if job else taken.center == "a"
    clerk.now = max(clerk.now, ends) + 2.0
    while (taken := clerk.serve(0.1)) is not None:
        served.append(taken.number)
        clerk.now += 2.0  # every session runs out
    assert sorted(served) == list(range(1, len(asks) + 1))


def test_a_job_that_couples_often_goes_first_but_never_past_its_lead() -> None:
    clerk = Clerk("priority", ageing_s=10.0)
    for _ in range(5):
        clerk.ask(1)
        clerk.serve(0.1)  # and asks again at once
    slow = clerk.ask(2)
    fast = clerk.ask(1)
    assert fast.coupling == 1.0
    assert (clerk.place(fast), clerk.place(slow)) == (1, 2)
    clerk.now = 10.5
    late = clerk.ask(1)
    assert clerk.place(late) == 3
    assert [clerk.serve(0.1) for _ in range(3)] == [fast, slow, late]


def test_a_session_keeps_the_backend_free_for_a_moment_and_no_longer() -> None:
    clerk = Clerk(session_idle_s=2.0)
    first = clerk.ask(1)
    other = clerk.ask(2, "b")
    assert clerk.serve(1.0) == first
    assert clerk.take() is None
    assert "kept free" in reason(clerk.queue, "qx", other, clerk.now, clerk.now)[0]
    assert clerk.queue.next_event(clerk.now, clerk.now) == clerk.now + 2.0
    clerk.now += 0.5
    second = clerk.ask(1)
    assert (clerk.place(second), clerk.place(other)) == (1, 2)
    assert clerk.serve(1.0) == second
    clerk.now += 2.0
    assert clerk.queue.next_event(clerk.now, clerk.now) == clerk.now  # the time is up
    assert clerk.queue.next_event(clerk.now, clerk.now) == math.inf
    assert clerk.take() == other


def test_no_place_is_kept_for_a_job_whose_classical_step_is_slow() -> None:
    clerk = Clerk(session_idle_s=1.0)
    clerk.ask(1)
    clerk.serve(0.1)
    clerk.now += 30.0
    clerk.ask(1)
    other = clerk.ask(2, "b")
    clerk.serve(0.1)
    assert clerk.take() == other


def test_a_session_ends_in_time_when_others_wait() -> None:
    clerk = Clerk(session_idle_s=1.0, session_max_s=3.0)
    clerk.ask(1)
    other = clerk.ask(2, "b", hybrid=False)
    served = []
    for _ in range(5):
        taken = clerk.serve(1.0)
        served.append(taken)
        if taken is not None and taken.job == 1:
            clerk.ask(1)
    assert served.index(other) == 3


def test_time_kept_free_is_the_centers_use() -> None:
    clerk = Clerk("fair", session_idle_s=2.0, half_life_s=math.inf)
    clerk.ask(1, "a")
    clerk.ask(2, "b")
    clerk.serve(1.0)
    clerk.now += 1.5
    clerk.ask(1, "a")
    assert clerk.queue.shares.used("a", clerk.now) == pytest.approx(2.5)


def test_with_two_runtimes_a_session_keeps_one_of_them() -> None:
    clerk = Clerk(session_idle_s=2.0, workers=2)
    clerk.ask(1)
    clerk.serve(1.0)
    others = [clerk.ask(job, "b", hybrid=False) for job in (2, 3)]
    assert clerk.take() == others[0]
    assert clerk.take() is None
    again = clerk.ask(1)
    assert clerk.take() == again


def test_who_is_kept_out_by_a_reservation_is_told_until_when() -> None:
    clerk = Clerk()
    mine = clerk.ask(1, "a")
    for _ in range(3):
        clerk.ask(2, "b")
    clerk.reserve(0.0, 60.0, center="b")
    words, place = reason(clerk.queue, "qx", mine, 1.0, 1.0)
    assert words.startswith("qx is reserved for center b until ")
    assert (words.endswith("4 of 4 in the queue of qx"), place) == (True, 4)
    assert clerk.queue.next_event(1.0, 1.0) == 60.0


def test_use_counts_half_after_a_half_life() -> None:
    shares = FairShares({"a": 2.0}, 100.0)
    shares.charge("a", 8.0, 0.0)
    assert shares.used("a", 200.0) == pytest.approx(2.0)
    shares.charge("b", 1.0, 200.0)
    assert shares.standing("a") == pytest.approx(shares.standing("b"))
    shares.charge("b", -5.0, 200.0)
    assert shares.used("b", 200.0) == 0.0
    shares.charge("a", 1.0, 1e9)  # years later nothing overflows
    assert shares.used("a", 1e9) == pytest.approx(1.0)


def test_work_that_takes_no_time_is_charged_all_the_same() -> None:
    clerk = Clerk("fair")
    clerk.ask(1)
    clerk.serve(0.0)
    assert clerk.queue.shares.used("a", 0.0) == pytest.approx(MINIMUM_S)


def test_a_job_that_has_ended_is_forgotten() -> None:
    clerk = Clerk(session_idle_s=5.0)
    clerk.ask(1)
    other = replace(clerk.ask(2, "b", hybrid=False))
    clerk.serve(1.0)
    assert clerk.take() is None
    clerk.queue.forget(1)
    assert clerk.take() == other
