"""Splits a cQASM 1.0 program into tokens, and evaluates its expressions.

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

_TOKENS = re.compile(
    r"""(?P<blank>[ \t]+ | \\[ \t]*\n | \#[^\n]* | /\*.*?\*/)
      | (?P<end>[\n;])
      | (?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)
      | (?P<name>reset-averaging\b|[a-z_]\w*)
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
class Token:
    """A token: its `kind` (end, number, name, text, sign), its text in lower case, and its offset."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class Qubits:
    """Qubits of the register `q`, in the order of the program."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Bits:
    """Bits of the measurement register `b`."""

    indices: tuple[int, ...]


Operand = int | float | Qubits | Bits
"""The value of an operand. `map` names one."""


class Lexer:
    """The lexer of a program with a place to read on from; what is wrong is a CircuitError with line and column.

    `names` is what names stand for so far: the registers and what `map` has named.
    """

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._tokens = tuple(self._split())
        self._next = 0
        self._depth = 0
        self.names: dict[str, Operand] = dict(_CONSTANTS)

    def _split(self) -> Iterator[Token]:
        at = 0
        while at < len(self._text):
            match = _TOKENS.match(self._text, at)
            if match is None:
                raise self.error(at, f"{self._text[at]!r} is not allowed in cQASM 1.0")
            if match.lastgroup is not None and match.lastgroup != "blank":
                yield Token(match.lastgroup, match.group().lower(), at)
            at = match.end()
        yield Token("end", "", at)

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of an offset."""
        return place(self._text, at)

    def error(self, at: int, what: str, hint: str = "") -> CircuitError:
        """An error at this offset, to be raised."""
        line, column = self.place(at)
        return CircuitError(f"{self._file}:{line}:{column}: {what}.", hint=hint)

    # --- lexer ---------------------------------------------------------------------------------------

    @property
    def now(self) -> Token:
        """The next token, without taking it."""
        return self._tokens[self._next]

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._next == len(self._tokens) - 1

    def take(self) -> Token:
        """Take the next token; at the end, the last one again."""
        token = self.now
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def take_if(self, *texts: str) -> Token | None:
        """The next token if it is one of these."""
        return self.take() if self.now.kind != "text" and self.now.text in texts else None

    def take_if_before(self, text: str) -> Token | None:
        """The next token if it is a name with this sign behind it."""
        if self.now.kind != "name" or self._tokens[self._next + 1].text != text:
            return None
        return self.take()

    def expect(self, text: str) -> Token:
        """The next token, which must be this one."""
        if (token := self.take_if(text)) is None:
            raise self.error(self.now.at, f"expected {text!r}, not {self.describe_next()}")
        return token

    def expect_name(self) -> Token:
        """The next token, which must be a name."""
        if self.now.kind != "name":
            raise self.error(self.now.at, f"expected a name, not {self.describe_next()}")
        return self.take()

    def describe_next(self) -> str:
        """The next token, for messages."""
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

    def value(self) -> Operand:
        """The value of an expression."""
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise self.error(self.now.at, f"an expression is nested more than {_MAX_NESTING} deep")
        value = self._product()
        while token := self.take_if(*_SUMS):
            value = self._apply(token, _SUMS[token.text], value, self._product())
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

    def _product(self) -> Operand:
        value = self._power()
        while token := self.take_if(*_PRODUCTS):
            value = self._apply(token, _PRODUCTS[token.text], value, self._power())
        return value

    def _power(self) -> Operand:
        bases = [self._unary()]
        signs = []
        while token := self.take_if("**"):
            signs.append(token)
            bases.append(self._unary())
        value = bases.pop()
        while signs:
            value = self._apply(signs.pop(), _power, bases.pop(), value)
        return value

    def _unary(self) -> Operand:
        signs = []
        while token := self.take_if("-", "+"):
            signs.append(token)
        value = self._primary()
        for token in reversed(signs):
            value = self._apply(token, _SUMS[token.text], 0, value)
        return value

    def _primary(self) -> Operand:
        token = self.take()
        if token.kind == "number":
            return self._literal(token)
        if token.text == "(" and token.kind == "sign":
            value = self.value()
            self.expect(")")
            return value
        if token.kind == "name" and token.text in _FUNCTIONS and self.take_if("("):
            argument = self.number(f"the argument of {token.text}")
            self.expect(")")
            return self._apply(token, lambda _, x: _FUNCTIONS[token.text](x), 0, argument)
        if token.kind == "name" and token.text in self.names:
            value = self.names[token.text]
            return self._element(value) if self.take_if("[") else value
        if token.kind == "name":
            hint = COMMENTS if self._tokens[self._next - 2].text == "//" else "Define names with map."
            raise self.error(token.at, f"unknown name {token.text!r}", hint)
        self._next -= token.kind != "end" or not self.exhausted
        raise self.error(token.at, f"expected an operand, not {self.describe_next()}")

    def _literal(self, token: Token) -> Operand:
        if token.text.isdigit():
            if len(token.text) > 18:
                raise self.error(token.at, "this number is too large")
            return int(token.text)
        return self._finite(token, float(token.text))

    def _element(self, value: Operand) -> Operand:
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
        self, token: Token, function: Callable[[float, float], float], left: Operand, right: Operand
    ) -> Operand:
        if isinstance(left, Qubits | Bits) or isinstance(right, Qubits | Bits):
            raise self.error(token.at, f"{token.text!r} needs numbers")
        try:
            return self._finite(token, function(left, right))
        except OverflowError as error:
            raise self.error(token.at, "this number is too large") from error
        except (ArithmeticError, ValueError) as error:
            raise self.error(token.at, f"cannot compute this expression: {error}") from error

    def _finite(self, token: Token, value: float) -> Operand:
        if isinstance(value, complex) or not math.isfinite(value):
            raise self.error(token.at, "this expression is not a real number")
        if isinstance(value, int) and abs(value) > _MAX_INT:
            raise self.error(token.at, "this number is too large")
        return value


def _power(base: float, exponent: float) -> float:
    if isinstance(base, int) and isinstance(exponent, int) and exponent * base.bit_length() > 128:
        return float(base) ** exponent
    result: float = base**exponent
    return result
