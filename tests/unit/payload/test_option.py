"""Options are declared once; docs/options.md has the table that is made of the declarations."""

from __future__ import annotations

from pathlib import Path

import pytest

from qslurm.payload.option import Declared
from qslurm.payload.spec import JobSpec, job_options

PAGE = Path(__file__).parents[3] / "docs" / "options.md"
HEADER = (
    "| option | meaning | default | Python | session |",
    "|---|---|---|---|---|",
)


def _row(one: Declared) -> str:
    option = one.option
    names = f"`--{one.name}`" + (f", `-{option.short}`" if option.short else "")
    value = "" if one.type == "flag" else f" {option.metavar}"
    python = ", ".join(f"`{name}=`" for name in one.keywords) if "python" in option.places else ""
    session = "yes" if "session" in option.places else ""
    return f"| {names}{value} | {option.help} | {option.default} | {python} | {session} |"


def test_the_page_has_the_table_of_all_options():
    table = "\n".join([*HEADER, *(_row(one) for one in job_options().values())])
    assert table in PAGE.read_text(), f"put this table into {PAGE}:\n{table}"


def test_each_option_has_a_name_a_letter_and_a_field_of_its_own():
    every = list(job_options().values())
    letters = [one.option.short for one in every if one.option.short]
    keywords = [keyword for one in every for keyword in one.keywords]
    assert len(set(letters)) == len(letters)
    assert len(set(keywords)) == len(keywords)
    assert {one.field for one in every} <= set(JobSpec.__struct_fields__)


@pytest.mark.parametrize("name", sorted(job_options()))
def test_an_option_that_was_not_given_is_empty(name):
    assert not getattr(JobSpec(), job_options()[name].field)
