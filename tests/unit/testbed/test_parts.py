from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from testbed import Testbed, TestbedError, base, ports, process, releases, task_graph
from testbed.__main__ import main
from testbed.layout import CHECKOUT, Layout, write
from testbed.process import Process


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as one:
        yield one
        one.kill()


def test_a_process_is_known_by_its_start_too(child: subprocess.Popen[bytes]) -> None:
    known = process.find(child.pid)
    assert known
    assert known.alive
    assert not Process(known.pid, known.started + 1).alive


def test_a_signal_never_reaches_another_process_with_that_pid(child: subprocess.Popen[bytes]) -> None:
    known = process.find(child.pid)
    assert known
    assert Process(known.pid, known.started + 1).signal(signal.SIGKILL) is False
    assert child.poll() is None


def test_waiting_ends_with_the_process(child: subprocess.Popen[bytes]) -> None:
    known = process.find(child.pid)
    assert known
    assert known.signal(signal.SIGKILL)
    assert not known.lives_until(lambda: False, timeout_s=60)
    assert known.wait(60)
    assert not known.alive


def test_what_ignores_sigterm_is_killed() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()
        known = process.find(child.pid)
        assert known
        assert process.stop_all([known], 0.05) == [known]


def test_the_environment_of_a_process_can_be_read() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"MARK": "a=b"},
    ) as child:
        assert child.stdout
        child.stdout.readline()
        known = process.find(child.pid)
        assert known
        assert process.environment(known)["MARK"] == "a=b"
        child.kill()


def test_we_and_those_above_us_are_spared() -> None:
    above = os.getppid()  # 0 in a container that was entered from outside
    assert {os.getpid(), above} - {0} <= process.with_above(os.getpid())


def test_a_listening_port_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.listening(port)
        assert not ports.free({"one": port})
    assert not ports.listening(port)


def test_no_port_of_a_testbed_that_is_up_is_tried_not_even_for_a_moment() -> None:
    nobody_can_try = 1 << 16
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not ports.free({"one": nobody_can_try, "other": server.getsockname()[1]})


def test_two_instances_that_start_at_once_get_different_ports() -> None:
    with ports.reserved({}) as one, ports.reserved({}) as other, ports.reserved(one) as third:
        assert not set(one.values()) & set(other.values())
        assert not set(one.values()) & set(third.values())


def test_an_instance_that_was_made_before_a_port_had_a_name_has_it_too() -> None:
    with ports.reserved({}) as block:
        older = {name: number for name, number in block.items() if name != ports.NAMES[-1]}
        assert ports.complete(older) == block
    assert ports.complete({}) == {}


def test_an_instance_keeps_its_ports_while_they_are_free() -> None:
    with ports.reserved({}) as block:
        pass
    with ports.reserved(block) as again:
        assert again == block


def test_work_is_done_in_order_and_otherwise_at_once() -> None:
    done: list[str] = []
    both = threading.Barrier(2, timeout=60)

    def work(name: str) -> None:
        if name in "bc":
            both.wait()  # only passed if b and c run at the same time
        done.append(name)

    task_graph.run({"d": ["b", "c"], "b": ["a"], "c": ["a", "unknown"], "a": []}, work)
    assert (done[0], done[3]) == ("a", "d")


def test_an_error_stops_what_has_not_begun() -> None:
    def work(name: str) -> None:
        if name == "a":
            raise TestbedError("no luck")
        pytest.fail("began")

    with pytest.raises(TestbedError, match="no luck"):
        task_graph.run({"a": [], "b": ["a"]}, work)


def test_a_folder_that_others_can_not_enter_is_reached_through_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    state = tmp_path / "state"
    state.mkdir()
    assert base.choose(state, "default").parent == base.RUN
    assert base.choose(state, "default") != base.choose(state, "test")


def test_a_path_too_long_for_sockets_is_reached_through_run() -> None:
    assert base.choose(Path("/" + "deep/" * 10), "default").parent == base.RUN


@pytest.mark.parametrize("name", ["", "Test", "../x", "a" * 17, "a b", "1a"])
def test_a_name_that_would_not_make_a_good_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="Invalid name"):
        Layout.of(tmp_path, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="writes as root")
