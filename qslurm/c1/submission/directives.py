"""Reads `#QSLURM` lines: options of `qslurm submit` in a file, like sbatch's `#SBATCH` lines.

They are comments before the first line of code: `#QSLURM --shots 4096` in a batch script, in Python and in cQASM 1.0,
`// #QSLURM --shots 4096` in cQASM 3.0 and OpenQASM. Options of the command line take precedence.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from qslurm.errors import InvalidInputError
from qslurm.payload.option import MOST_SECONDS, Declared
from qslurm.payload.spec import job_options

_DIRECTIVE = re.compile(r"(?://\s*)?#QSLURM(?![\w-])(.*)")
_COMMENT = re.compile(r"\s*(#|//|$)")


def _value_parser(one: Declared) -> Callable[[str], object]:
    """The parser of an option's value, which raises ValueError if it is invalid."""

    def whole(text: str) -> int:
        number = int(text)
        if number < one.option.least:
            raise ValueError(text)
        return number

    def seconds(text: str) -> float:
        number = float(text)
        if not 0 < number <= MOST_SECONDS:
            raise ValueError(text)
        return number

    return {"whole": whole, "seconds": seconds}.get(one.type, str)


def read_directives(text: str, file: str, remark: Callable[[str], None]) -> dict[str, Any]:
    """The values in a file's `#QSLURM` lines, by field of the job.

    The last of a repeated option counts. InvalidInputError with the line number for an unknown option; `remark` gets a
    note about a line below the first line of code, which is not read.
    """
    found: dict[str, Any] = {}
    parser: argparse.ArgumentParser | None = None
    for line, words in _lines(text, file, remark):
        parser = parser or _parser()
        for name, value in _parsed(parser, words, f"{file}:{line}").items():
            found[name] = [*found.get(name, []), *value] if isinstance(value, list) else value
    return found


def _lines(text: str, file: str, remark: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """The options of each directive, by line number."""
    if "#QSLURM" not in text:
        return
    code = 0
    for number, line in enumerate(text.splitlines(), start=1):
        match = _DIRECTIVE.fullmatch(line)
        if match and code:
            remark(
                f"{file}:{number}: this #QSLURM line is ignored; it must precede the first line of code, line {code}."
            )
            return
        if match:
            yield number, match[1]
        elif not code and not _COMMENT.match(line):
            code = number


class _Parser(argparse.ArgumentParser):
    """Raises an error instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for one in job_options("file").values():
        names = [f"--{one.name}", *([f"-{one.option.short}"] if one.option.short else [])]
        if one.type == "flag":
            parser.add_argument(*names, dest=one.field, action="store_true")
        elif one.is_repeatable:
            parser.add_argument(*names, dest=one.field, action="append")
        else:
            parser.add_argument(*names, dest=one.field, type=_value_parser(one))
    return parser


def _parsed(parser: argparse.ArgumentParser, words: str, where: str) -> dict[str, Any]:
    try:
        known, unknown = parser.parse_known_args(shlex.split(words, comments=True))
    except InvalidInputError as error:
        message = re.sub(r"^argument (\S+?)(/\S+)?: (.*)", r"\1: \3", error.message)
        message = re.sub(r"invalid \w+ value: (.*)", r"invalid value \1", message)
        raise InvalidInputError(f"{where}: #QSLURM {message}.") from error
    except ValueError as error:
        raise InvalidInputError(f"{where}: invalid #QSLURM line: {str(error).lower()}.") from error
    if unknown:
        options = sorted(job_options("file"))
        near = difflib.get_close_matches(unknown[0].lstrip("-"), options, n=1)
        raise InvalidInputError(
            f"{where}: unknown #QSLURM option {unknown[0]!r}.",
            hint=f"Did you mean --{near[0]}?" if near else f"Available: --{', --'.join(options)}.",
        )
    return vars(known)
