"""Editors offer each option of a job as a keyword argument, and its help in the docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints

import pytest

from qslurm import Center
from qslurm.c1.api.job_keywords import JobKeywords, SessionKeywords
from qslurm.payload.option import Place
from qslurm.payload.spec import job_options

TYPES = {
    "text": str | None,
    "flag": bool | None,
    "whole": int | None,
    "seconds": float | None,
    "texts": Mapping[str, str | Iterable[object]] | None,
    "values": Mapping[str, object] | None,
}

PLACES: list[tuple[Place, type]] = [("python", JobKeywords), ("python session", SessionKeywords)]


@pytest.mark.parametrize(("place", "keywords"), PLACES)
def test_each_declared_option_is_a_typed_keyword_and_nothing_else_is(place: Place, keywords: type) -> None:
    declared = {keyword: TYPES[one.type] for one in job_options(place).values() for keyword in one.keywords}
    assert get_type_hints(keywords) == declared


def words_of(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").split())


def test_the_docstring_explains_each_option() -> None:
    documentation = words_of(Center.submit)
    for one in job_options("python").values():
        line = f"{', '.join(one.keywords)}: {one.option.help}"
        assert line in documentation, f"Center.submit's docstring lacks: {line}"


def test_the_docstring_of_session_names_each_option() -> None:
    documentation = words_of(Center.session)
    for one in job_options("python session").values():
        assert f"`{one.keywords[0]}`" in documentation


@pytest.mark.parametrize("method", [Center.submit, Center.map, Center.session])
def test_the_keywords_are_in_the_signature(method: Callable[..., Any]) -> None:
    assert "Unpack" in str(inspect.signature(method).parameters["options"].annotation)