def test_a_file_that_says_the_same_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write(file, "one")
    before = file.stat().st_ino
    write(file, "one")
    assert file.stat().st_ino == before
    write(file, "two", mode=0o600)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("two", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_other_versions_of_slurm_are_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--slurm", "19.05"])
    assert "choose from '22.05', '24.11', '26.05'" in capsys.readouterr().err
    with pytest.raises(TestbedError, match=r"19\.05"):
        Testbed("any", state=tmp_path, slurm="19.05")


def test_only_up_changes_the_release_of_slurm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--name", "never-was", "--slurm", "26.05"]) == 1
    assert "'never-was' runs Slurm 22.05" in capsys.readouterr().err


def test_each_release_of_slurm_has_records_of_its_own_on_c2_alone(tmp_path: Path) -> None:
    own = Layout.of(tmp_path, "any")
    newer = replace(own, slurm="24.11")
    for part in (Layout.slurm_state, Layout.spool):
        assert part(own, "c1") == part(newer, "c1")
        assert part(own, "c2") != part(newer, "c2")
    assert own.database_name == "slurm_acct_db"
    assert newer.database_name == "slurm_acct_db_2411"


def test_a_newer_slurm_is_run_from_the_instance_and_c1_keeps_the_hosts(tmp_path: Path) -> None:
    newer = replace(Layout.of(tmp_path, "any"), slurm="24.11")
    assert newer.slurm_program("c1", "slurmctld") == Path("/usr/sbin/slurmctld")
    assert newer.slurm_program("c1", "sinfo") == Path("/usr/bin/sinfo")
    assert newer.slurm_program("c2", "sinfo") == newer.folder / "slurm-24.11" / "sinfo"


def test_an_instance_goes_on_with_the_release_it_ran_last(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path, "any")
    layout.home.mkdir(parents=True)
    assert Testbed("any", state=tmp_path).layout.slurm == "22.05"
    layout.saved_state.write_text('{"ports": {}, "password": "", "slurm": "26.05"}')
    assert Testbed("any", state=tmp_path).layout.slurm == "26.05"


@pytest.fixture
def prefix() -> Iterator[Path]:
    """The folder of a Slurm that somebody has installed, as far as its names go."""
    with tempfile.TemporaryDirectory(prefix="qslurm-prefix-") as folder:  # pytest's own are closed to others
        Path(folder).chmod(0o755)
        yield _installed(Path(folder) / "slurm")


def _installed(folder: Path) -> Path:
    files = [folder / "sbin" / name for name in releases.DAEMONS]
    files += [folder / "bin" / name for name in releases.COMMANDS]
    files += [folder / "lib" / "slurm" / f"{name}.so" for name in releases.PLUGINS]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def test_an_installed_slurm_is_c2s_alone_and_is_kept_in_mind(prefix: Path, tmp_path: Path) -> None:
    layout = Testbed("any", state=tmp_path, slurm=f"{prefix}/bin/..").layout
    assert layout.slurm == str(prefix)
    assert layout.slurm_program("c1", "slurmctld") == Path("/usr/sbin/slurmctld")
    releases.ensure(layout, print)
    assert layout.slurm_program("c2", "slurmctld").resolve() == prefix / "sbin" / "slurmctld"
    assert layout.slurm_program("c2", "sinfo").resolve() == prefix / "bin" / "sinfo"
    assert (layout.slurm_programs / "plugins").resolve() == prefix / "lib" / "slurm"
    assert re.fullmatch(r"slurm_acct_db_at_[0-9a-f]{8}", layout.database_name)


@pytest.mark.parametrize("missing", ["sbin/slurmrestd", "bin/sacctmgr", "lib/slurm/job_submit_lua.so"])
def test_an_incomplete_slurm_is_refused_with_what_it_lacks(
    prefix: Path, tmp_path: Path, missing: str
) -> None:
    (prefix / missing).unlink()
    with pytest.raises(TestbedError, match=Path(missing).stem):
        Testbed("any", state=tmp_path, slurm=str(prefix))


def test_a_slurm_that_others_can_not_enter_is_refused(prefix: Path, tmp_path: Path) -> None:
    prefix.parent.chmod(0o700)
    with pytest.raises(TestbedError, match="enter"):
        Testbed("any", state=tmp_path, slurm=str(prefix))


def test_a_slurm_that_cannot_run_says_why(prefix: Path, tmp_path: Path) -> None:
    layout = Testbed("any", state=tmp_path, slurm=str(prefix)).layout
    releases.ensure(layout, print)
    with pytest.raises(TestbedError, match="Permission denied"):
        releases.version(layout)


def test_requirements_are_those_of_pyproject() -> None:
    spec = importlib.util.spec_from_file_location("requirements", CHECKOUT / "scripts/lib/requirements.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pyproject = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    found = module.requirements(pyproject, ["c2", "run", "group:dev"])
    assert len(found) == len(set(found))
    assert set(pyproject["project"]["dependencies"]) < set(found)
    assert set(pyproject["project"]["optional-dependencies"]["run"]) < set(found)
    assert set(pyproject["dependency-groups"]["lint"]) < set(found)
    assert not [one for one in found if one.startswith("qslurm")]


@pytest.mark.parametrize("program", sorted(CHECKOUT.glob("scripts/lib/*.sh")), ids=lambda path: path.name)
def test_shell_is_well_formed(program: Path) -> None:
    done = subprocess.run(["bash", "-n", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
