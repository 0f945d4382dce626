"""A process that is shut in computes, and can't do anything else; each way out is tried on the real kernel."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from testbed.layout import CHECKOUT

from qslurm.runtimes.quantum.seccomp import is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="no filter for this machine")

ROOT = CHECKOUT

_SHUT_IN = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
from qslurm.runtimes.quantum.seccomp import apply_filter
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
thread = threading.Thread(target=input)  # one that was there before
here = os.open("/", os.O_RDONLY)
apply_filter()
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
try:
    {action}
except OSError as error:
    sys.exit(error.errno)
"""

REFUSED = {
    "a program": "os.execv('/bin/true', ['true'])",
    "a process": "os.fork()",
    "a process by posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "a program by a child": "subprocess.run(['/bin/true'])",
    "a connection": "socket.socket(socket.AF_INET)",
    "a Unix socket": "socket.socket(socket.AF_UNIX)",
    "two sockets": "socket.socketpair()",
    "a new file": "open('/tmp/qslurm-test-seccomp', 'w')",
    "a file to write": "os.open('/dev/null', os.O_RDWR)",
    "a file to write, by its folder": "os.open('null', os.O_WRONLY, dir_fd=here)",
    "another name": "os.rename('/tmp/a', '/tmp/b')",
    "no file": "os.unlink('/tmp/qslurm-nothing')",
    "a folder": "os.mkdir('/tmp/qslurm-test-seccomp')",
    "other permissions": "os.chmod('/tmp', 0o777)",
    "a signal": "os.kill(parent, signal.SIGCONT)",
    "a look whether a process is there": "os.kill(parent, 0)",
    "a process by its descriptor": "os.pidfd_open(parent)",
    "tracing": "call('ptrace', 16, parent, 0, 0)",
    "another's limits": "resource.prlimit(parent, resource.RLIMIT_NOFILE)",
    "namespaces": "call('unshare', 0x10000000)",
    "a mount": "call('mount', b'none', b'/mnt', b'tmpfs', 0, None)",
    "another user": "os.setuid(65534)",
    "the kernel's programs": "call('syscall', 321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0)",
}

ALLOWED = {
    "a file to read": "open('/proc/self/status').read()",
    "a module": "import fractions",
    "a thread": "t = threading.Thread(target=print); t.start(); t.join()",
    "memory": "bytearray(1 << 24)",
    "its own limits": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "a circuit": "from qslurm.runtimes.qx import simulate; "
    "simulate('version 3.0; qubit[2] q; bit[2] b; H q; b = measure q', 10)",
}


def run_filtered(action: str) -> subprocess.CompletedProcess[str]:
    code = _SHUT_IN.replace("{action}", action)
    return subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("action", REFUSED.values(), ids=REFUSED.keys())
def test_what_leads_out_is_refused(action: str) -> None:
    done = run_filtered(action)
    assert done.returncode == errno.EPERM, done.stderr


@pytest.mark.parametrize("action", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_computing_needs_is_there(action: str) -> None:
    done = run_filtered(action)
    assert done.returncode == 0, done.stderr


def test_it_may_end_itself() -> None:
    assert run_filtered("os.abort()").returncode < 0


_THREAD = """
import queue, socket, sys, threading
sys.path.insert(0, sys.argv[1])
from qslurm.runtimes.quantum.seccomp import apply_filter
asked, said = queue.Queue(), queue.Queue()
def work():
    asked.get()
    try:
        socket.socket()
    except OSError as error:
        said.put(error.errno)
    else:
        said.put(0)
threading.Thread(target=work, daemon=True).start()
apply_filter()
asked.put(1)
sys.exit(said.get())
"""


def test_threads_that_were_there_before_are_shut_in_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _THREAD, str(ROOT)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == errno.EPERM, done.stderr
