"""`qslurm doctor` on C2 with one daemon killed or frozen: it names that one, and no other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from people import eventually, frozen
from testbed import Testbed
from tls_proxy import TlsProxy

from qslurm.c2.store.store import Store
from qslurm.doctor.findings import Finding

pytestmark = pytest.mark.slurm

NAMED = {
    "munged-c2": "munge",
    "mariadbd": "mariadb",
    "slurmdbd": "slurmdbd",
    "slurmctld-c2": "slurmctld",
    "slurmd-c2": "slurmd qi1",
    "slurmrestd": "slurmrestd",
    "dispatcher": "dispatcher",
    "gate": "gate",
    "jobmanager": "job manager",
    "tokens": "renewals",
    "runtimes": "runtimes",
}
"""The testbed's daemons, and what the doctor calls them."""


def doctor(testbed: Testbed, config: Path | None = None) -> dict[str, Finding]:
    """The failed checks by name; the exit code must agree."""
    options = ["--config", str(config)] if config else []
    done = testbed.c2(["qslurm", "doctor", "--json", *options], timeout_s=60)
    document = json.loads(done.stdout)
    failed = {one["name"]: Finding(**one) for one in document["findings"] if one["state"] == "fail"}
    assert (done.returncode, document["ok"]) == (int(bool(failed)), not failed), done.stderr
    return failed


@contextmanager
def dead(testbed: Testbed, name: str) -> Iterator[None]:
    testbed.kill(name)
    try:
        yield
    finally:
        testbed.up()


def is_well(testbed: Testbed) -> bool:
    return not doctor(testbed)


@pytest.mark.parametrize("name", NAMED)
def test_a_daemon_that_is_frozen_or_dead_is_the_one_that_is_named(testbed: Testbed, name: str) -> None:
    eventually(lambda: is_well(testbed), "C2 to be well", seen=lambda: str(doctor(testbed)))
    with frozen(testbed, name):
        _named(doctor(testbed), NAMED[name])
    eventually(lambda: is_well(testbed), "C2 to be well again", seen=lambda: str(doctor(testbed)))
    with dead(testbed, name):
        _named(doctor(testbed), NAMED[name])


def _named(failed: dict[str, Finding], name: str) -> None:
    """This is the only failed check, and it has a fix."""
    assert failed.keys() == {name}, failed
    assert failed[name].do


def test_so_is_the_proxy(testbed: Testbed, tmp_path: Path) -> None:
    with closing(TlsProxy(testbed, tmp_path)) as proxy:
        _proxy_is_named(testbed, proxy, tmp_path)


def _proxy_is_named(testbed: Testbed, proxy: TlsProxy, tmp_path: Path) -> None:
    config = tmp_path / "c2.toml"
    text = testbed.layout.c2_qslurm.read_text()
    config.write_text(text.replace("[jobmanager]\n", f'[jobmanager]\nproxy = "127.0.0.1:{proxy.port}"\n'))
    eventually(
        lambda: not doctor(testbed, config), "C2 to be well", seen=lambda: str(doctor(testbed, config))
    )
    with proxy.frozen():
        _named(doctor(testbed, config), "proxy")
    proxy.close()
    _named(doctor(testbed, config), "proxy")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_so_are_its_disks_and_its_store(testbed: Testbed, small_disk: Path, tmp_path: Path) -> None:
    store, config = small_disk / "store.db", tmp_path / "c2.toml"
    Store(str(store)).close()
    whole = store.read_bytes()
    text = testbed.layout.c2_qslurm.read_text()
    config.write_text(text.replace(str(testbed.layout.store), str(store)))
    eventually(
        lambda: not doctor(testbed, config), "C2 to be well", seen=lambda: str(doctor(testbed, config))
    )
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    _named(doctor(testbed, config), "disk")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    with store.open("r+b") as file:
        file.seek(4096)
        file.write(b"rubbish " * 4096)
    failed = doctor(testbed, config)
    _named(failed, "store")
    assert str(store) in failed["store"].what
    store.write_bytes(whole)
    subprocess.run(["sh", "-c", f"head -c 2m /dev/zero > {small_disk}/full"], check=False)
    _named(doctor(testbed, config), "disk")
