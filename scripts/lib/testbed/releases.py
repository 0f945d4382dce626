"""Which Slurm C2 runs: the host's own, a newer one out of a folder of Debian's packages, or one that somebody has
built or installed in a folder of their own.

A newer release is unpacked, never installed: no maintainer script runs, and the host keeps its own Slurm (C1 goes
on with it). Its programs are copied into the instance with the new root's loader and libraries written into them, so
that daemons, hooks and jobs live in the host as ever: same users, same files, same Python. Nothing is mounted and
nothing is chrooted.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.base import open_to_all
from testbed.command import checked, clean, run
from testbed.errors import TestbedError
from testbed.layout import HOSTS_OWN, Layout, write

Say = Callable[[str], None]


@dataclass(frozen=True)
class Release:
    """A release of Slurm: its version's first two numbers, and the suite of Debian that has it."""

    version: str
    suite: str


RELEASES = {
    one.version: one
    for one in (Release(HOSTS_OWN, "bookworm"), Release("24.11", "trixie"), Release("26.05", "sid"))
}

TOOLS = ("mmdebstrap", "patchelf", "gpg")
"""Debian's packages that a newer release needs on the host; installed when one is asked for."""

PACKAGES = (
    *("slurmctld", "slurmd", "slurmdbd", "slurmrestd", "slurm-client"),
    *("slurm-wlm-jwt-plugin", "slurm-wlm-mysql-plugin", "libmunge2"),
)
DAEMONS = ("slurmctld", "slurmd", "slurmstepd", "slurmdbd", "slurmrestd")
COMMANDS = (
    *("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sdiag", "sinfo", "sprio", "squeue", "sreport"),
    *("srun", "sshare", "sstat"),
)
PLUGINS = ("accounting_storage_mysql", "auth_jwt", "auth_munge", "job_submit_lua", "rest_auth_jwt")
"""What C2 needs that a Slurm may have been built without."""

DOWNLOAD_S = 300.0
"""How long fetching a release may take; it takes 10 s where the mirror is near."""


def check(slurm: str) -> str:
    """A release that the testbed can run, or the absolute path of an installed Slurm; TestbedError otherwise."""
    if slurm in RELEASES:
        return slurm
    if "/" not in slurm:
        raise TestbedError(f"Unknown Slurm release {slurm}. Available: {', '.join(RELEASES)}.")
    prefix = Path(slurm).resolve()
    missing = [name for name in (*DAEMONS, *COMMANDS) if _installed(prefix, name) is None]
    missing += [name for name in PLUGINS if not (_plugins(prefix) / f"{name}.so").is_file()]
    if missing:
        raise TestbedError(f"The Slurm in {prefix} is incomplete. Missing: {', '.join(missing)}.")
    if not open_to_all(prefix):
        raise TestbedError(f"Users cannot enter {prefix}, and Slurm's daemons run as several users.")
    return str(prefix)


def version(layout: Layout) -> tuple[int, int]:
    """The first two numbers of the version that C2's Slurm reports: (23, 2) for 23.02.8."""
    program = layout.slurm_program("c2", "slurmctld")
    try:
        done = run((program, "-V"), environment=clean())
    except OSError as error:
        raise TestbedError(f"Cannot run {program}: {error.strerror}.") from error
    found = re.fullmatch(r"slurm(?:-wlm)? (\d+)\.(\d+)\..*", done.stdout.strip())
    if found is None:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise TestbedError(f"`{program} -V` prints no version of Slurm: {said}")
    return int(found[1]), int(found[2])


def ensure(layout: Layout, say: Say) -> None:
    """Prepare C2's Slurm, unless it is the host's."""
    if layout.slurm == HOSTS_OWN:
        return
    if layout.slurm not in RELEASES:
        _link(Path(layout.slurm), layout.slurm_programs)
        return
    root = _root(layout)
    root.parent.mkdir(parents=True, exist_ok=True)
    with _beside(root, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several instances share what was fetched
        if not root.is_dir():
            began = time.monotonic()
            _fetch(RELEASES[layout.slurm], root)
            say(f"Slurm {layout.slurm} fetched after {time.monotonic() - began:.0f} s")
        _adapt(layout, root)


def _root(layout: Layout) -> Path:
    return layout.state / "cache" / f"slurm-{layout.slurm}"


def _beside(root: Path, ending: str) -> Path:
    return root.with_name(root.name + ending)


# --- fetching


def _fetch(release: Release, root: Path) -> None:
    """Download the release's packages from the host's mirror and unpack them, completely or not at all."""
    _install_tools(release)
    half = _beside(root, ".half")
    shutil.rmtree(half, ignore_errors=True)
    options = ("APT::Install-Recommends=false", "Acquire::Check-Valid-Until=false", "Acquire::Retries=3")
    command: tuple[str | Path, ...] = (
        *("timeout", "--kill-after=5", f"{DOWNLOAD_S:.0f}"),  # ends all that mmdebstrap has started, too
        *("mmdebstrap", "--quiet", "--variant=extract", "--mode=root"),
        *(f'--aptopt={name} "{value}"' for name, _, value in (one.partition("=") for one in options)),
        f"--include={','.join(PACKAGES)}",
        *(release.suite, half, _mirror()),
    )
    done = run(command, environment=clean(TMPDIR=str(root.parent)), timeout_s=DOWNLOAD_S + 30)
    if done.returncode == 124:  # timeout(1)
        raise _unavailable(release, f"the download was not complete after {DOWNLOAD_S:.0f} s")
    if done.returncode:
        raise _unavailable(release, done.stderr.strip()[-600:])
    found = _version_of(half)
    if not found.startswith(f"{release.version}."):
        shutil.rmtree(half)
        raise _unavailable(release, f"Debian {release.suite} has {found or 'none'} now")
    half.rename(root)


def _unavailable(release: Release, why: str) -> TestbedError:
    return ReleaseUnavailableError(
        f"Slurm {release.version} can't be had from Debian {release.suite}: {why}."
    )


class ReleaseUnavailableError(TestbedError):
    """The mirror cannot be reached, or has another release by now."""


def _version_of(root: Path) -> str:
    """The version that the unpacked Slurm reports ("24.11.5")."""
    libraries = root / _libraries(root)
    loaded = (_loader(libraries), "--library-path", f"{libraries / 'slurm-wlm'}:{libraries}")
    return checked(run((*loaded, _program(root, "slurmctld"), "-V"), environment=clean())).split()[-1]


def _mirror() -> str:
    """The mirror of the host's packages."""
    command = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)")
    for line in checked(run(command, environment=clean())).splitlines():
        uri, codename, origin = line.split(" ", 2)
        if origin == "Debian" and codename == RELEASES[HOSTS_OWN].suite:
            return uri
    raise TestbedError("apt has no Debian mirror configured, so no newer Slurm can be downloaded.")


