"""Checks and runs a hybrid file, in this process.

Three conventions are supported, told apart by what the file defines:

- `execute(qi)`, the usual one: it calls `qi.execute_circuit(circuit, number_of_shots)` as often as it likes;
- `async def execute(qi)`, where that call is awaited;
- `initialize()` and `execute(results, shots_requested, shots_done)`, where each returns the next circuit and
  `execute` ends the algorithm by returning None.

In each, `finalize(list_of_measurements)` makes the final result from the counts of all executions.
"""

from __future__ import annotations

import ast
import gc
import inspect
import linecache
import sys
import traceback
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from qslurm.errors import InvalidInputError, JobFailedError, QslurmError
from qslurm.runtimes.hybrid.exception_text import causes, describe_with_causes
from qslurm.runtimes.hybrid.final_result import Remark, as_final_result
from qslurm.runtimes.hybrid.quantum_inspire_imports import stub_modules
from qslurm.runtimes.interface import CircuitTransport, ExecuteCircuitResult, QuantumInterface

MODULE_NAME = "hybrid_job"
"""The name of the user's file as a module. Not `__main__`: its debugging code must not run."""
MAX_TRACE = 10_000
"""Characters of an error text that are kept; an exception can carry any amount."""

_EXAMPLE = (
    "A hybrid file needs at least: def execute(qi): qi.execute_circuit(circuit, 1024)"
    " and def finalize(list_of_measurements): return {'results': list_of_measurements}."
)


def check_hybrid(text: str, file: str) -> None:
    """Check, without running it, that a file can be a hybrid algorithm; raises InvalidInputError with the line."""
    if not text.strip():
        raise InvalidInputError(f"{file}: the file is empty.", hint=_EXAMPLE)
    defined = _defined_names(_parse(text, file))
    for name in ("execute", "finalize"):
        if name not in defined:
            raise InvalidInputError(f"{file}: function '{name}' is missing.", hint=_EXAMPLE)
    function = defined["execute"]
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        wanted = 3 if "initialize" in defined else 1
        if not _takes(function.args, wanted):
            names = "results, shots_requested, shots_done" if wanted == 3 else "qi"
            raise InvalidInputError(
                f"{file}:{function.lineno}: 'execute' must accept the call execute({names}).", hint=_EXAMPLE
            )


