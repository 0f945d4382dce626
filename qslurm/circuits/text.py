"""Normalizes a cQASM program's text and splits it into statements, before libqasm reads it.

The C++ libraries libqasm and QX crash on some texts (libqasm 1.6: an integer division by zero, an expression nested
100 000 deep) and write invalid JSON for others (characters outside ASCII, quotes in an `asm` block). Normalizing keeps
lines and columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qslurm.errors import CircuitError

MAX_QUBITS = 64
"""QX's limit, spare qubits included."""
MAX_CHARACTERS = 4_000_000
MAX_STATEMENT = 4_000
"""Maximum characters of a statement without comments; libqasm recurses on it."""
MAX_NESTING = 100

_PIECE = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)|'''.*?(?:'''|\Z)|[;\n]|[^;\n/']+|.", re.DOTALL)
_BRACKET = re.compile(r"[\[\](){}]")
_DECLARATION = re.compile(r"(version|qubit|bit)\b")
_INDEX = re.compile(r"\[([^\]]*)")
_PLAIN_INDEX = re.compile(r"(?:\d{1,6}(?!\d)|[\s,:+-])*")
_DIVISION = re.compile(
    r"[/%](?!\s*(?:(?!0+\b(?!\.))\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|pi|tau|eu)\b(?!\s*\*\*)(?!\.))"
)
_VERSION_1 = re.compile(
    r"(?>[\s;]|\\\n|\#[^\n]*+|//[^\n]*+|/\*.*?\*/)*+version[ \t]+1\b", re.DOTALL | re.IGNORECASE
)


@dataclass(frozen=True)
class Statement:
    """A statement: its text without comments, and its offsets in the program."""

    code: str
    start: int
    end: int

    @property
    def declares(self) -> bool:
        """Whether this is a version or a declaration, and so not a step."""
        return _DECLARATION.match(self.code) is not None


@dataclass(frozen=True)
class Text:
    """A program that is safe to analyze, with its statements in order.

    `risky` are the statements that may divide by zero or have a huge index.
    """

    program: str
    statements: tuple[Statement, ...]
    risky: tuple[Statement, ...]

    @property
    def steps(self) -> list[Statement]:
        """The executable statements: gates, measurements, resets, `asm` blocks."""
        return [statement for statement in self.statements if not statement.declares]


def is_cqasm1(text: str) -> bool:
    """Whether a program declares version 1 (1.0, 1.1 or 1.2)."""
    return _VERSION_1.match(text) is not None


def read_text(text: str, file: str) -> Text:
    """Normalize and split a program; CircuitError with line and column if it cannot be cQASM."""
    if len(text) > MAX_CHARACTERS:
        raise CircuitError(
            f"{file}: the circuit is {len(text)} characters long; the maximum is {MAX_CHARACTERS}.",
            hint="Use fewer gates, or split it into several circuits.",
        )
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    plain: list[str] = []
    statements: list[Statement] = []
    code: list[str] = []
    start = end = offset = 0

    def close() -> None:
        if code:
            statements.append(Statement("".join(code).strip(), start, end))
        code.clear()

    for match in _PIECE.finditer(text):
        piece = match.group()
        if piece in ";\n":
            close()
        elif piece.startswith(("//", "/*")):
            piece = _without_foreign(piece)
        elif piece.startswith("'''"):
            # Hardware assembly is not executed; blanks keep its lines and columns.
            piece = piece[:3] + re.sub(r"[^\n']", " ", piece[3:])
            code.append("''' '''")
            end = offset + len(piece)
        else:
            _check_characters(text, piece, offset, file)
            if not code:
                start = offset + len(piece) - len(piece.lstrip())
            if piece.strip():
                end = offset + len(piece.rstrip())
            if code or piece.strip():
                code.append(piece)
        plain.append(piece)
        offset += len(piece)
    close()
    program = "".join(plain)
    for statement in statements:
        _check_size(program, statement, file)
    return Text(program, tuple(statements), tuple(each for each in statements if _is_risky(each.code)))


def _is_risky(code: str) -> bool:
    return any(not _PLAIN_INDEX.fullmatch(index) for index in _INDEX.findall(code)) or bool(
        _DIVISION.search(code)
    )


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _without_foreign(comment: str) -> str:
    return re.sub(r"[^\n\t -~]", "?", comment)


def _check_characters(text: str, piece: str, offset: int, file: str) -> None:
    foreign = re.search(r"[^\n\t -~]", piece)
    if foreign is None:
        return
    line, column = place(text, offset + foreign.start())
    character = foreign.group()
    name = f"'{character}' (U+{ord(character):04X})" if character.isprintable() else f"U+{ord(character):04X}"
    raise CircuitError(
        f"{file}:{line}:{column}: the character {name} is not allowed in cQASM.",
        hint="Use ASCII outside comments, and check that this is the right file.",
    )


def _check_size(program: str, statement: Statement, file: str) -> None:
    depth = deepest = 0
    for match in _BRACKET.finditer(statement.code):
        depth += 1 if match.group() in "[({" else -1
        deepest = max(deepest, depth)
    line, column = place(program, statement.start)
    if deepest > MAX_NESTING:
        raise CircuitError(
            f"{file}:{line}:{column}: brackets are nested {deepest} deep; the maximum is {MAX_NESTING}.",
            hint="Write the computed number into the circuit.",
        )
    if len(statement.code) > MAX_STATEMENT:
        raise CircuitError(
            f"{file}:{line}:{column}: a statement of {len(statement.code)} characters is too long"
            f"; the maximum is {MAX_STATEMENT}.",
            hint="Write one gate per line.",
        )


def as_number(number: float) -> str:
    """A number as libqasm reads it: 1e-05 has to be 1.0e-05."""
    text = repr(number)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text