def _install_tools(release: Release) -> None:
    missing = [one for one in TOOLS if not shutil.which(one, path=clean()["PATH"])]
    if not missing:
        return
    environment = clean(DEBIAN_FRONTEND="noninteractive", NEEDRESTART_SUSPEND="1")
    apt = ("timeout", "--kill-after=5", f"{DOWNLOAD_S:.0f}", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120")
    for words in (("update",), ("-y", "--no-install-recommends", "install", *missing)):
        done = run((*apt, *words), environment=environment, timeout_s=DOWNLOAD_S + 30)
        if done.returncode:
            why = done.stderr.strip()[-600:] or f"apt-get ended with exit code {done.returncode}"
            raise _unavailable(release, f"{' and '.join(missing)} can't be installed: {why}")


# --- a folder that a Slurm was installed in


def _installed(prefix: Path, name: str) -> Path | None:
    places = (prefix / folder / name for folder in ("bin", "sbin"))
    return next((place for place in places if place.is_file()), None)


def _plugins(prefix: Path) -> Path:
    """The plug-in folder of an installed Slurm: lib/slurm or lib64/slurm."""
    return next(
        (path for path in (prefix / "lib64" / "slurm", prefix / "lib" / "slurm") if path.is_dir()), prefix
    )


def _link(prefix: Path, programs: Path) -> None:
    """Link its programs and plug-ins into one folder, as for a release."""
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir(parents=True)
    for name in (*DAEMONS, *COMMANDS):
        if found := _installed(prefix, name):
            (programs / name).symlink_to(found)
    (programs / "plugins").symlink_to(_plugins(prefix))


# --- adapting


def _adapt(layout: Layout, root: Path) -> None:
    """Copy the release's programs into the instance, and set their library path."""
    seen_as = layout.base / root.relative_to(layout.state)  # by a path that every user can reach
    libraries = seen_as / _libraries(root)
    stamp = layout.slurm_programs / ".made-of"
    identity = f"{seen_as} {root.stat().st_mtime_ns}\n"
    if stamp.exists() and stamp.read_text() == identity:
        return
    shutil.rmtree(layout.slurm_programs, ignore_errors=True)
    layout.slurm_programs.mkdir(parents=True)
    for name in (*DAEMONS, *COMMANDS):
        _copy_program(_program(root, name), layout.slurm_programs / name, libraries)
    (layout.slurm_programs / "plugins").symlink_to(libraries / "slurm-wlm")
    write(stamp, identity)


def _copy_program(source: Path, target: Path, libraries: Path) -> None:
    shutil.copy(source, target)
    target.chmod(0o755)
    # RPATH, not RUNPATH: it holds for the plugins' libraries, too
    search = f"{libraries / 'slurm-wlm'}:{libraries}"
    _patch("--set-interpreter", str(_loader(libraries)), "--force-rpath", "--set-rpath", search, str(target))


def _patch(*words: str) -> None:
    checked(run(("patchelf", *words), environment=clean()))


def _program(root: Path, name: str) -> Path:
    """The path of a program in the packages; Debian's alternatives links do not exist there."""
    places = [
        root / "usr" / folder / f"{name}{variant}" for folder in ("sbin", "bin") for variant in ("", "-wlm")
    ]
    return next(place for place in places if place.is_file())


def _loader(libraries: Path) -> Path:
    return next(libraries.glob("ld-linux*.so.*"))


def _libraries(root: Path) -> Path:
    found = next((root / "usr" / "lib").glob("*-linux-gnu/slurm-wlm"))
    return found.parent.relative_to(root)