def run_hybrid(
    source: str,
    file: str,
    transport: CircuitTransport,
    *,
    shots: int | None = None,
    parameters: Mapping[str, str] | None = None,
    remark: Remark = lambda _: None,
) -> dict[str, Any]:
    """Run the file and return its final result, a dict in types that JSON knows.

    An exception of the user's code becomes a JobFailedError that shows the user's own lines; errors of the
    transport that the code does not catch (a CircuitError, an unreachable dispatcher) keep their class.
    KeyboardInterrupt passes. `shots` is for files with `initialize`, which need not give a number (None: the
    backend's default). `parameters` are the values for `qi.parameters`. `remark` is called with remarks on the
    final result.
    """
    check_hybrid(source, file)
    qi = QuantumInterface(transport, parameters)
    with stub_modules(), _module(source, file) as module:
        with _reported_errors(file, str(module.__file__)):
            with _without_garbage_collection():
                exec(compile(source, str(module.__file__), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 -- the job itself
            _run_execute(module, qi, shots)
            result = module.finalize(qi.results)
            if inspect.iscoroutine(result):
                result = _awaited(result)
        return as_final_result(result, file, remark)


# --- the conventions ---------------------------------------------------------------------------------


def _run_execute(module: ModuleType, qi: QuantumInterface, shots: int | None) -> None:
    if hasattr(module, "initialize"):
        _run_life_cycle(module, qi, shots)
        return
    pending = module.execute(qi)
    if inspect.iscoroutine(pending):
        _awaited(pending)


def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio  # importing it takes 30 ms

    return asyncio.run(coroutine)


def _run_life_cycle(module: ModuleType, qi: QuantumInterface, shots: int | None) -> None:
    circuit, shots = _next_circuit(module.initialize(), shots)
    while circuit is not None:
        done: ExecuteCircuitResult = qi.execute_circuit(circuit, shots)
        answer = module.execute(done.results, done.shots_requested, done.shots_done)
        circuit, shots = _next_circuit(answer, shots)


def _next_circuit(answer: Any, shots: int | None) -> tuple[str | None, int | None]:
    """The next circuit and its shots: cQASM text, {"circuit", "shots_requested"}, or None."""
    if isinstance(answer, dict):
        return answer.get("circuit"), answer.get("shots_requested", shots)
    return answer, shots


# --- the user's module and its errors ----------------------------------------------------------------


@contextmanager
def _module(source: str, file: str) -> Iterator[ModuleType]:
    """A module for the user's code that pickle and dataclasses can find, and whose lines tracebacks show."""
    with suppress(FileNotFoundError):  # the current folder was removed
        file = str(Path(file).absolute())
    path = file
    module = ModuleType(MODULE_NAME)
    module.__file__ = path
    before = sys.modules.get(MODULE_NAME)
    sys.modules[MODULE_NAME] = module
    # an entry without a modification time is never compared with the disk, where the file need not exist
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    try:
        yield module
    finally:
        linecache.cache.pop(path, None)
        if before is None:
            del sys.modules[MODULE_NAME]
        else:
            sys.modules[MODULE_NAME] = before


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Imports make no garbage, and collecting takes a tenth of the time that scipy takes to import."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # modules stay: never collect them
        gc.enable()


@contextmanager
def _reported_errors(file: str, path: str) -> Iterator[None]:
    """Turn an exception of the user's code into a JobFailedError with the lines of `path` only."""
    try:
        yield
    except QslurmError as error:
        if where := _last_line(error, path):
            error.hint = f"{error.hint} Called in {file}{where}.".strip()
        raise
    except KeyboardInterrupt:
        raise
    except SystemExit as error:
        raise JobFailedError(
            f"{file} exited with code {error.code!r} before it had a result.",
            hint="Return from execute and finalize instead of calling sys.exit().",
        ) from error
    except BaseException as error:
        text = describe_with_causes(error)[:MAX_TRACE]
        where = _last_line(error, path)
        raise JobFailedError(
            f"{file}{where}: {text}.", hint="\n" + _users_trace(error, file, path)
        ) from error


def _frames(error: BaseException, path: str) -> list[traceback.FrameSummary]:
    return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]


def _last_line(error: BaseException, path: str) -> str:
    frames = _frames(error, path)
    return f":{frames[-1].lineno}" if frames else ""


def _users_trace(error: BaseException, file: str, path: str) -> str:
    """The traceback, after those of its causes, without the frames of qslurm and of libraries."""
    traces = [_one_trace(each, path) for each in [*[*causes(error)][::-1], error]]
    text = "\n\n".join(filter(None, traces))
    return text.replace(f'"{path}"', f'"{file}"')[-MAX_TRACE:]


def _one_trace(error: BaseException, path: str) -> str:
    frames = _frames(error, path)
    if not frames:
        return ""
    lines = ["Traceback of the hybrid file (most recent call last):\n", *traceback.format_list(frames)]
    return "".join(lines) + "".join(traceback.format_exception_only(error)).rstrip()


# --- the static check --------------------------------------------------------------------------------


def _parse(text: str, file: str) -> ast.Module:
    try:
        return ast.parse(text, file)
    except SyntaxError as error:
        line, column = error.lineno or 1, error.offset or 1
        raise InvalidInputError(
            f"{file}:{line}:{column}: {error.msg}.", hint="Invalid Python; correct this line."
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidInputError(
            f"{file}: cannot parse as Python: {error}.", hint="Check that this is the right file."
        ) from error


def _defined_names(tree: ast.Module) -> dict[str, ast.stmt]:
    """The names that the module's top level defines, imports and assigns, also inside `if` and `try`."""
    names: dict[str, ast.stmt] = {}
    pending: list[ast.stmt] = list(reversed(tree.body))
    while pending:
        statement = pending.pop()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                names[alias.asname or alias.name.split(".")[0]] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            for target in ast.walk(statement):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    names[target.id] = statement
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            pending += reversed(
                [inner for inner in ast.iter_child_nodes(statement) if isinstance(inner, ast.stmt)]
            )
    if "*" in names:  # `from module import *` may define any name
        names.setdefault("execute", names["*"])
        names.setdefault("finalize", names["*"])
    return names


def _takes(arguments: ast.arguments, count: int) -> bool:
    """Whether a function can be called with this number of positional arguments."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    enough = arguments.vararg is not None or positional >= count
    return (
        needed <= count
        and enough
        and len(arguments.kwonlyargs) <= sum(d is not None for d in arguments.kw_defaults)
    )
