"""The plug-in that docs/runtimes.md shows, installed as another package: its circuits run, and its absence is said."""

from __future__ import annotations

import os
import re
import site
import venv
from pathlib import Path

import msgspec

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.protocol.messages import Admitted
from tests.unit.c2.dispatcher.running import ROOT, Running, circuit_job
from tests.unit.waiting import until

UID = os.getuid()


def install(folder: Path) -> Path:
    """An environment with all that this one has and the documented package; its Python."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "these.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    document = (ROOT / "docs" / "runtimes.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    (packages / "abacus.py").write_text(code)
    (entry,) = re.findall(r"\[project\.entry-points\.\"qslurm\.runtimes\"\]\n(.*?)\n", document)
    about = packages / "abacus-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[qslurm.runtimes]\n{entry.replace(chr(34), '')}\n")
    return folder / "bin" / "python"


def test_the_documented_plug_in_executes_circuits_and_holds_its_backend_when_its_device_is_away(
    home: Path, tmp_path: Path
) -> None:
    device = tmp_path / "device"
    device.touch()
    backend = BackendConfig(name="qx", runtime="abacus", qubits=2, options={"device": str(device)})
    with Running(home, backend=backend, python=install(tmp_path / "environment")) as running:
        running.ready()
        assert running.ask(circuit_job(1, uid=UID, shots=7)) == Admitted()
        task = until(lambda: (found := running.reader().task("a", 1)) and found.state == "finished" and found)
        (execution,) = running.reader().executions(task)
        counts = msgspec.json.decode(execution.counts, type=dict[str, int])
        assert (sum(counts.values()), {len(key) for key in counts}, execution.seconds) == (7, {2}, 0.001)
        device.unlink()
        status = until(lambda: (found := running.status().backends[0]).state == "offline" and found)
        assert status.reason == "the abacus is not connected"
        device.touch()
        until(lambda: running.status().backends[0].state == "idle")
