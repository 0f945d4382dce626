"""A center admin sets up a center with the documented commands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from people import Researcher, operator
from testbed import Testbed

pytestmark = pytest.mark.slurm


def test_from_nothing_to_a_job_by_what_init_says_is_next(testbed: Testbed) -> None:
    operator(testbed, "partition", "enable", "p_qx")
    folder = testbed.layout.folder / "etc" / "c1" / "new-center"
    config = folder / "config.toml"
    config.unlink(missing_ok=True)
    (folder / "token").unlink(missing_ok=True)

    def admin(*words: Any, stdin: str = "") -> Any:
        done = testbed.c1(("qslurm", *words), user="root", stdin=stdin, QSLURM_CONFIG=str(config))
        assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
        return done.stdout

    said = json.loads(
        admin(
            *("center", "init", "--json", "--backend", "qx", "--user", "center_snellius"),
            *("--url", testbed.rest_url, "--results-url", testbed.results_url),
        )
    )
    assert said["file"] == str(config)
    assert {one["name"]: one["state"] for one in said["findings"]} == {
        "config": "ok", "slurmrestd": "ok", "token": "fail", "renewal": "fail", "job manager": "ok", "clock": "ok"
    }  # fmt: skip
    command = said["next"][0].partition(" <")[0].removeprefix("qslurm ").split()
    admin(*command, "--group", "qs_snellius", stdin=testbed.token("snellius"))
    assert json.loads(admin("doctor", "--json"))["ok"]
    alice = Researcher(testbed)
    done = alice.types("submit", alice.has_example("bell.cq"), "--wait", "--json", QSLURM_CONFIG=str(config))
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["results"]["counts"]) <= {"00", "11"}
