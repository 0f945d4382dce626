"""Runs what decides about jobs, and prints what it decides, without a word of what it says about it.

`altered.py write FOLDER` leaves a store of jobs that have ended in every way, `altered.py read FOLDER` decides what
follows. With `--altered` every sentence in the package is another one: each of its words stands backwards. What was
written with the one must be read with the other as with itself (test_prose.py).
"""

from __future__ import annotations

import ast
import importlib.machinery
import itertools
import json
import re
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[2]
SENTENCE = re.compile(r"[A-Za-z][a-z']+,? [a-z][a-z']*")
changed: set[str] = set()


class Backwards(ast.NodeTransformer):
    """Every text with words in it, but no documentation."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)  # type: ignore[return-value]

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if not isinstance(node.value, str) or SENTENCE.search(node.value) is None:
            return node
        changed.add(node.value)
        other = re.sub(r"[A-Za-z']+", lambda word: word[0][::-1].swapcase(), node.value)
        return ast.copy_location(ast.Constant(other), node)


class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile(Backwards().visit(ast.parse(Path(path).read_bytes())), path, "exec", dont_inherit=True)


class Finder(MetaPathFinder):
    """Of our package, but not what speaks SQL: that is no sentence."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if name.startswith("qslurm") and not name.startswith("qslurm.c2.store") and spec and spec.origin:
            spec.loader = Loader(name, spec.origin)
            return spec
        return None


def facts_of_slurm() -> list[Any]:
    """How slurmctld may show a job when the epilog of a start of it runs."""
    from qslurm.slurm.job_info import JobInfo

    states = ("COMPLETING", "RUNNING", "PENDING", "CANCELLED")
    reasons = ("None", "JobLaunchFailure", "TimeLimit")
    return [
        (JobInfo(job_id=7, state=state, reason=reason, status=status, restart_count=seen, end=5), hook)
        for state, reason, status, seen, hook in itertools.product(
            states, reasons, (0, 11, 768), (0, 1), (0, 1)
        )
    ]


def job_of(number: int, kind: str, restart: int = 0) -> Any:
    from qslurm.payload.envelope import Envelope
    from qslurm.protocol.messages import Admit

    envelope = None if kind == "script" else Envelope(kind=kind, source="x", file="f.py")  # type: ignore[arg-type]
    return Admit(job_id=number, restart=restart, user="center_a", uid=1, account="a", center="a", backend="qx",
                 kind=kind, key=f"k{number}", envelope=envelope)  # type: ignore[arg-type]  # fmt: skip


def ledger_of(folder: Path) -> Any:
    from qslurm.c2.config.dispatcher_section import BackendConfig
    from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
    from qslurm.c2.store.store import Store

    return TaskRegistry([BackendConfig(name="qx")], Store(str(folder / "store.db")))


def write(folder: Path) -> list[Any]:
    """Jobs of every kind begin, and end in every way: what hooks tell, and the dispatcher does, is in the store."""
    from msgspec import msgpack

    from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
    from qslurm.c2.dispatcher.tasks.idle_sessions import IdleSessions
    from qslurm.c2.hooks.start_outcome import finish_of
    from qslurm.errors import UsedUpError
    from qslurm.protocol.messages import Attach, Begin, Conclude, Executed

    registry = ledger_of(folder)
    kinds = []

    def begin(kind: str) -> int:
        number = len(kinds) + 1
        kinds.append(kind)
        hook_requests.admit(registry, job_of(number, kind), "")
        if kind == "script":
            step_sessions.begin(registry, Begin(job_id=number, restart=0, launch="l"), 1)
        else:
            step_sessions.attach(registry, Attach(job_id=number, restart=0, client="c"), 1)
        return number

    for (facts, hook), how in itertools.product(facts_of_slurm(), ("script", "hybrid", "concludes")):
        number = begin("script" if how == "script" else "hybrid")
        if how == "concludes":
            step_sessions.conclude(registry, Conclude(task=number, final_result='{"a": 1}'))
        finish = finish_of(number, hook, f"k{number}", facts, 10.0)
        if finish is not None:
            hook_requests.finish(registry, finish)
    for error in ("", "x"):
        used = Executed(seq=0, shots_requested=1, shots_done=1, counts={}, seconds=9.0, error=error,
                        kind=UsedUpError.kind if error else "")  # fmt: skip
        registry.record(begin("hybrid"), "sha", used)
    watch = IdleSessions(registry)
    watch.begin(begin("session"), 0.0)
    watch.end_overdue(1e6)
    registry.store_error = "the disk is full"
    (folder / "pending").write_bytes(msgpack.encode(step_sessions.pending(registry, 1, 0)))
    assert registry.store.commit(registry.changes) == ""
    (folder / "kinds.json").write_text(json.dumps(kinds))
    return kinds


