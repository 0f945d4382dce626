"""Evaluates constant expressions of cQASM 3.0 in double precision.

libqasm's tree has numbers rounded to six digits; what they were rounded from is in the program's text.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable

_CONSTANTS = {"pi": math.pi, "tau": math.tau, "eu": math.e}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    **{
        name: getattr(math, name)
        for name in ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh")
    },
    **{name: getattr(math, name) for name in ("exp", "log", "sin", "sinh", "sqrt", "tan", "tanh")},
    "abs": abs,
}
_ROUNDING = 1e-5
"""Relative difference between a number and itself in six digits, at most."""


def exact(text: str, rounded: float) -> float:
    """Return the value of an expression that libqasm has rounded to `rounded`.

    An expression with anything that only libqasm evaluates has the rounded value.
    """
    try:
        value = float(text)
    except ValueError:
        try:
            value = float(_value(ast.parse(text.strip(), mode="eval").body))
        except (ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
            return rounded
    return value if abs(value - rounded) <= _ROUNDING * abs(rounded) else rounded


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=operation, right=right):
            return _combined(_value(left), operation, _value(right))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](_value(argument))
    raise ValueError(ast.dump(node))


def _combined(left: float, operation: ast.operator, right: float) -> float:
    match operation:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div() if isinstance(left, int) and isinstance(right, int):
            return int(left / right)  # cQASM divides integers as C does
        case ast.Div():
            return left / right
        case ast.Pow():
            return float(float(left) ** float(right))
    raise ValueError(ast.dump(operation))
