"""Values for names, and a task's share of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import Envelope, pack, unpack
from qslurm.payload.sweep import filled, names_in, parse_sweeps, read_sweep, refuse_unfilled


def values(*words):
    sweep = parse_sweeps(words)
    return [sweep.at(index) for index in range(len(sweep))]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("t=0:1:0.25", ["0", "0.25", "0.5", "0.75", "1"]),
        ("t=0:0.3:0.1", ["0", "0.1", "0.2", "0.3"]),  # in binary 0.1 + 0.1 + 0.1 is more than 0.3
        ("t=0:0.35:0.1", ["0", "0.1", "0.2", "0.3"]),
        ("t=1:-1:-1", ["1", "0", "-1"]),
        ("t=3:5", ["3", "4", "5"]),
        ("t=0:1/3", ["0", "0.5", "1"]),
        ("t=0:1/4", ["0", "0.333333333333", "0.666666666667", "1"]),
        ("t=1e-3:3e-3:1e-3", ["0.001", "0.002", "0.003"]),
        ("t=0.1, 2,pi", ["0.1", "2", "pi"]),
        ("t=5", ["5"]),
    ],
)
def test_a_sweep_has_the_values_that_people_expect(word, expected):
    assert [one["t"] for one in values(word)] == expected


def test_several_make_a_grid_the_last_turning_fastest():
    assert values("a=1,2", "b=x,y") == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]


@pytest.mark.parametrize(
    "word",
    [
        *(
            "theta",
            "=1",
            "t=",
            "t=1,,2",
            "1t=1",
            "a b=1",
            "t=a:b",
            "t=0:1:0",
            "t=0:1:-1",
            "t=0:inf",
            "t=nan:1",
        ),
        *(
            "t=0:1/1",
            "t=0:1/x",
            "t=0:1/999999999",
            "t=0:1e9:1",
            "t=0:1:2:3",
            "t=1;rm",
            "t=$(x)",
            "t='1'",
            "t=1e99:2e99",
        ),
    ],
)
def test_what_is_no_sweep_is_refused_with_how_one_is_written(word):
    with pytest.raises(InvalidInputError, match="sweep") as caught:
        parse_sweeps([word])
    assert caught.value.message


def test_two_sweeps_of_one_name_and_one_of_too_many_tasks_are_refused():
    with pytest.raises(InvalidInputError, match="swept twice"):
        parse_sweeps(["t=1", "t=2"])
    with pytest.raises(InvalidInputError, match="1000000 tasks"):
        parse_sweeps(["a=1:1000", "b=1:1000"])


numbers = st.decimals(-100, 100, places=2).map(str)
ranges = st.builds("{}:{}/{}".format, numbers, numbers, st.integers(2, 9))
lists = st.lists(numbers, min_size=1, max_size=5).map(",".join)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), ranges | lists, min_size=1, max_size=3
    )
)
def test_what_travels_gives_each_task_the_same_values(said):
    sweep = parse_sweeps(f"{name}={text}" for name, text in said.items())
    assert read_sweep(sweep.text) == sweep
    assert Comment.parse(Comment(sweep=sweep.text).format()).sweep == sweep.text
    assert len({tuple(sweep.at(index)) for index in range(len(sweep))}) == 1
    with pytest.raises(InvalidInputError):
        sweep.at(len(sweep))


def test_a_value_is_data_and_never_looked_at_again():
    assert filled("Rx({{theta}}) {{ phi }}", {"theta": "{{ phi }}"}) == "Rx({{ phi }}) {{ phi }}"
    assert names_in("a\n{{ x }} {{y}}\n{{ x }}") == {"x": 2, "y": 2}
    assert names_in("{{ x | upper }} {{ }} {x}") == {}
    with pytest.raises(InvalidInputError, match=r"bell\.cq:2: \{\{ x \}\} has no value"):
        refuse_unfilled("a\n{{ x }}", "bell.cq")


def test_a_task_gets_its_share_of_the_envelope():
    whole = Envelope(kind="circuit", source="Rx({{ t }})", parameters={"a": "1"}, sweep="t:0:1:0.5")
    sent = unpack("#!/bin/bash\n" + pack(whole))
    assert sent == whole
    task = sent.of_task(1)
    assert (task.source, task.parameters, task.sweep) == ("Rx(0.5)", {"a": "1", "t": "0.5"}, "")
    hybrid = Envelope(kind="hybrid", source="{{ t }}", sweep="t:7").of_task(0)
    assert (hybrid.source, hybrid.parameters) == ("{{ t }}", {"t": "7"})
    for index in (None, 3):
        with pytest.raises(InvalidInputError):
            sent.of_task(index)
    assert Envelope(kind="circuit", source="x").of_task(None).source == "x"


@pytest.mark.parametrize("sweep", ["", "t", "t:0:1e9:1", "@", "t:1@t:2", "x" * 2000])
def test_a_sweep_that_somebody_else_wrote_is_bad_input_or_has_values(sweep):
    envelope = Envelope(kind="circuit", source="{{ t }}", sweep=sweep)
    try:
        envelope.of_task(0)
    except InvalidInputError as error:
        assert error.message


@given(skipped=st.integers(0, 11), index=st.integers(0, 12))
def test_a_part_of_a_sweep_goes_on_where_the_others_end(skipped, index):
    whole = parse_sweeps(["theta=0:1:0.5", "phi=a,b,c,d"])
    part = whole.after(skipped)
    assert read_sweep(part.text) == part
    assert len(part) == 12 - skipped
    if index < len(part):
        assert part.at(index) == whole.at(skipped + index)
    else:
        with pytest.raises(InvalidInputError):
            part.at(index)


@pytest.mark.parametrize(
    "text", ["+1@+1@theta:0:1", "+@theta:0:1", "+x@theta:0:1", "+1", "+1234567@theta:0:1"]
)
def test_nonsense_before_a_part_is_refused(text):
    with pytest.raises(InvalidInputError):
        read_sweep(text)
