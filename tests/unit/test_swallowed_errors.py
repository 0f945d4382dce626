"""No error is swallowed: who catches more than one exact case says it, uses it, raises it, or is in the table below."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from testbed.layout import CHECKOUT

PACKAGE = CHECKOUT / "qslurm"

BROAD = {
    *("BaseException", "Exception", "QslurmError", "sqlite3.Error"),
    *("TokenError", "PermissionDeniedError", "RefusedError"),
}
"""What stands for many things that may be wrong, or for one that somebody has to hear of."""

HARMLESS = {
    "c1/agent/request_handler.py:_cached_backends": "limits are looked at early for the user; C2 looks at them, too",
    "c1/submission/backend_limits.py:__call__": "the same",
    "cli/submission_report.py:api_version": "shown beside an answer that is there; what is wrong is met next",
    "c1/api/agent_changes.py:_run": "jobs are looked at in their turn instead, and that look says what is wrong",
    "c1/api/mapping.py:__del__": "nobody is there to be told",
    "c2/gate/feed_connection.py:_is_up_to_date": "the reading that follows meets the error and reports it",
    "c2/hooks/prolog_epilog.py:_epilog": "the question that follows meets it, and is written down",
    "c2/hooks/task_prolog.py:has_ended": "Slurm tells the end, too; this only tells it earlier",
    "c1/followups/followup_submission.py:_cancel_all": "the releaser cancels what is left",
    "c1/connection/center_token.py:set_by": "who can't be asked for the time can't renew either, and that is said",
    "cli/shared_options.py:shell_complete": "what a shell completes must not print; the command says it",
    "cli/wait_many.py:_waited": "the error that made it look again is told",
    "doctor/c1.py:_accounting": "a token that is refused is told by the check beside this one",
    "doctor/c1.py:_sessions": "it is said by the check beside this one",
    "doctor/disks.py:_folders": "whether slurmctld answers is told by the check beside this one",
    "system/fast_exit.py:leave": "the process ends, with its exit code",
    "runtimes/classical/step.py:_write_text": "the user's code may have closed them; ours is written beside",
    "c1/sessions/sharing.py:_serve": "the visitor's link is closed: it comes again, and asks again",
    "c1/sessions/reconnecting_connection.py:_serve": "the link is made again, which says why if it can't be",
    "tokens/token_file.py:reveal": "the token that could be read last is shown, and C2 says whether it is good",
}
"""Where nothing is lost, and why. A new line here needs a reason that holds for every error that is caught."""


class Swallowing(ast.NodeVisitor):
    """Finds handlers, and `suppress`, that let a broad error disappear."""

    def __init__(self) -> None:
        self.function: list[str] = []
        self.found: list[tuple[str, int]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.function.append(node.name)
        self.generic_visit(node)
        self.function.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - as ast calls it

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        inside = [part for statement in node.body for part in ast.walk(statement)]
        is_used = any(isinstance(part, ast.Name) and part.id == node.name for part in inside)
        if not is_used and not any(isinstance(part, ast.Raise | ast.Call) for part in inside):
            self._note(node, [node.type] if node.type else [ast.Name("BaseException")])
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func) in {"suppress", "contextlib.suppress"}:
            self._note(node, node.args)
        self.generic_visit(node)

    def _note(self, node: ast.expr | ast.ExceptHandler, caught: list[ast.expr]) -> None:
        names = {ast.unparse(one) for kind in caught for one in _each(kind)}
        if names & BROAD:
            self.found.append((self.function[-1] if self.function else "", node.lineno))


def _each(kind: ast.expr) -> Iterator[ast.expr]:
    if isinstance(kind, ast.Tuple):
        yield from kind.elts
    elif isinstance(kind, ast.BinOp):
        yield from (*_each(kind.left), *_each(kind.right))
    else:
        yield kind


def swallowed(source: str) -> list[tuple[str, int]]:
    visitor = Swallowing()
    visitor.visit(ast.parse(source))
    return visitor.found


def test_the_search_finds_what_it_should() -> None:
    for body in ("pass", "return None", "x = 1", "break"):
        assert swallowed(f"def f():\n for i in x:\n  try: g()\n  except QslurmError: {body}\n") == [("f", 4)]
    assert swallowed("def f():\n with suppress(TokenError): g()\n") == [("f", 2)]
    for well in ("raise", "log(error)", "said = error.message"):
        assert swallowed(f"def f():\n try: g()\n except QslurmError as error: {well}\n") == []
    assert swallowed("def f():\n try: g()\n except UnknownJobError: return None\n") == []


def test_no_error_disappears() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{function}": line
        for path in sorted(PACKAGE.rglob("*.py"))
        for function, line in swallowed(path.read_text())
    }
    assert found.keys() - HARMLESS.keys() == set(), {
        name: found[name] for name in found.keys() - HARMLESS.keys()
    }
    assert HARMLESS.keys() - found.keys() == set(), "these lines of the table are not needed any more"
