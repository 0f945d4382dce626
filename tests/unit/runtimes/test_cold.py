from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qslurm.c2.config import C2Config, GateConfig
from qslurm.dispatcher.config import DispatcherConfig
from qslurm.runtimes.classical import cold
from qslurm.runtimes.config import RuntimesConfig


def test_a_node_that_must_confine_and_can_not_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(cold, "fail_step", lambda _, __, reason: said.append(reason) or 1)
    assert cold.run(Path("job.sh"), C2Config(runtimes=RuntimesConfig(confine="always"))) == 1
    assert "can't confine" in said[0]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_behind_the_wall_only_the_jobs_folder_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, hidden = tmp_path / "mine", tmp_path / "gate"
    mine.mkdir()
    hidden.mkdir()
    (hidden / "secret").touch()
    monkeypatch.chdir(mine)
    config = C2Config(
        gate=GateConfig(state=str(hidden)), dispatcher=DispatcherConfig(socket=str(tmp_path / "d"))
    )
    wall = cold.bubblewrap(config)
    if not wall:
        pytest.skip("this user can't make namespaces")
    script = f"touch own; touch /usr/not-mine; ls {hidden}; ls /tmp; cat /proc/net/dev | wc -l"
    done = subprocess.run(
        [*wall, "/bin/sh", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (mine / "own").exists()
    assert not Path("/usr/not-mine").exists()
    assert "secret" not in done.stdout
    assert done.stdout.split()[-1] == "3"  # two lines of heading, and the loopback
