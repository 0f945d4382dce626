from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.scheduling.fair_share import MINIMUM_S
from qslurm.c2.scheduling.policy import POLICIES, QueuedExecution, choose
from qslurm.protocol.messages import Lease, LeasedTask
from qslurm.runtimes.lanes.turns import Turns

AGEING_S = 10.0
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 1.0}


def lease(policy, members):
    return Lease(members=members, backend="qx", max_shots=1, policy=policy, ageing_s=AGEING_S)


couplings = st.sampled_from([0.0, 0.25, 1.0])
some_seats = st.lists(st.tuples(st.sampled_from("abc"), couplings), min_size=1, max_size=6)
deeds = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 5), st.sampled_from([0.0, 0.5, 3.0])),
        st.tuples(st.just("serve"), st.just(0), st.sampled_from([0.001, 0.25, 2.0])),
        st.tuples(st.just("leave"), st.integers(0, 5), st.just(0.0)),
    ),
    max_size=40,
)


@given(st.sampled_from(sorted(POLICIES)), some_seats, deeds)
def test_whose_turn_it_is_says_the_policy_that_holds_for_the_queue(policy, places, deeds):
    used = {"a": 1.0, "b": 0.5, "c": 0.0}
    members = [
        LeasedTask(10 + number, center, coupling, used[center], WEIGHTS[center])
        for number, (center, coupling) in enumerate(places)
    ]
    turns, waiting, gone, now = Turns(lease(policy, members)), {}, set(), 100.0
    for count, (deed, place, amount) in enumerate(deeds):
        number = place % len(members)
        if deed == "ask" and number not in waiting and number not in gone:
            now += amount
            member = members[number]
            waiting[number] = QueuedExecution(
                member.task, 0, count, member.center, hybrid=True, arrived=now, coupling=member.coupling
            )
            turns.ask(number, now)
        elif deed == "leave":
            gone.add(number)
            waiting.pop(number, None)
            turns.remove(number)
        elif deed == "serve":
            taken = turns.take()
            if not waiting:
                assert taken is None
                continue
            first = choose(list(waiting.values()), POLICIES[policy], ageing_s=AGEING_S, standing=used)
            assert members[taken].task == first.task
            del waiting[taken]
            turns.charge(taken, amount)
            used[first.center] += max(amount, MINIMUM_S) / WEIGHTS[first.center]
        assert all(turns.waits(number) == (number in waiting) for number in range(len(members)))


def serve(turns, seconds, rounds):
    """Let each member request again as soon as it was served: how often each was, and the longest wait in turns."""
    served, waits, longest = Counter(), dict.fromkeys(range(len(seconds)), 0), 0
    now = 0.0
    for member in range(len(seconds)):
        turns.ask(member, now)
    for _ in range(rounds):
        member = turns.take()
        served[member] += 1
        now += seconds[member]
        turns.charge(member, seconds[member])
        waits = {one: turns_waited + 1 for one, turns_waited in waits.items()}
        longest = max(longest, *waits.values())
        waits[member] = 0
        turns.ask(member, now)
    return served, longest


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=8))
def test_first_come_first_served_gives_every_job_as_many_turns_as_the_next(seconds):
    turns = Turns(lease("fifo", [LeasedTask(number) for number in range(len(seconds))]))
    served, longest = serve(turns, seconds, 10 * len(seconds))
    assert set(served.values()) == {10}
    assert longest == len(seconds), "nobody waits for more than one turn of each other"


@given(st.lists(couplings, min_size=2, max_size=6))
def test_who_couples_often_goes_first_but_nobody_starves(couplings):
    members = [LeasedTask(number, coupling=coupling) for number, coupling in enumerate(couplings)]
    seconds = [1.0] * len(members)
    served, longest = serve(Turns(lease("priority", members)), seconds, 200)
    assert longest <= AGEING_S + len(members)
    assert len(served) == len(members)


def test_centers_share_by_weight_in_seconds_whatever_their_circuits_take_and_however_many_jobs_they_have():
    members = [LeasedTask(0, "a"), LeasedTask(1, "a"), LeasedTask(2, "b", weight=2.0)]
    seconds = [0.5, 0.5, 0.1]
    served, _ = serve(Turns(lease("fair", members)), seconds, 3000)
    of_a = (served[0] + served[1]) * 0.5
    of_b = served[2] * 0.1
    assert of_b / of_a == pytest.approx(2.0, rel=0.02)
    assert abs(served[0] - served[1]) <= 1
