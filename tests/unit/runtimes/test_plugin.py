"""Quantum runtimes are found by name, whether they come with this package or with another one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from testbed.layout import CHECKOUT

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.dispatcher_service import check_runtime
from qslurm.errors import ConfigError
from qslurm.runtimes.plugin import BUILT_IN, find_plugin, plugin_names
from qslurm.runtimes.quantum.process import make_runtime

ABACUS = """
import msgspec
from qslurm.runtimes.interface import BackendType, Outcome

class Options(msgspec.Struct, forbid_unknown_fields=True):
    beads: int = 10
    colour: str = "red"
    def __post_init__(self):
        if self.beads < 1:
            raise ValueError("beads must be 1 or more")

class Abacus:
    Options = Options
    max_workers = 1
    def __init__(self, backend, options):
        self.options = options
        self.backend_type = BackendType(name=backend.name, nqubits=options.beads,
                                        max_number_of_shots=1, default_number_of_shots=1)
    def open(self): pass
    def close(self): pass
    def execute(self, circuit, shots, *, seed, raw_data, file):
        return Outcome(counts={"0" * self.options.beads: shots}, shots_requested=shots, shots_done=shots, seconds=0.0)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution as pip would leave it, with two plug-ins: one that works and one that can't be loaded."""
    (tmp_path / "abacus_for_tests.py").write_text(ABACUS)
    metadata = tmp_path / "abacus_for_tests-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus-for-tests\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[qslurm.runtimes]\nabacus = abacus_for_tests:Abacus\nbroken = abacus_for_tests:Missing\nempty = json:dumps\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("abacus_for_tests", None)


def test_those_of_this_package_are_declared_as_others_are() -> None:
    import tomllib

    text = (CHECKOUT / "pyproject.toml").read_text()
    assert tomllib.loads(text)["project"]["entry-points"]["qslurm.runtimes"] == BUILT_IN


def test_those_of_this_package_are_found_without_a_look_at_what_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looked(**_: object) -> None:
        raise AssertionError("looked")

    monkeypatch.setattr("importlib.metadata.entry_points", looked)
    assert find_plugin("qx").max_workers == 0


def test_another_package_s_runtime_is_configured_by_its_own_options(installed: Path) -> None:
    backend = BackendConfig(name="a", runtime="abacus", options={"beads": 3})
    check_runtime(backend)
    runtime = make_runtime(backend)
    assert runtime.backend_type.nqubits == 3
    assert runtime.execute("", 5, seed=None, raw_data=False, file="f").counts == {"000": 5}
    assert {"abacus", "qx"} <= set(plugin_names())


@pytest.mark.parametrize(
    ("runtime", "options", "workers", "words"),
    [
        ("abakus", {}, 1, "Unknown quantum runtime 'abakus'.*Available: .*abacus.*qx"),
        ("abacus", {"bead": 3}, 1, "unknown key 'options.bead'. Did you mean 'beads'"),
        ("abacus", {"beads": "three"}, 1, "options.beads: expected `int`"),
        ("abacus", {"beads": 0}, 1, "beads must be 1 or more"),
        ("abacus", {}, 2, "must be at most 1"),
        ("broken", {}, 1, "Cannot load.*Missing"),
        ("empty", {}, 1, "is not a valid plug-in"),
        ("qx", {"beads": 3}, 1, "unknown key 'options.beads'"),
    ],
)
def test_what_can_not_be_is_said_with_the_backend_s_name(
    installed: Path, runtime: str, options: dict[str, object], workers: int, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_runtime(BackendConfig(name="soroban", runtime=runtime, options=options, workers=workers))
    assert "soroban" in str(caught.value)
    caught.match(words)
