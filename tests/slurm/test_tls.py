"""Through the way into C2 that deploy/ has: a center that believes by an authority, or by C2's key alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entrance import Entrance
from people import Researcher, operator
from testbed import Testbed

pytestmark = pytest.mark.slurm


@pytest.fixture
def entrance(testbed: Testbed, tmp_path: Path) -> Iterator[Entrance]:
    operator(testbed, "partition", "enable", "p_qx")
    made = Entrance(testbed, tmp_path)
    yield made
    made.close()


def configured(testbed: Testbed, entrance: Entrance, **settings: str) -> dict[str, str]:
    """A user's environment with a center's configuration that trusts so."""
    lines = {
        "url": f"{entrance.url}/slurm",
        "results_url": f"{entrance.url}/qslurm",
        "token_file": str(testbed.layout.token),
        **settings,
    }
    path = testbed.layout.folder / "etc" / "c1" / "tls.toml"
    path.write_text("[c2]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    return {"QSLURM_CONFIG": str(path)}


def test_a_job_goes_by_tls_and_c2_is_known_by_its_key_or_its_authority(
    testbed: Testbed, entrance: Entrance
) -> None:
    alice = Researcher(testbed)
    source = alice.has_example("bell.cq")
    ca_file = testbed.layout.folder / "etc" / "c1" / "ca.pem"
    shutil.copy(entrance.certificate, ca_file)
    ways: list[dict[str, Any]] = [{"pinned_key": entrance.pin()}, {"ca_file": str(ca_file)}]
    for way in ways:
        environment = configured(testbed, entrance, **way)
        done = alice.types("submit", source, "-b", "qx", "--wait", "--json", **environment)
        assert done.returncode == 0, done.stderr
        job = json.loads(done.stdout)
        assert set(job["results"]["counts"]) <= {"00", "11"}
        assert "shots" in alice.types("logs", str(job["job_id"]), **environment).stdout
        doctor = alice.types("doctor", "--json", **environment)
        assert json.loads(doctor.stdout)["ok"], doctor.stdout
    log = (entrance.folder / "access.log").read_text()
    assert "POST /slurm/slurm/" in log
    assert testbed.layout.token.read_text().split(".")[2].strip() not in log


def test_who_has_another_key_or_nobodys_certificate_gets_no_token(
    testbed: Testbed, entrance: Entrance
) -> None:
    alice = Researcher(testbed)
    source = alice.has_example("bell.cq")
    other = "sha256//" + "A" * 43 + "="
    for way, said in (({"pinned_key": other}, "is not the pinned one"), ({}, "is not to be trusted")):
        environment = configured(testbed, entrance, **way)
        done = alice.types("submit", source, "-b", "qx", **environment)
        assert (done.returncode, said in done.stderr) == (5, True), done.stderr
        doctor = json.loads(alice.types("doctor", "--json", **environment).stdout)
        assert said in str(doctor["findings"])
    access = entrance.folder / "access.log"
    assert not access.exists() or not access.read_text()
