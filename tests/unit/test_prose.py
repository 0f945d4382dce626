"""Prose is never protocol: nothing is decided by a sentence, ours or anybody's, but where Slurm gives nothing else."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from testbed.layout import CHECKOUT

from qslurm.reason_codes import END_UNKNOWN, ReasonCode

PACKAGE = CHECKOUT / "qslurm"

PROSE = {
    "reason",
    "message",
    "hint",
    "words",
    "lowered",
    "said",
    "why",
    "description",
    "stderr",
    "_said",
    "_trouble",
}
"""How texts for people are called."""

TESTS = {"startswith", "endswith", "find", "index", "count", "search", "match", "fullmatch"}
"""Methods that look into a text."""


def is_prose(node: ast.expr) -> bool:
    """Whether an expression is a text for people: an attribute or a variable of that name, or str(error)."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in PROSE or name.endswith(("_reason", "_words", "_message"))
        case ast.Call(func=ast.Name(id="str"), args=[ast.Name(id=name)]):
            return name in {"error", "exc", "failure", "trouble"}
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return is_prose(inner)
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(name)), *_]):
            return name in PROSE
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name in PROSE
        case ast.Call(func=ast.Attribute(value=inner, attr="lower" | "strip" | "rstrip")):
            return is_prose(inner)
    return False


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is some text that stands in the program: a literal, or a constant by its name."""
    match node:
        case ast.Constant(value=str(text)):
            return text not in {"", "None"}
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper() or name.lstrip("_").isupper()
        case ast.Tuple(elts=elements) | ast.Set(elts=elements) | ast.List(elts=elements):
            return any(is_literal(one) for one in elements)
    return False


def decisions(source: str) -> list[tuple[str, int, str]]:
    """Where a text for people is compared with one in the program: function, line, and how."""
    found = []
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in ast.walk(tree):
        match node:
            case ast.Compare(
                left=left, comparators=[right], ops=[ast.In() | ast.NotIn() | ast.Eq() | ast.NotEq()]
            ):
                hit = (is_prose(left) and is_literal(right)) or (is_prose(right) and is_literal(left))
                hit = hit or (is_prose(right) and isinstance(node.ops[0], ast.In | ast.NotIn))
            case ast.Call(func=ast.Attribute(value=value, attr=name), args=arguments) if name in TESTS:
                hit = is_prose(value) or any(is_prose(one) for one in arguments)
            case _:
                hit = False
        if hit:
            around = [one.name for one in functions if one.lineno <= node.lineno <= (one.end_lineno or 0)]
            found.append((around[-1] if around else "", node.lineno, ast.unparse(node)))
    return found


SLURMS_NAMES = "Slurm's name of a reason (squeue(1), JOB REASON CODES), which is no sentence"
SLURMS_WORDS = "Slurm gives nothing else; the table beside it says where the words come from"
NO_PROSE = "not a text for people, whatever it is called"

ALLOWED = {
    "c2/hooks/start_outcome.py:ending_state": SLURMS_NAMES,
    "c2/hooks/start_outcome.py:ending_reason": SLURMS_NAMES,
    "c1/queries/lost_jobs.py:may_be_lost": "our own name of a reason, in the place of Slurm's; no sentence",
    "c1/queries/tasks.py:set_hold": SLURMS_NAMES,
    "protocol/partition_queue.py:_is_queued": SLURMS_NAMES,
    "slurm/job_info.py:why": SLURMS_NAMES,
    "slurm/states.py:explain": SLURMS_NAMES,
    "c2/gate/rules.py:due": SLURMS_WORDS,
    "c2/gate/gate.py:_release_held": SLURMS_NAMES,
    "c2/slurm_commands.py:error_of": SLURMS_WORDS,
    "c1/followups/c1_queue.py:_output": SLURMS_WORDS,
    "slurm/rest/classify.py:_words": "chooses which of Slurm's words are shown",
    "slurm/rest/classify.py:_sentence": "chooses which of Slurm's words are shown",
    "circuits/analysis.py:_hint": "libqasm's words, for a hint that is shown beside them",
    "circuits/openqasm.py:_located": "Qiskit's words, for the line that is shown",
    "runtimes/qx.py:_run": "QX's words, for the line that is shown",
    "cli/app.py:_print_usage_error": "click's words, for a hint that is shown beside them",
    "system/child_process.py:ran_out_of_memory": "a process that is out of memory leaves nothing else",
    "system/sqlite_damage.py:check": "SQLite's answer to a PRAGMA, whose only good one is this",
    "c2/gate/queue_reader.py:read": NO_PROSE,
    "slurm/command_output.py:parse_partitions": NO_PROSE,
    "c1/submission/prepare.py:backend_of": NO_PROSE,
    "payload/times.py:_from_now": NO_PROSE,
    "payload/times.py:_clock": NO_PROSE,
    "payload/times.py:_day": NO_PROSE,
    "payload/comment.py:with_origin": NO_PROSE,
    "runtimes/classical/warm/warm_service.py:_receive": NO_PROSE,
    "slurm/rest/http_session.py:distrust": NO_PROSE,
}
"""Where a text is looked into all the same, and why. A new line needs a source that gives nothing but words."""


def test_the_search_finds_what_was_once_decided_by_sentences() -> None:
    for line in (
        "if 'time limit' in said: pass",
        "if 'stored' in answer.reason: pass",
        "x = str(facts.get('reason')).startswith(END_UNKNOWN)",
        "x = self._said.startswith(_CUT)",
        "x = start.reason == END_UNKNOWN",
        "x = 'Invalid job id' in error.message",
        "x = 'gone' in str(error).lower()",
        "x = any(sign in lowered for sign in SIGNS)",
        "x = re.search('it (\\\\w+)', message)",
    ):
        assert decisions(line), line
    for line in (
        "x = error.kind == 'token'",
        "x = not reason",
        "x = reason != self.last",
        "x = reason == ''",
    ):
        assert not decisions(line), line


def test_nothing_is_decided_by_a_sentence() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{function}": how
        for path in sorted(PACKAGE.rglob("*.py"))
        for function, _, how in decisions(path.read_text())
    }
    assert {name: how for name, how in found.items() if name not in ALLOWED} == {}
    assert ALLOWED.keys() - found.keys() == set(), "these lines of the table are not needed any more"


def decided(step: str, folder: Path, *options: str) -> dict[str, Any]:
    script = Path(__file__).with_name("altered.py")
    command = [sys.executable, script, step, folder, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_with_other_sentences_everything_goes_as_before(tmp_path: Path) -> None:
    """What hooks and dispatcher have written with these sentences is read by a version that has none of them."""
    written = tmp_path / "written"
    written.mkdir()
    assert not decided("write", written)["changed"]
    shutil.copytree(written, tmp_path / "copy")
    plain, altered = decided("read", written), decided("read", tmp_path / "copy", "--altered")
    assert not plain["changed"]
    assert END_UNKNOWN in altered["changed"]
    assert len(altered["changed"]) > 100
    assert altered["decided"] == plain["decided"]
    codes = {code for code in ReasonCode if json.dumps(code) in json.dumps(plain["decided"])}
    assert codes == set(ReasonCode), "there is a job for every code"
