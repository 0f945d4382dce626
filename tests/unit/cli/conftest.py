from __future__ import annotations

import pytest

from tests.unit.cli.two_platforms import TWO, Platform, job


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two platforms; their jobs have partly the same ids."""
    (tmp_path / "config.toml").write_text(TWO)
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("QSLURM_PLATFORM", raising=False)
    found = {"c2": Platform(job(12), job(13)), "tuna": Platform(job(12), job(77))}
    monkeypatch.setattr(
        "qslurm.c1.connection.center_connection.open_connection",
        lambda config, say=None: found[config.platform](config),
    )
    return found
