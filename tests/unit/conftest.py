"""What takes long to make, and is shared: a dispatcher, keys."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qslurm.tokens.config import TokensConfig
from qslurm.tokens.keys import create_key
from tests.unit.dispatcher.running import Running


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
    """Key pairs, made once: each takes a third of a second."""
    folder = tmp_path_factory.mktemp("keys")
    config = TokensConfig(keys=str(folder / "keys"), jwks=str(folder / "jwks.json"))
    for center in ("snellius", "lumi"):
        create_key(config, center)
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
