"""Child processes for risky work, such as executing circuits in QX or parsing in libqasm.

Such a process gets what it must know on its standard input, never on the command line that everybody can
read, and it ends with the process that started it, even when that is killed with -9.
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
_LOG_LIMIT = 1 << 20  # bytes that such a process may write to a file (its standard error)


def command(module: str) -> list[str]:
    """The command line that runs `main()` of a module of this package.

    `-I` keeps the environment, the current folder and the user's own packages out; so where this package is
    must be said, because a checkout is not on the path of an isolated Python.
    """
    root = str(Path(qslurm.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r}); from {module} import main; main()"
    return [sys.executable, "-I", *_where_bytecode_goes(), "-c", code]


def _where_bytecode_goes() -> list[str]:
    """The environment of a child; cache settings are inherited."""
    if sys.dont_write_bytecode:
        return ["-B"]
    return ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the starting thread, in process `parent`, ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before the kernel knew
        raise SystemExit(1)


def limit_memory(more: int) -> None:
    """Limit this process's memory to its current size plus this many bytes.

    Python raises MemoryError; a C++ library that does not expect it ends the process, see `ran_out_of_memory`.
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
    # what `ulimit` calls it, the number of its units that is enough for all processes of `qslurm run`
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
    """Whether that is what a process says last that ended for want of memory: it leaves nothing but these words, of
    C++'s runtime (std::bad_alloc, before abort) and of Python's.
    """
    return "bad_alloc" in stderr or "MemoryError" in stderr


def restrain() -> None:
    """No core dumps, no large files, and first choice of the OOM killer."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_FSIZE, _LOG_LIMIT)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    Path("/proc/self/oom_score_adj").write_text("1000")
