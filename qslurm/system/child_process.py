"""Child processes for work that may crash, such as executing circuits in QX or parsing them with libqasm.

They get their data on standard input, because every user can read command lines, and they are killed when their parent
ends, however that happens.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

import qslurm

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 1 << 20  # bytes that a child may write to a file (its standard error)


def command(module: str) -> list[str]:
    """The command line that runs `main()` of a module of this package.

    `-I` ignores the environment, the current directory and the user's packages. So the package's location is added to
    the path.
    """
    root = str(Path(qslurm.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r}); from {module} import main; main()"
    return [sys.executable, "-I", *_bytecode_options(), "-c", code]


def _bytecode_options() -> list[str]:
    """Python options with this process's bytecode cache settings."""
    if sys.dont_write_bytecode:
        return ["-B"]
    return ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the starting thread, in process `parent`, ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # the parent ended before prctl
        raise SystemExit(1)


def limit_memory(more: int) -> None:
    """Limit this process's memory to its current size plus this many bytes.

    Beyond it Python raises MemoryError; C++ libraries may abort, see `ran_out_of_memory`.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + more)


def allow_memory(more: int) -> None:
    """Raise or lower this process's memory limit, if it has one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        _limit(resource.RLIMIT_AS, limit + more)


def _limit(which: int, value: int) -> None:
    """Set a soft limit, at most the hard limit (`ulimit`)."""
    _, most = resource.getrlimit(which)
    resource.setrlimit(which, (value if most == resource.RLIM_INFINITY else min(value, most), most))


_ENOUGH = (
    # option of `ulimit`, its unit, and the number of units that `qslurm run` needs
    (resource.RLIMIT_AS, "-v", 1024, 2 << 20),
    (resource.RLIMIT_FSIZE, "-f", 1024, 64 << 10),
    (resource.RLIMIT_NOFILE, "-n", 1, 64),
    (resource.RLIMIT_NPROC, "-u", 1, 64),
)


def low_limits() -> str:
    """A hint about low limits of this process that may prevent starting children; or ""."""
    found = []
    for which, option, unit, enough in _ENOUGH:
        limit, _ = resource.getrlimit(which)
        if limit != resource.RLIM_INFINITY and limit // unit < enough:
            found.append(f"`ulimit {option}` is {limit // unit}")
    return f"A limit may be too low: {' and '.join(found)}." if found else ""


def ran_out_of_memory(stderr: str) -> bool:
    """Whether a process's standard error shows that it ran out of memory, in C++ (std::bad_alloc) or in Python."""
    return "bad_alloc" in stderr or "MemoryError" in stderr


def restrain() -> None:
    """Disable core dumps and large files, and make this process the OOM killer's first choice."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_FSIZE, _LOG_LIMIT)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    Path("/proc/self/oom_score_adj").write_text("1000")
