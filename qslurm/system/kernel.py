"""System calls missing in Python 3.11: namespaces, mounts, capabilities. Failures are OSErrors."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000

CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_PTRACE = 2, 5, 6, 7, 19

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_SECURE = 0xEB  # no root, no ambient, no keep-caps, each locked; NO_SETUID_FIXUP stays off, locked
_CAPABILITY_VERSION = 0x2008_0522
_SYS_MOUNT_SETATTR = 442  # the same on every architecture
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Unshare the namespaces given by CLONE_NEW…."""
    _check(_libc.unshare(flags), "unshare")


def unshare_as_user(flags: int) -> None:
    """Unshare without root: in a new user namespace with only this user and group."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(flags | CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 -- as below
            file.write(text)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system; the arguments are those of the system call."""
    texts = [os.fsencode(text) if text else None for text in (source, target, kind)]
    done = _libc.mount(*texts, ctypes.c_ulong(flags), options.encode() if options else None)
    _check(done, f"mount {target}")


def set_readonly(path: str, *, readonly: bool = True, recursive: bool = False) -> None:
    """Make a mount (with `recursive`, all below it) read-only and nosuid; or writable."""
    fields = (ctypes.c_uint64 * 4)(
        MS_NOSUID | (MS_RDONLY if readonly else 0), 0 if readonly else MS_RDONLY, 0, 0
    )
    flags = ctypes.c_uint(_AT_RECURSIVE if recursive else 0)
    done = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), ctypes.c_char_p(os.fsencode(path)),
        flags, ctypes.byref(fields), ctypes.c_size_t(ctypes.sizeof(fields)),
    )  # fmt: skip
    _check(done, f"mount_setattr {path}")


def adopt_orphans() -> None:
    """Become the subreaper of orphaned descendants."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_only(*capabilities: int) -> None:
    """Drop all capabilities except these, permanently."""
    _drop_bounding(capabilities)
    _capset(sum(1 << one for one in capabilities))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def has(*capabilities: int) -> bool:
    """Whether this process has these capabilities."""
    (line,) = [line for line in _own_status().splitlines() if line.startswith("CapEff:")]
    return all(int(line.split()[1], 16) >> one & 1 for one in capabilities)


def give_up_all() -> None:
    """Drop all capabilities, also for executed programs."""
    _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    _capset(0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become(uid: int, *, hidden: bool) -> None:
    """Switch to this user permanently, without capabilities; set groups before.

    With `hidden`, none of this user's processes can trace this one or read its memory, and it dumps no core; its files
    in /proc belong to root then. PermissionError if any privilege is left.
    """
    _drop_bounding(())
    _prctl(_PR_SET_SECUREBITS, _SECURE)
    os.setresuid(uid, uid, uid)
    _capset(0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0 if hidden else 1)
    status = dict(line.split(":\t", 1) for line in _own_status().splitlines() if ":\t" in line)
    left = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    if left or os.getresuid() != (uid, uid, uid) or status["NoNewPrivs"].strip() != "1":
        raise PermissionError(f"privileges are left: {', '.join(left)}, uids {os.getresuid()}")


def _own_status() -> str:
    with open("/proc/self/status") as file:  # noqa: PTH123 -- this module stays light
        return file.read()


def _drop_bounding(kept: tuple[int, ...]) -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:  # noqa: PTH123
        last = int(file.read())
    for capability in range(last + 1):
        if capability not in kept:
            _prctl(_PR_CAPBSET_DROP, capability)


def _capset(bits: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    low, high = bits & 0xFFFF_FFFF, bits >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def _prctl(option: int, value: int) -> None:
    none = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), none, none, none), f"prctl {option}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
