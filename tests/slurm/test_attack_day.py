"""A center runs all attacks on a quantum platform one after the other, while another center works.

QSLURM_TEST_ATTACKS=N runs more of them than usual, QSLURM_TEST_SEED others.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from attackers import ATTACKS
from c2_platform import BELL, HAND_OVER, Platform
from foreign_center import MARK, AttackingCenter, Target
from people import Researcher, c2_nodes
from testbed.process import peak_memory_mb
from tls_proxy import TlsProxy

from qslurm.payload.envelope import Envelope, pack

pytestmark = pytest.mark.slurm

COUNT = int(os.environ.get("QSLURM_TEST_ATTACKS", "10"))
SEED = int(os.environ.get("QSLURM_TEST_SEED", "2574"))
AT_A_TIME = 3

NAME = MARK.decode()
SHORT = f"""
def execute(qi):
    print("{NAME}")
    for _ in range(10):
        qi.execute_circuit('''{BELL}''', 20)
def finalize(m):
    return {{"mark": "{NAME} NUMBER", "shots": [sum(one.values()) for one in m], "seen": sorted(set().union(*m))}}
"""

LONG = f"""
import signal, time
steps, over = [], []
signal.signal(signal.SIGUSR1, lambda *_: over.append(True))
def execute(qi):
    print("{NAME} has begun", flush=True)
    while not over:
        began = time.time()
        qi.execute_circuit('''{BELL}''', 20)
        steps.append((began, time.time() - began))
        time.sleep(0.05)
def finalize(m):
    return {{"mark": "{NAME}", "steps": steps, "shots": sum(sum(one.values()) for one in m),
            "seen": sorted(set().union(*m))}}
"""


class Snellius:
    """The other center: a hybrid job that runs all day, and a researcher who runs one job after the other."""

    def __init__(self, platform: Platform) -> None:
        self.platform, self.alice = platform, Researcher(platform.testbed)
        self.results: dict[int, dict[str, Any]] = {}
        self.taken: list[tuple[float, float]] = []
        """When each job was sent, and how long it took until its result was there."""
        self._over = threading.Event()
        self._trouble: list[BaseException] = []
        self._done = threading.Condition()
        self.alice.writes("bell.cq", f"// {NAME}\n{BELL}")
        data = pack(Envelope(kind="hybrid", source=LONG, file="long.py"))
        self.long = platform.submit(f"{HAND_OVER}{data}\n", kind="hybrid")
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Snellius:
        self.platform.until(lambda: "has begun" in self.platform.ask(f"jobs/{self.long}/logs").text)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            number = 0
            while not self._over.is_set():
                number += 1
                self._job(number)
                with self._done:
                    self._done.notify_all()
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            self._trouble.append(error)
            with self._done:
                self._done.notify_all()

    def _job(self, number: int) -> None:
        """A circuit, then a hybrid job; each has its result, and the result is right."""
        name = (
            "bell.cq" if number % 2 else self.alice.writes("short.py", SHORT.replace("NUMBER", str(number)))
        )
        began = time.time()
        job = self.alice.gets("submit", name, "-b", "qx", "--wait")
        self.taken.append((began, time.time() - began))
        results = self.read(job["job_id"])
        if number % 2:
            assert set(results["counts"]) <= {"00", "11"}, results
            assert sum(results["counts"].values()) == results["shots"], results
        else:
            assert results["final_result"]["mark"] == f"{NAME} {number}"
            assert results["final_result"]["shots"] == [20] * 10
            assert set(results["final_result"]["seen"]) <= {"00", "11"}
        self.results[job["job_id"]] = results

    def read(self, job_id: int) -> dict[str, Any]:
        """A job's results, as the job manager has them."""
        answer = self.platform.ask(f"jobs/{job_id}/results")
        assert answer.ok, answer.text
        found = answer.json()
        assert isinstance(found, dict)
        return found

    def does(self, jobs: int) -> None:
        """Wait until so many more of its jobs are done; whatever went wrong with one is raised here."""
        wanted = len(self.results) + jobs
        with self._done:
            self._done.wait_for(lambda: self._trouble or len(self.results) >= wanted)
        if self._trouble:
            raise self._trouble[0]

    def ends(self) -> list[tuple[float, float]]:
        """The long job is told to come to its end; when its circuits were sent, and how long each took."""
        self.platform.testbed.c2(["scancel", "--batch", "--signal=USR1", str(self.long)])
        self.platform.until_state(self.long, "COMPLETED")
        final = self.read(self.long)["final_result"]
        assert final["mark"] == NAME
        assert final["shots"] == 20 * len(final["steps"])
        assert set(final["seen"]) <= {"00", "11"}
        return [(began, took) for began, took in final["steps"]]