def read(folder: Path) -> list[Any]:
    """Those who come later: a dispatcher that is asked again about each job, its center, and a step that waits."""
    from qslurm.c2.dispatcher.tasks import hook_requests

    registry = ledger_of(folder)
    told: list[Any] = [waits(folder)]
    for number, kind in enumerate(json.loads((folder / "kinds.json").read_text()), 1):
        rows = registry.store.tasks_of_job(number)
        found = [at_the_center(row) for row in rows]
        for restart in (0, 1):
            answer = hook_requests.admit(registry, job_of(number, kind, restart), "")
            found.append([type(answer).__name__, getattr(answer, "retry", None)])
        told.append([kind, *found])
    return told


def at_the_center(row: dict[str, Any]) -> list[Any]:
    """What a center makes of what the store has of a job, for each way in which Slurm may call it."""
    from types import SimpleNamespace

    from qslurm.c1.queries.job_state import LIMIT_HINTS, outcome_error
    from qslurm.c1.queries.lost_jobs import as_it_ended, fate
    from qslurm.slurm.job_info import JobInfo

    facts = {
        name: row[name]
        for name in ("state", "reason", "reason_code", "slurm_state", "key", "kind", "started_at")
    }
    results = SimpleNamespace(job=lambda _: facts)
    center: Any = SimpleNamespace(prefix="", has_job_manager=True, job_manager=results)
    told: list[Any] = [row["state"], row["reason_code"], row["slurm_state"], fate([facts])]
    ends = {"FAILED": "NonZeroExitCode", "CANCELLED": "", "TIMEOUT": "TimeLimit", "COMPLETED": ""}
    for (state, reason), slurm_state in itertools.product(ends.items(), (row["slurm_state"], "CANCELLED")):
        facts["slurm_state"] = slurm_state
        job = as_it_ended(JobInfo(job_id=7, name="j", state=state, reason=reason), facts)
        error = outcome_error(center, job)
        hint = [code for code, words in LIMIT_HINTS.items() if error and words in error.hint]
        says_why = error is not None and bool(row["reason"]) and row["reason"].rstrip(".") in error.message
        told.append([job.state, None if error is None else error.kind, hint, says_why])
    return told


def waits(folder: Path) -> int:
    """How often a job's step passes on that it waits, when it is told what was said."""
    from msgspec import msgpack

    from qslurm.protocol.messages import Attached, Executed, Pending
    from qslurm.runtimes.classical.dispatcher_session import DispatcherSession

    pending = msgpack.decode((folder / "pending").read_bytes(), type=Pending)
    done = Executed(seq=0, shots_requested=1, shots_done=1, counts={"0": 1}, seconds=0.1)
    attached = Attached(task=1, secret=b"s", kind="hybrid", backend="qx", state="running", qubits=2,
                        max_shots=10, default_shots=1)  # fmt: skip
    answers = iter([attached, pending, done])

    class Client:
        def exchange(self, *_: Any, **__: Any) -> Any:
            return next(answers)

    said: list[str] = []
    DispatcherSession(Client(), 7, 0, say=said.append).execute("x", 1, False)  # type: ignore[arg-type]
    return len(said)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    step, folder = sys.argv[1], Path(sys.argv[2])
    if "--altered" in sys.argv:
        sys.meta_path.insert(0, Finder())
    decided = {"write": write, "read": read}[step](folder)
    print(json.dumps({"decided": decided, "changed": sorted(changed)}))


if __name__ == "__main__":
    main()
