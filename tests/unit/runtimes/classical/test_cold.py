"""A step without a warm runtime, and the view of its node that every runtime has: made for real, as this user."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import qslurm
from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config, GateConfig
from qslurm.c2.config.jobmanager_section import JobManagerConfig
from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.errors import ConfigError
from qslurm.payload.handover import around_script
from qslurm.runtimes.classical import cold, view
from qslurm.runtimes.classical.confinement import plan_of
from qslurm.runtimes.classical.probe import reason_not_confinable

HERE = os.environ | {"PYTHONPATH": str(Path(qslurm.__file__).parents[1])}
BEHIND = """
import json, sys
from pathlib import Path
import msgspec
from qslurm.c2.config.file import C2Config
from qslurm.runtimes.classical import cold
from qslurm.runtimes.classical.confinement import plan_of

config, code = msgspec.json.decode(sys.argv[1], type=C2Config), sys.argv[2]

def step(script):
    exec(code, globals())
    return 0

code, reason = cold.run_confined(plan_of(config, rootless=True), step, "token", sys.argv[3:] or ["job.sh"])
raise SystemExit(reason or code)
"""


@pytest.fixture(scope="module")
def can_confine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why this user can't make namespaces; "" if they can."""
    environment = HERE | {"QSLURM_C2_CONFIG": str(config_file(tmp_path_factory.mktemp("probe")))}
    code = [sys.executable, "-c", "import qslurm.runtimes.classical.probe as probe; probe.main()"]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.stderr if done.returncode else ""


@pytest.fixture
def behind(tmp_path: Path, can_confine: str) -> Callable[..., str]:
    """What code prints that runs as a job's step, where this user can confine one."""
    if can_confine:
        pytest.skip(f"this user can't make namespaces: {can_confine}")

    def run(config: C2Config, code: str, *step: str, exit_code: int = 0) -> str:
        words = [sys.executable, "-c", BEHIND, msgspec.json.encode(config).decode(), code, *step]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path, env=HERE
        )
        assert done.returncode == exit_code, done.stderr
        return done.stdout

    return run


def config_file(folder: Path, text: str = "") -> Path:
    file = folder / "c2.toml"
    file.write_text(text)
    return file


def config_of(folder: Path, socket: Path | None = None, **runtimes: object) -> C2Config:
    return C2Config(
        gate=GateConfig(state=str(folder / "gate")),
        dispatcher=DispatcherConfig(
            socket=str(socket or folder / "run" / "d"), store=str(folder / "store" / "store.db")
        ),
        jobmanager=JobManagerConfig(logs=str(folder / "logs")),
        runtimes=RuntimesConfig(socket=str(folder / "warm" / "s"), **runtimes),  # type: ignore[arg-type]
    )


SEEN = """
import os
def readable(path):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).close()
    except OSError:
        return False
    return True
def writable(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
"""


def test_a_job_begins_in_a_folder_of_its_own_of_which_nothing_is_left(
    behind: Callable[..., str], tmp_path: Path
) -> None:
    code = SEEN + (
        "places = ['.', '/tmp', '/var/tmp', '/dev/shm']\n"
        "before = [os.listdir(place) for place in places[:1] + places[2:]]\n"
        "print(json.dumps([os.getcwd(), os.stat('.').st_mode & 0o777, before,"
        " [writable(f'{place}/left') for place in places], writable('/usr/left')]))"
    )
    found = json.loads(behind(config_of(tmp_path), code))
    assert found == [str(view.WORK), 0o700, [[], [], []], [True] * 4, False]
    assert not any(Path(place, "left").exists() for place in (tmp_path, "/tmp", "/var/tmp", "/dev/shm"))
    assert not view.WORK.exists()


def test_no_more_than_allowed_is_kept_in_all(behind: Callable[..., str], tmp_path: Path) -> None:
    code = (
        "sizes = []\n"
        "for place in ('.', '/tmp', '/var/tmp', '/dev/shm'):\n"
        "    with open(f'{place}/bulk', 'wb', buffering=0) as file:\n"
        "        try:\n"
        "            for _ in range(40):\n"
        "                file.write(bytes(10**6))\n"
        "        except OSError:\n"
        "            pass\n"
        "        sizes.append(file.tell())\n"
        "print(sum(sizes))"
    )
    assert int(behind(config_of(tmp_path, tmp_mb=50), code)) < 51_000_000


