"""Parameters for `{{ name }}` in a job, and sweeps, which give each array task its values.

A sweep is written `theta=0:3.14:0.1` (from, to, step; inclusive), `theta=0:3.14/32` (32 values, with both ends) or
`theta=0.1,0.2,pi`. Several sweeps make a grid, in which the last one varies fastest. A job has the encoded sweep as one
text, and a task's values follow from its index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from qslurm.errors import InvalidInputError
from qslurm.payload.array import MOST_TASKS

HINT = 'Use "theta=0:3.14:0.1" (from, to, step), "theta=0:3.14/32" (from, to, count) or "theta=0.1,0.2,0.3".'

DIGITS = 12
"""Significant digits of a divided value."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_SKIPPED = re.compile(r"\+(\d{1,6})@(?!\+)")
_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


@dataclass(frozen=True)
class Sweep:
    """Values of parameters for each task; `text` is the encoded form.

    Task 0 of a sweep that continues another array comes after `skipped` tasks.
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    text: str
    skipped: int = 0

    def __len__(self) -> int:
        return max(0, math.prod(len(values) for values in self.values) - self.skipped)

    def after(self, skipped: int) -> Sweep:
        """The sweep without its first tasks; itself for 0."""
        return replace(self, text=f"+{skipped}@{self.text}", skipped=skipped) if skipped else self

    def at(self, index: int) -> dict[str, str]:
        """The values of a task; InvalidInputError if there are none."""
        if not 0 <= index < len(self):
            raise InvalidInputError(
                f"The sweep has values for tasks 0 to {len(self) - 1}, but none for task {index}."
            )
        index += self.skipped
        found: dict[str, str] = {}
        for name, values in zip(reversed(self.names), reversed(self.values), strict=True):
            index, place = divmod(index, len(values))
            found[name] = values[place]
        return dict(reversed(found.items()))


def parse_sweeps(words: Iterable[str]) -> Sweep:
    """Parse `NAME=VALUES` words to a sweep; InvalidInputError if invalid or too large."""
    found: dict[str, tuple[str, ...]] = {}
    parts = []
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise InvalidInputError(f"Invalid sweep {word!r}.", hint=HINT)
        if name in found:
            raise InvalidInputError(f"{name} is swept twice.", hint="List all its values in one sweep.")
        found[name] = tuple(_values(word, values.replace(" ", "")))
        parts.append(f"{name}:{values.replace(' ', '')}")
    sweep = Sweep(tuple(found), tuple(found.values()), "@".join(parts))
    if len(sweep) > MOST_TASKS:
        raise InvalidInputError(f"The sweep has {len(sweep)} tasks; the maximum is {MOST_TASKS}.")
    return sweep


def read_sweep(text: str) -> Sweep:
    """Decode a sweep."""
    if match := _SKIPPED.match(text):
        return read_sweep(text[match.end() :]).after(int(match[1]))
    return parse_sweeps(part.replace(":", "=", 1) for part in text.split("@"))


def _values(word: str, text: str) -> Iterator[str]:
    if match := re.fullmatch(r"([^:/,]+):([^:/,]+)(?:([:/])([^:/,]+))?", text):
        first, last = _number(word, match[1]), _number(word, match[2])
        if match[3] == "/":
            yield from _spread(word, first, last, match[4])
        else:
            yield from _steps(word, first, last, _number(word, match[4] or "1"))
        return
    for value in text.split(","):
        if not _WORD.fullmatch(value):
            raise InvalidInputError(f"Invalid sweep {word!r}: {value!r} is not a value.", hint=HINT)
        yield value


def _number(word: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or abs(number.adjusted()) > 30:
        raise InvalidInputError(f"Invalid sweep {word!r}: {text!r} is not a number.", hint=HINT)
    return number


def _steps(word: str, first: Decimal, last: Decimal, step: Decimal) -> Iterator[str]:
    if not step or (last - first) / step < 0:
        problem = f"a step of {_plain(step)} never goes from {_plain(first)} to {_plain(last)}"
        raise InvalidInputError(f"The sweep {word!r} is empty: {problem}.", hint=HINT)
    count = int((last - first) / step) + 1
    if count > MOST_TASKS:
        raise InvalidInputError(f"The sweep {word!r} has {count} values; the maximum is {MOST_TASKS}.")
    for number in range(count):
        yield _plain(first + number * step)


def _spread(word: str, first: Decimal, last: Decimal, count: str) -> Iterator[str]:
    if not (count.isascii() and count.isdigit() and 2 <= int(count[:9]) <= MOST_TASKS and len(count) < 9):
        raise InvalidInputError(f"The sweep {word!r}: {count!r} is not a count of 2 or more.", hint=HINT)
    for number in range(int(count)):
        value = first + (last - first) * number / (int(count) - 1)
        yield _plain(Decimal(f"{value:.{DIGITS}g}"))


def _plain(value: Decimal) -> str:
    """Format without exponent and trailing zeros."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def names_in(source: str) -> dict[str, int]:
    """The names used as `{{ name }}` in a source, with their first lines."""
    found: dict[str, int] = {}
    for match in _PLACE.finditer(source):
        found.setdefault(match[1], source.count("\n", 0, match.start()) + 1)
    return found


def refuse_unfilled(source: str, file: str, swept: Iterable[str] = ()) -> None:
    """InvalidInputError for a `{{ name }}` without a value, with its line."""
    for name, line in names_in(source).items():
        if name not in swept:
            raise InvalidInputError(
                f"{file}:{line}: {{{{ {name} }}}} has no value.",
                hint=f"Set it with --set {name}=0.5, or sweep it with `qslurm submit --sweep {name}=0:3.14:0.1`.",
            )


def filled(source: str, values: Mapping[str, str]) -> str:
    """Replace `{{ name }}` by its value; names without a value are kept. Values are not interpreted as templates."""
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), source)
