"""A Python program on C1 that uses `from qslurm import Center`."""

import json

import pytest
from people import Researcher, operator

pytestmark = pytest.mark.slurm

PROGRAM = '''
import asyncio, concurrent.futures, json, subprocess
from qslurm import Center
from qslurm.errors import CircuitError, JobCancelledError, JobFailedError

FLIP = "version 3.0; qubit q; bit b; X q; b = measure q"
SAME = "version 3.0; qubit q; bit b; b = measure q"
HYBRID = """
def execute(qi):
    qi.execute_circuit("version 3.0; qubit q; bit b; X q; b = measure q", 10)
def finalize(results):
    return {"measured": results}
"""
found = {}
with Center(backend="qx") as center:
    job = center.submit(FLIP, shots=100)
    found["counts"] = job.result(60).counts
    found["after"] = [job.done(), job.cancelled(), job.running(), job.status()]
    found["again"] = center.job(job.id).result(60).shots

    found["map"] = [r.counts for r in center.map([FLIP, SAME, FLIP], shots=10, timeout=90)]

    wrong = "def execute(qi):\\n    raise ValueError('as it must')\\ndef finalize(r):\\n    return {}\\n"
    many = list(center.map([FLIP, SAME] * 12 + [wrong], shots=10, return_exceptions=True))
    found["many"] = [result.counts for result in many[:-1]] == [{"1": 10}, {"0": 10}] * 12
    found["theirs"] = [type(many[-1]).__name__, len({result.job_id for result in many[:-1]})]
    left = center.map(["#!/bin/sh\\nsleep 300\\n"] * 2, job_name="left")
    queue = json.loads(subprocess.check_output(["qslurm", "queue", "--json", "--name", "left"]))
    ids = [job["job_id"] for job in queue["jobs"]]
    left.close()
    found["left"] = [isinstance(center.job(job).exception(60), JobCancelledError) for job in ids]

    turned = FLIP.replace("X q", "Rx({{ theta }}) q")
    swept = center.submit(turned, sweep={"theta": [0, 3.14159265]})
    tasks = swept.result(90).tasks
    found["sweep"] = [[task.parameters, max(task.counts, key=task.counts.get)] for task in tasks]
    found["tasks"] = sorted(task.word for task in swept.tasks())

    hybrid = center.submit(HYBRID)
    done, _ = concurrent.futures.wait([hybrid], 60)
    result = hybrid.result(0)
    found["hybrid"] = [result.final_result, result.executions, hybrid in done]

    found["script"] = center.submit("#!/bin/sh\\necho $((6*7))\\n").result(60).kind

    wrong = center.submit(wrong)
    try:
        wrong.result(60)
    except JobFailedError as error:
        found["failed"] = "as it must" in str(error)

    try:
        center.submit("version 3.0; nonsense")
    except CircuitError as error:
        found["refused"] = str(error)

    slow = center.submit("#!/bin/sh\\nsleep 300\\n")
    try:
        slow.result(0.2)
    except TimeoutError:
        found["patience"] = slow.done()
    found["cancelled"] = slow.cancel()
    try:
        slow.result(60)
    except JobCancelledError:
        found["cancelled"] = slow.cancelled()

    async def both():
        return await asyncio.gather(*[center.submit(circuit, shots=5) for circuit in (FLIP, SAME)])
    found["awaited"] = [result.counts for result in asyncio.run(both())]
    found["qubits"] = next(one["qubits"] for one in center.backends() if one["name"] == "qx") > 2
print(json.dumps(found))
'''


def test_a_program_submits_waits_maps_awaits_and_cancels(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    alice.writes("program.py", PROGRAM)
    done = testbed.c1((testbed.layout.python, "-I", "program.py"), user=alice.user, timeout_s=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("refused").startswith("circuit.cq:1:")
    assert found == {
        "counts": {"1": 100},
        "after": [True, False, False, "completed"],
        "again": 100,
        "map": [{"1": 10}, {"0": 10}, {"1": 10}],
        "many": True,
        "theirs": ["JobFailedError", 24],
        "left": [True, True],
        "sweep": [[{"theta": "0"}, "0"], [{"theta": "3.14159265"}, "1"]],
        "tasks": ["completed", "completed"],
        "hybrid": [{"measured": [{"1": 10}]}, 1, True],
        "script": "script",
        "failed": True,
        "patience": False,
        "cancelled": True,
        "awaited": [{"1": 5}, {"0": 5}],
        "qubits": True,
    }
