"""The words of a cQASM 1.0 program, and what its expressions come to.

Facts are from the cQASM 1.x language reference (libqasm's documentation, "Structure" and "Expressions"): line ends
count, case does not, and operands are constant expressions with Python's arithmetic, in which a minus binds
more tightly than a power.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qslurm.circuits.text import place
from qslurm.errors import CircuitError

_WORDS = re.compile(
    r"""(?P<blank>[ \t]+ | \\[ \t]*\n | \#[^\n]* | /\*.*?\*/)
      | (?P<end>[\n;])
      | (?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)
      | (?P<word>reset-averaging\b|[a-z_]\w*)
      | (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<sign>\*\*|//|<<|>>>?|[<>=!]=|&&|\|\||\^\^|[-+*/%|&^~!<>=?:.,()\[\]{}@])""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE | re.ASCII,
)
COMMENTS = "Comments begin with # in cQASM 1.0."
_MAX_INT = 2**63 - 1
_MAX_NESTING = 50
_CONSTANTS = {"pi": math.pi, "eu": math.e}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    name: getattr(math, name)
    for name in (
        *["sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan"],
        *["sinh", "cosh", "tanh", "asinh", "acosh", "atanh"],
    )
} | {"abs": abs}
_SUMS: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub}
_PRODUCTS: dict[str, Callable[[float, float], float]] = {
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


@dataclass(frozen=True)
class Word:
    """One word: its `kind` (end, number, word, text, sign), its text in lower case, and where it begins."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class Qubits:
    """Some qubits of the register `q`, in the order they were named."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Bits:
    """Some bits of the measurement register `b`."""

    indices: tuple[int, ...]


Value = int | float | Qubits | Bits
"""What an operand can be. `map` gives such a value a name."""


class Words:
    """The words of a program with a place to read on from; what is wrong is a CircuitError with line and column.

    `names` is what names stand for so far: the registers and what `map` has named.
    """

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._words = tuple(self._cut())
        self._next = 0
        self._depth = 0
        self.names: dict[str, Value] = dict(_CONSTANTS)

    def _cut(self) -> Iterator[Word]:
        at = 0
        while at < len(self._text):
            match = _WORDS.match(self._text, at)
            if match is None:
                raise self.error(at, f"{self._text[at]!r} is not allowed in cQASM 1.0")
            if match.lastgroup is not None and match.lastgroup != "blank":
                yield Word(match.lastgroup, match.group().lower(), at)
            at = match.end()
        yield Word("end", "", at)

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of an offset."""
        return place(self._text, at)

    def error(self, at: int, what: str, hint: str = "") -> CircuitError:
        """What is wrong at this offset, to be raised."""
        line, column = self.place(at)
        return CircuitError(f"{self._file}:{line}:{column}: {what}.", hint=hint)

    # --- words ---------------------------------------------------------------------------------------

    @property
    def now(self) -> Word:
        """The next word, without taking it."""
        return self._words[self._next]

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._next == len(self._words) - 1

    def take(self) -> Word:
        """The next word; the last one (an end) is given again and again."""
        word = self.now
        self._next = min(self._next + 1, len(self._words) - 1)
        return word

    def take_if(self, *texts: str) -> Word | None:
        """The next word if it is one of these."""
        return self.take() if self.now.kind != "text" and self.now.text in texts else None

    def take_if_before(self, text: str) -> Word | None:
        """The next word if it is a name with this sign behind it."""
        if self.now.kind != "word" or self._words[self._next + 1].text != text:
            return None
        return self.take()

    def expect(self, text: str) -> Word:
        """The next word, which must be this one."""
        if (word := self.take_if(text)) is None:
            raise self.error(self.now.at, f"expected {text!r}, not {self.seen()}")
        return word

    def expect_name(self) -> Word:
        """The next word, which must be a name."""
        if self.now.kind != "word":
            raise self.error(self.now.at, f"expected a name, not {self.seen()}")
        return self.take()

    def seen(self) -> str:
        """The next word, for messages."""
        return "the end of the line" if self.now.kind == "end" else repr(self.now.text)

    def skip_ends(self) -> None:
        """Go past line ends and semicolons."""
        while self.now.kind == "end" and not self.exhausted:
            self.take()

    def skip_statement(self) -> None:
        """Go to the end of the statement."""
        while self.now.kind != "end":
            self.take()

    # --- expressions ---------------------------------------------------------------------------------

    def value(self) -> Value:
        """The value of an expression."""
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise self.error(self.now.at, f"an expression is nested more than {_MAX_NESTING} deep")
        value = self._product()
        while word := self.take_if(*_SUMS):
            value = self._apply(word, _SUMS[word.text], value, self._product())
        self._depth -= 1
        return value

    def number(self, what: str) -> float:
        """The value of an expression that has to be a number."""
        at = self.now.at
        value = self.value()
        if isinstance(value, Qubits | Bits):
            raise self.error(at, f"{what} must be a number")
        return value

    def whole(self, what: str, lowest: int, highest: int) -> int:
        """The value of an expression that has to be an integer between these two."""
        at = self.now.at
        value = self.value()
        if not isinstance(value, int):
            raise self.error(at, f"{what} must be an integer")
        if not lowest <= value <= highest:
            raise self.error(at, f"{what} is {value}; it must be from {lowest} to {highest}")
        return value

    def _product(self) -> Value:
        value = self._power()
        while word := self.take_if(*_PRODUCTS):
            value = self._apply(word, _PRODUCTS[word.text], value, self._power())
        return value

    def _power(self) -> Value:
        bases = [self._unary()]
        signs = []
        while word := self.take_if("**"):
            signs.append(word)
            bases.append(self._unary())
        value = bases.pop()
        while signs:
            value = self._apply(signs.pop(), _power, bases.pop(), value)
        return value

    def _unary(self) -> Value:
        signs = []
        while word := self.take_if("-", "+"):
            signs.append(word)
        value = self._primary()
        for word in reversed(signs):
            value = self._apply(word, _SUMS[word.text], 0, value)
        return value

    def _primary(self) -> Value:
        word = self.take()
        if word.kind == "number":
            return self._literal(word)
        if word.text == "(" and word.kind == "sign":
            value = self.value()
            self.expect(")")
            return value
        if word.kind == "word" and word.text in _FUNCTIONS and self.take_if("("):
            argument = self.number(f"the argument of {word.text}")
            self.expect(")")
            return self._apply(word, lambda _, x: _FUNCTIONS[word.text](x), 0, argument)
        if word.kind == "word" and word.text in self.names:
            value = self.names[word.text]
            return self._element(value) if self.take_if("[") else value
        if word.kind == "word":
            hint = COMMENTS if self._words[self._next - 2].text == "//" else "Define names with map."
            raise self.error(word.at, f"unknown name {word.text!r}", hint)
        self._next -= word.kind != "end" or not self.exhausted
        raise self.error(word.at, f"expected an operand, not {self.seen()}")

    def _literal(self, word: Word) -> Value:
        if word.text.isdigit():
            if len(word.text) > 18:
                raise self.error(word.at, "this number is too large")
            return int(word.text)
        return self._finite(word, float(word.text))

    def _element(self, value: Value) -> Value:
        """Some of a register's elements: `[0, 2:4]`, both ends included."""
        start = self.now.at
        if not isinstance(value, Qubits | Bits):
            raise self.error(start, "only the registers q and b have elements")
        highest = len(value.indices) - 1
        indices: list[int] = []
        while True:
            first = last = self.whole("an index", 0, highest)
            if self.take_if(":"):
                last = self.whole("the end of a range", first, highest)
            indices += value.indices[first : last + 1]
            if self.take_if("]"):
                break
            self.expect(",")
        if len(set(indices)) < len(indices):
            raise self.error(start, "an element is listed twice")
        return type(value)(tuple(indices))

    def _apply(
        self, word: Word, function: Callable[[float, float], float], left: Value, right: Value
    ) -> Value:
        if isinstance(left, Qubits | Bits) or isinstance(right, Qubits | Bits):
            raise self.error(word.at, f"{word.text!r} needs numbers")
        try:
            return self._finite(word, function(left, right))
        except OverflowError as error:
            raise self.error(word.at, "this number is too large") from error
        except (ArithmeticError, ValueError) as error:
            raise self.error(word.at, f"cannot compute this expression: {error}") from error

    def _finite(self, word: Word, value: float) -> Value:
        if isinstance(value, complex) or not math.isfinite(value):
            raise self.error(word.at, "this expression is not a real number")
        if isinstance(value, int) and abs(value) > _MAX_INT:
            raise self.error(word.at, "this number is too large")
        return value


def _power(base: float, exponent: float) -> float:
    if isinstance(base, int) and isinstance(exponent, int) and exponent * base.bit_length() > 128:
        return float(base) ** exponent
    result: float = base**exponent
    return result