@pytest.fixture
def proxy(platform: Platform, tmp_path: Path) -> Iterator[TlsProxy]:
    made = TlsProxy(platform.testbed, tmp_path)
    yield made
    made.close()


def pids(platform: Platform) -> dict[str, int | None]:
    return {one.name: one.pid for one in platform.testbed.status()}


def project_of_snellius(platform: Platform) -> int:
    url = f"{platform.testbed.results_url}/quantum-inspire/projects"
    headers = {"Authorization": f"Bearer {platform.testbed.token()}"}
    body = {"owner_id": 1, "name": NAME, "description": ""}
    return int(requests.post(url, json=body, headers=headers, timeout=60).json()["id"])


def takes_turns(name: str, under_way: Iterable[tuple[str, AttackingCenter]]) -> bool:
    """What a center asks the job manager would wait for what it asks there already."""
    where = "job manager"
    return name.startswith(where) and any(other.startswith(where) for other, _ in under_way)


@pytest.mark.alone
def test_a_day_of_attackers_changes_nothing_for_another_center(
    platform: Platform, proxy: TlsProxy, open_checkout: Path, open_python: Path
) -> None:
    dice, before = random.Random(SEED), pids(platform)
    names = [
        name for _ in range(-(-COUNT // len(ATTACKS))) for name in dice.sample(sorted(ATTACKS), len(ATTACKS))
    ]
    project = project_of_snellius(platform)
    print(f"\nQSLURM_TEST_SEED={SEED}", file=sys.stderr)
    with Snellius(platform) as snellius:
        snellius.does(6)
        began, past = time.time(), next(iter(snellius.results))
        under_way: deque[tuple[str, AttackingCenter]] = deque()

        def end_one() -> None:
            name, lumi = under_way.popleft()
            assert MARK not in lumi.close(), name

        try:
            for name in names[:COUNT]:
                while len(under_way) == AT_A_TIME or takes_turns(name, under_way):
                    end_one()
                lumi = AttackingCenter(
                    platform, proxy, Target(snellius.long, past, project), open_checkout, open_python
                )
                under_way.append((name, lumi))
                at = time.time()
                with suppress(requests.RequestException):  # it is in its own way
                    ATTACKS[name](lumi)
                snellius.does(2)
                print(f"{name}: {time.time() - at:.1f} s", file=sys.stderr)
        finally:
            while under_way:
                end_one()
        ended = time.time()
    steps = snellius.ends()
    for what, seconds in (("circuit", steps), ("job", snellius.taken)):
        calm = statistics.median(took for at, took in seconds if at < began)
        attacked = sorted(took for at, took in seconds if began <= at < ended)
        print(
            f"{what}: median {calm * 1e3:.1f} ms, with attackers {statistics.median(attacked) * 1e3:.1f} ms "
            f"(9 of 10 within {attacked[len(attacked) * 9 // 10] * 1e3:.0f} ms, worst {attacked[-1] * 1e3:.0f} ms, "
            f"of {len(attacked)})",
            file=sys.stderr,
        )
    after = pids(platform)
    used = {
        name: peak_memory_mb(after[name]) for name in ("dispatcher", "jobmanager", "runtimes", "slurmrestd")
    }
    print(f"{len(snellius.results)} jobs done; most memory in MB: {used}", file=sys.stderr)
    assert after == before
    assert "drain" not in c2_nodes(platform.testbed).lower()
    assert {job_id: snellius.read(job_id) for job_id in snellius.results} == snellius.results
    jobs = ",".join(map(str, snellius.results))
    accounted = (
        "sacct",
        "-nPX",
        "--allusers",
        "--format=State",
        f"--jobs={jobs}",
    )  # slurmctld forgets the first ones
    platform.until(
        lambda: platform.testbed.c2(accounted).stdout.split() == ["COMPLETED"] * len(snellius.results)
    )
    assert platform.ask("../quantum-inspire/projects/" + str(project)).json()["name"] == NAME
    left = f"left-by-lumi-{platform.testbed.name}"
    assert not [place for place in ("/tmp", "/var/tmp", "/dev/shm") if Path(place, left).exists()]
