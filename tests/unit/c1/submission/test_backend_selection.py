"""`--backend any`: which backend is taken, as a decision on what is known of all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c1.queries.lists import Backend
from qslurm.c1.submission.backend_selection import Need, Offer, Rank, choose, misfit, queue_length, rank
from qslurm.errors import InvalidInputError

NOW = 1000.0


def backend(name="qx", state="idle", partition_state="UP", qubits=26, max_shots=10_000, **facts):
    return Backend(
        name=name,
        partition=f"p_{name}",
        state=state,
        partition_state=partition_state,
        qubits=qubits,
        max_shots=max_shots,
        **facts,
    )


def offer(name="qx", platform="c2", **facts):
    return Offer(platform, name, backend(name, **facts))


def chosen(need, *offers):
    return choose(need, offers, NOW)


def test_the_first_free_one_that_fits_is_taken():
    small, busy, free = offer("small", qubits=2), offer("busy", in_line=1), offer("free")
    later = offer("later", qubits=5)
    found = chosen(Need(qubits=4), small, busy, free, later)
    assert (found.offer, found.why) == (free, "free is free")
    assert chosen(Need(qubits=2), small, free).offer is small
    assert chosen(Need(), later, free).offer is later


def test_a_partition_of_which_nobody_says_the_state_is_not_closed():
    """v0.0.39 has no state in its record of a partition."""
    unsaid, busy = offer("unsaid", partition_state="UNKNOWN"), offer("busy", in_line=1)
    assert chosen(Need(), busy, unsaid).offer is unsaid


@pytest.mark.parametrize(
    "facts",
    [
        {"in_line": 1},
        {"running": 1},
        {"queued": 1},
        {"state": "executing"},
        {"state": "calibrating", "partition_state": "DOWN"},
        {"state": "offline", "partition_state": "DOWN"},
        {"partition_state": "DOWN"},
        {"reserved": [{"begins": NOW - 1, "ends": NOW + 1, "yours": False}]},
    ],
)
def test_a_free_one_is_better_than_any_that_is_not(facts):
    assert chosen(Need(), offer("other", **facts), offer("free")).offer.name == "free"


@pytest.mark.parametrize(
    "window",
    [
        {"begins": NOW - 1, "ends": NOW + 1, "yours": True},
        {"begins": NOW + 1, "ends": NOW + 2, "yours": False},
        {"begins": NOW - 2, "ends": NOW, "yours": False},
    ],
)
def test_a_window_of_ones_own_or_of_another_time_keeps_nobody_out(window):
    assert rank(backend(reserved=[window]), NOW) is Rank.FREE


def test_when_none_is_free_the_shortest_line_is_taken():
    found = chosen(
        Need(), offer("long", in_line=5, running=1), offer("short", in_line=1), offer("even", running=1)
    )
    assert found.offer.name == "short"
    assert found.why == "none is free; short has the shortest queue, 1 job there"
    circuits = chosen(Need(), offer("many", running=1, queued=9), offer("few", running=1, queued=2))
    assert circuits.offer.name == "few"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (
            {"state": "calibrating", "partition_state": "DOWN", "reason": "until 10:30"},
            "is calibrating (until 10:30)",
        ),
        ({"reserved": [{"begins": 0, "ends": 2 * NOW, "yours": False}]}, "is reserved for others"),
        ({"partition_state": "DOWN", "in_line": 2}, "is held, 2 jobs there"),
        ({"state": "offline", "reason": "no helium"}, "is offline (no helium)"),
    ],
)
def test_when_none_is_in_service_the_job_waits_where_it_will_begin_first(facts, why):
    held = offer("held", partition_state="DOWN", in_line=3)
    found = chosen(Need(), held, offer("taken", **facts))
    assert found.offer.name == "taken"
    assert found.why.startswith("none is in service; taken is")
    assert why in found.why


@pytest.mark.parametrize(
    ("need", "facts", "why"),
    [
        (Need(qubits=27), {}, "26 qubits"),
        (Need(qubits=2), {"qubits": 1}, "1 qubit"),
        (Need(shots=10_001), {}, "at most 10000 shots"),
        (Need(), {"allowed": False}, "not allowed by this center"),
        (Need(), {"partition_state": "DRAIN"}, "closed"),
        (Need(), {"partition_state": ""}, "closed"),
    ],
)
def test_what_can_not_take_the_job_is_never_chosen(need, facts, why):
    assert misfit(need, offer(**facts)) == why
    with pytest.raises(InvalidInputError):
        chosen(need, offer(**facts))


def test_a_refusal_says_what_is_needed_and_what_there_is():
    with pytest.raises(InvalidInputError) as caught:
        chosen(Need(qubits=30, shots=1), offer("qx of c2"), offer("spin2 of tuna", qubits=2))
    assert str(caught.value) == (
        "No backend fits this job, which needs 30 qubits and 1 shot."
        " There are qx of c2 (26 qubits), spin2 of tuna (2 qubits)."
    )
    with pytest.raises(InvalidInputError, match="There is no backend"):
        chosen(Need(qubits=1))
    with pytest.raises(InvalidInputError, match=r"\(2 qubits\) and 4 more\.$"):
        chosen(Need(qubits=3), *(offer(f"b{number}", qubits=2) for number in range(12)))


OFFERS = st.lists(
    st.builds(
        offer,
        name=st.sampled_from(["a", "b", "c"]),
        allowed=st.booleans(),
        state=st.sampled_from(["idle", "executing", "calibrating", "offline", "new"]),
        partition_state=st.sampled_from(["UP", "DOWN", "DRAIN", "INACTIVE", ""]),
        qubits=st.none() | st.integers(1, 5),
        max_shots=st.none() | st.integers(1, 5),
        in_line=st.integers(0, 3),
        running=st.integers(0, 3),
        queued=st.integers(0, 3),
        reserved=st.lists(
            st.fixed_dictionaries(
                {"begins": st.integers(990, 1010), "ends": st.integers(990, 1010), "yours": st.booleans()}
            ),
            max_size=2,
        ),
    ),
    max_size=5,
)
NEEDS = st.builds(Need, qubits=st.none() | st.integers(1, 6), shots=st.none() | st.integers(1, 6))


@given(NEEDS, OFFERS)
def test_nothing_better_is_ever_passed_over_and_what_does_not_fit_never_taken(need, offers):
    fitting = [one for one in offers if not misfit(need, one)]
    if not fitting:
        with pytest.raises(InvalidInputError, match="No backend fits"):
            choose(need, offers, NOW)
        return
    taken = choose(need, offers, NOW).offer
    assert taken in fitting
    sooner = (rank(taken.backend, NOW), queue_length(taken.backend))
    before = fitting[: fitting.index(taken)]
    assert all((rank(one.backend, NOW), queue_length(one.backend)) > sooner for one in before)
    assert all((rank(one.backend, NOW), queue_length(one.backend)) >= sooner for one in fitting)
