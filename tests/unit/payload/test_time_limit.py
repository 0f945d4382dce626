import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload.time_limit import parse_time_limit


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("5", 5),
        ("5:00", 5),
        ("5:01", 6),
        ("0:30", 1),
        ("1:00:00", 60),
        ("1-0", 1440),
        ("1-2:3", 1563),
        ("2-01:02:03", 2943),
    ],
)
def test_time_limits_are_read_as_sbatch_reads_them(text, minutes):
    assert parse_time_limit(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:2:3:4", "1-", "5 minutes", "1.5", "4294967296"])
def test_nonsense_is_refused_with_the_forms_that_work(text):
    with pytest.raises(InvalidInputError) as refused:
        parse_time_limit(text)
    assert "sbatch" in refused.value.hint


@pytest.mark.parametrize(
    "text", ["UNLIMITED", "unlimited", "INFINITE", " infinite ", "-1", "0", "00:00:00", "0-0"]
)
def test_what_means_no_limit_to_sbatch_is_told_what_is_wanted_instead(text):
    with pytest.raises(InvalidInputError) as refused:
        parse_time_limit(text)
    assert text.strip() in refused.value.message
    assert "means no limit" in refused.value.message
    assert "--time 1:00:00" in refused.value.hint


@given(st.integers(1, 10**6))
def test_any_number_of_minutes_means_itself(minutes):
    assert parse_time_limit(str(minutes)) == minutes
