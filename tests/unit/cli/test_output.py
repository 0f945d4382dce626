import pytest
from hypothesis import given
from hypothesis import strategies as st
from testbed.layout import CHECKOUT

from qslurm.cli.output import (
    BAR_WIDTH,
    bars,
    print_facts,
    print_table,
    short_name,
    wants_json,
)
from qslurm.cli.time_format import duration

ROOT = CHECKOUT


def test_the_longest_bar_is_the_most_frequent_outcome():
    first, second = bars({"00": 512, "11": 256}, 768)
    assert first == "00 " + "█" * 40 + " 512   66.7%"
    assert second == "11 " + "█" * 20 + " " * 20 + " 256   33.3%"


def test_no_counts_draw_nothing():
    assert bars({}, 0) == []


@given(st.dictionaries(st.text("01", min_size=1, max_size=8), st.integers(1, 10**9), min_size=1))
def test_all_bars_share_their_columns(counts):
    lines = bars(counts, sum(counts.values()))
    assert len({len(line) for line in lines}) == 1
    assert max(line.count("█") for line in lines) == BAR_WIDTH


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (18120, "5 h 2 min"),
        (1047600, "12 d 3 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["queue", "--json"], True), (["queue"], False), (["submit", "--", "--json"], False)],
)
def test_json_is_asked_for_by_the_option_alone(arguments, expected):
    assert wants_json(arguments) is expected


def test_what_another_user_wrote_does_nothing_to_a_terminal(capsys):
    print_table(("NAME",), [("\033[31mred\r\n",)])
    print_facts({"name": "\033]0;title\a"})
    assert capsys.readouterr().out == "NAME\n�[31mred��\nname  �]0;title�\n"


def test_a_long_name_leaves_the_other_columns_where_they_are():
    assert short_name("vqe") == "vqe"
    assert short_name("x" * 300) == "x" * 31 + "…"
