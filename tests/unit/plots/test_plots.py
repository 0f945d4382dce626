"""Results as rows and charts."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import pytest

from qslurm.cli.results import in_terminal
from qslurm.errors import InvalidInputError
from qslurm.plots.chart import Bars, Lines, chart_of
from qslurm.plots.rows import as_csv
from qslurm.plots.svg import as_svg, ticks

CIRCUIT = {"job_id": 7, "kind": "circuit", "state": "finished", "counts": {"11": 30, "00": 70}, "shots": 100}
HYBRID = {
    "job_id": 8,
    "kind": "hybrid",
    "final_result": {"energy": -1.8, "trace": [[0.1, -1.0], [0.2, -1.5], [0.3, -1.8]], "label": "h2"},
}
SCRIPT = {"job_id": 9, "kind": "script", "state": "finished"}


def task(index, theta, document):
    return {**document, "id": f"12_{index}", "parameters": {"theta": theta}, "state": "finished"}


SWEEP = {
    "job_id": 12,
    "tasks": [
        task(0, "10", {**CIRCUIT, "counts": {"0": 100}}),
        task(1, "9", {**CIRCUIT, "counts": {"1": 100}}),
        {"id": "12_2", "parameters": {"theta": "11"}, "state": "failed", "error": {"message": "no"}},
    ],
}
VARIED = {
    "job_id": 13,
    "tasks": [task(0, "1", HYBRID), task(1, "2", {**HYBRID, "final_result": {"energy": -1.7}})],
}


def rows(document):
    return list(csv.reader(io.StringIO(as_csv(document))))


def test_counts_are_rows_of_bits_count_and_share():
    assert rows(CIRCUIT) == [["bits", "count", "share"], ["00", "70", "0.7"], ["11", "30", "0.3"]]


def test_a_final_result_is_one_row_with_what_is_nested_as_json():
    header, row = rows(HYBRID)
    assert (header, row[0], row[2]) == (["energy", "trace", "label"], "-1.8", "h2")
    assert row[1] == "[[0.1, -1.0], [0.2, -1.5], [0.3, -1.8]]"


def test_rows_of_an_array_begin_with_task_and_parameters():
    assert rows(SWEEP) == [
        ["task", "theta", "bits", "count", "share"],
        ["12_0", "10", "0", "100", "1.0"],
        ["12_1", "9", "1", "100", "1.0"],
    ]
    assert [row[:3] for row in rows(VARIED)] == [
        ["task", "theta", "energy"],
        ["12_0", "1", "-1.8"],
        ["12_1", "2", "-1.7"],
    ]


def test_a_batch_script_has_no_rows():
    with pytest.raises(InvalidInputError):
        as_csv(SCRIPT)


def test_counts_are_drawn_as_bars_the_most_frequent_of_very_many():
    assert chart_of(CIRCUIT) == Bars("job 7, 100 shots", {"00": 70, "11": 30}, 100)
    many = chart_of({**CIRCUIT, "counts": {f"{n:08b}": n + 1 for n in range(200)}})
    assert isinstance(many, Bars)
    assert len(many.counts) == 64
    assert "136 less frequent outcomes omitted" in many.title


def test_a_hybrid_jobs_trace_is_drawn_step_by_step():
    assert chart_of(HYBRID) == Lines("job 8", "step", "trace", [0, 1, 2], {"trace": [-1.0, -1.5, -1.8]})
    other = {**HYBRID, "final_result": {"n": 3, "steps": [1, 2], "energies": [3, 4]}}
    assert chart_of(other).lines == {"energies": [3.0, 4.0]}
    assert chart_of(other, "steps").lines == {"steps": [1.0, 2.0]}


def test_a_sweep_is_drawn_over_its_parameter_in_order():
    chart = chart_of(SWEEP)
    assert (chart.x_label, chart.x) == ("theta", [9.0, 10.0])
    assert chart.lines == {"0": [0.0, 1.0], "1": [1.0, 0.0]}
    assert chart_of(VARIED).lines == {"energy": [-1.8, -1.7]}


@pytest.mark.parametrize(
    ("document", "trace"),
    [
        (SCRIPT, None),
        ({**CIRCUIT, "counts": {}}, None),
        ({**HYBRID, "final_result": {"energy": 1, "few": [1], "words": ["a", "b"]}}, None),
        (HYBRID, "energy"),
        ({**SWEEP, "tasks": SWEEP["tasks"][:1]}, None),
        ({**SWEEP, "tasks": [{**one, "parameters": {"a": "1", "b": "2"}} for one in SWEEP["tasks"]]}, None),
    ],
)
def test_what_can_not_be_drawn_says_why(document, trace):
    with pytest.raises(InvalidInputError):
        chart_of(document, trace)


@pytest.mark.parametrize("document", [CIRCUIT, HYBRID, SWEEP, VARIED, {**CIRCUIT, "counts": {"<&>": 1}}])
def test_a_drawing_is_valid_svg_within_its_frame(document):
    root = ElementTree.fromstring(as_svg(chart_of(document)))
    assert root.tag.endswith("svg")
    for element in root.iter():
        for name in ("x", "y", "cx", "cy"):
            assert -1 <= float(element.get(name, 0)) <= 720


def test_a_chart_in_the_terminal_is_text():
    title, first, _ = in_terminal(chart_of(CIRCUIT))
    assert title == "job 7, 100 shots"
    assert first.startswith("00 ████")
    assert in_terminal(chart_of(HYBRID)) == ["step 0 to 2", "trace █▄▁  -1.8 to -1, last -1.8"]


@pytest.mark.parametrize("outcomes", [1, 2, 63, 64, 65, 200])
def test_a_share_in_the_terminal_is_one_of_all_shots_however_many_outcomes_are_left_out(outcomes):
    counts = {f"{n:08b}": n + 1 for n in range(outcomes)}
    title, *lines = in_terminal(chart_of({**CIRCUIT, "counts": counts}))
    assert len(lines) == min(outcomes, 64)
    assert ("omitted" in title) == (outcomes > 64)
    shots = sum(counts.values())
    for line in lines:
        bits, *_, count, share = line.split()
        assert (int(count), share) == (counts[bits], f"{counts[bits] / shots:.1%}")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1.87, -0.46), (0, 1e6), (3, 3), (0, 1e-9)])
def test_ticks_are_round_and_within(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)