def test_a_script_is_confined_as_other_code_is(behind: Callable[..., str], tmp_path: Path) -> None:
    script, secret = tmp_path / "slurm_script", tmp_path / "logs" / "secret"
    secret.parent.mkdir()
    secret.touch()
    lines = (
        f"pwd; ls -A; echo $1; cat {secret}; touch {tmp_path}/left; grep NoNewPrivs /proc/self/status; exit 5"
    )
    text = f"#!/bin/sh\n{lines}\n"
    script.write_text(around_script("/some/qslurm-step") + text)
    words = behind(config_of(tmp_path), "", "--script", str(script), "--one", exit_code=5).split()
    assert words == [str(view.WORK), "--one", "NoNewPrivs:", "1"]
    assert not (tmp_path / "left").exists()


def test_a_script_that_a_signal_ends_ends_its_step_by_it(behind: Callable[..., str], tmp_path: Path) -> None:
    script = tmp_path / "slurm_script"
    script.write_text(around_script("/some/qslurm-step") + "#!/bin/sh\nkill -USR1 $$\n")
    behind(config_of(tmp_path), "", "--script", str(script), exit_code=-signal.SIGUSR1)


PLACES = {  # where the folders that jobs need lie, seen from those that they must not see
    "beside": lambda hidden: hidden.parent / "beside",
    "containing it": lambda hidden: hidden.parent,
    "by another name": lambda hidden: _link(hidden.parent / "link", hidden.parent),
}


def _link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("where", PLACES)
def test_what_is_hidden_is_hidden_whatever_is_shown(
    behind: Callable[..., str], tmp_path: Path, where: str
) -> None:
    names = ("gate", "store", "logs", "warm", "more", "beside", "run")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").touch()
    linked = _link(tmp_path / "link to more", tmp_path / "more")
    config = config_of(tmp_path, socket=PLACES[where](tmp_path / "gate") / "d", hide=[str(linked)])
    roots = ("", "/proc/1/root", "/proc/self/cwd/../..")
    paths = [f"{root}{tmp_path}/{name}/secret" for root in roots for name in (*names, linked.name)]
    seen = json.loads(behind(config, SEEN + f"print(json.dumps([p for p in {paths!r} if readable(p)]))"))
    assert {Path(path).parent.name for path in seen} <= {"beside", "run"}


@pytest.mark.parametrize("secret", ["gate", "store", "logs", "warm", "more"])
@pytest.mark.parametrize("deeper", ["", "below", "a/b"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_jobs_need_may_not_lie_in_what_they_must_not_see(
    tmp_path: Path, secret: str, deeper: str, *, linked: bool
) -> None:
    place = tmp_path / secret / deeper
    place.mkdir(parents=True)
    if linked:
        place = _link(tmp_path / "elsewhere", place)
    config = config_of(tmp_path, socket=place / "d", hide=[str(tmp_path / "more")])
    with pytest.raises(ConfigError, match="must not see"):
        plan_of(config)


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm", "/run", "/home", "/root"])
def test_nor_may_they_be_what_is_replaced_as_a_whole(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="must not see"):
        plan_of(config_of(tmp_path, socket=Path(place) / "d"))


def test_what_is_mounted_later_lies_deeper() -> None:
    assert view.outermost(["/usr/share/doc", "/usr", "/usr/share/", "/usr"]) == [
        "/usr",
        "/usr/share",
        "/usr/share/doc",
    ]


REFUSED = [
    PermissionError(1, "not permitted"),
    OSError(22, "bad"),
    OSError(38, "not implemented"),
    ConfigError("no"),
]


@pytest.mark.parametrize("error", REFUSED, ids=str)
def test_a_node_that_can_not_confine_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise error

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert cold.run(Path("job.sh"), C2Config(), start=refuse) == 1
    printed = capfd.readouterr()
    assert "Cannot confine" in printed.err
    assert printed.out == ""


def test_a_node_without_room_for_a_moment_is_asked_again() -> None:
    answers: list[object] = [OSError(11, "no process"), OSError(12, "no memory"), "ready"]

    def start() -> object:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert cold.start_with_retries(start, retry_s=0) == "ready"


def test_the_probe_says_what_stands_in_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = f'[dispatcher]\nsocket = "{tmp_path}/gate/d"\n[gate]\nstate = "{tmp_path}/gate"\n'
    monkeypatch.setenv("QSLURM_C2_CONFIG", str(config_file(tmp_path, text)))
    assert "must not see" in reason_not_confinable()
