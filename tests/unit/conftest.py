"""What takes long to make, and is shared: a dispatcher, keys."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import site
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.tokens.keys import create_key
from tests.unit.c2.dispatcher.running import Running

_PLUGIN = '''
import pathlib
import time
import msgspec
from qslurm.runtimes.interface import BackendType, Outcome

class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    folder: str

class Turnstile:
    """Notes each circuit that it begins in a file, and ends it when there is a file `go`."""
    Options = Options
    max_workers = 0
    def __init__(self, backend, options):
        self.backend_type = BackendType(name=backend.name, nqubits=backend.qubits,
            max_number_of_shots=backend.max_shots, default_number_of_shots=backend.default_shots)
        self.folder = pathlib.Path(options.folder)
    def open(self):
        pass
    def close(self):
        pass
    def execute(self, circuit, shots, *, seed, raw_data, file):
        with (self.folder / "begun").open("a") as begun:
            begun.write(".")
        while not (self.folder / "go").exists():
            time.sleep(0.002)
        raw = ["01"] * shots if raw_data else None
        return Outcome(counts={"01": shots}, shots_requested=shots, shots_done=shots, seconds=0.5, raw_data=raw)
'''


@pytest.fixture(scope="session")
def python() -> Iterator[Path]:
    """A Python that has all that this one has, and the plug-in `turnstile`."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "these.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    (packages / "turnstile.py").write_text(_PLUGIN)
    about = packages / "turnstile-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: turnstile\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[qslurm.runtimes]\nturnstile = turnstile:Turnstile\n")
    yield folder / "bin" / "python"
    shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path that nobody else can enter."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """One dispatcher for all tests of a module that leave it in health."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    with Running(folder) as running:
        yield running.ready()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _made_keys(tmp_path_factory: pytest.TempPathFactory) -> TokensConfig:
    """Key pairs, made once for all processes of the run: each takes a second."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    config = TokensConfig(keys=str(folder / "keys"), jwks=str(folder / "jwks.json"))
    with (folder / "keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for center in ("snellius", "lumi"):
            create_key(config, center)  # which keeps the one that is there
    return config


@pytest.fixture
def key_pairs(tmp_path: Path, _made_keys: TokensConfig) -> Callable[..., TokensConfig]:
    """Gives centers (`snellius`, `lumi`) their key pairs: folders of one's own, and keys that are only copied."""

    def give(*centers: str) -> TokensConfig:
        config = TokensConfig(
            keys=str(tmp_path / "keys"), jwks=str(tmp_path / "jwks.json"), max_lifetime="90d"
        )
        Path(config.keys).mkdir(mode=0o700)
        for center in centers:
            shutil.copy2(Path(_made_keys.keys) / f"{center}.pem", config.keys)
        published = json.loads(Path(_made_keys.jwks).read_bytes())["keys"]
        mine = [key for key in published if key["kid"] in centers]
        Path(config.jwks).write_text(json.dumps({"keys": mine}))
        return config

    return give
