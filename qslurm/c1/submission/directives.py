"""`#QSLURM` lines: options of `qslurm submit` that a file brings along, as `#SBATCH` lines are sbatch's.

They stand in comments before the first line of code: `#QSLURM --shots 4096` in a batch script, in Python and in
cQASM 1.0, `// #QSLURM --shots 4096` in cQASM 3.0 and OpenQASM. What the command line says wins over them.
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


def _reader(one: Declared) -> Callable[[str], object]:
    """What reads an option's value; ValueError for what can't be one."""

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
    """The fields of a job that a file's `#QSLURM` lines give values to, as their user wrote them.

    Of an option that stands twice the last counts. InvalidInputError, with the line, for what is no option of a job;
    `remark` is told of a line that stands too low to be read.
    """
    found: dict[str, Any] = {}
    parser: argparse.ArgumentParser | None = None
    for line, words in _lines(text, file, remark):
        parser = parser or _parser()
        for name, value in _parsed(parser, words, f"{file}:{line}").items():
            found[name] = [*found.get(name, []), *value] if isinstance(value, list) else value
    return found


def _lines(text: str, file: str, remark: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """The directives of a file, by number of line."""
    if "#QSLURM" not in text:
        return
    code = 0
    for number, line in enumerate(text.splitlines(), start=1):
        match = _DIRECTIVE.fullmatch(line)
        if match and code:
            remark(
                f"{file}:{number}: a #QSLURM line is not read here; it must stand above line {code}, where code begins."
            )
            return
        if match:
            yield number, match[1]
        elif not code and not _COMMENT.match(line):
            code = number


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would end the process."""

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
            parser.add_argument(*names, dest=one.field, type=_reader(one))
    return parser


def _parsed(parser: argparse.ArgumentParser, words: str, where: str) -> dict[str, Any]:
    try:
        known, unknown = parser.parse_known_args(shlex.split(words, comments=True))
    except InvalidInputError as error:
        said = re.sub(r"^argument (\S+?)(/\S+)?: (.*)", r"\1: \3", error.message)
        said = re.sub(r"invalid \w+ value: (.*)", r"\1 can't be its value", said)
        raise InvalidInputError(f"{where}: #QSLURM {said}.") from error
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
