"""The system calls that a quantum runtime may still make once it is ready: a seccomp(2) filter, as a small BPF
program.

The process parses users' circuits with large C++ libraries. Code that takes it over can compute and reply to
the dispatcher, but cannot start programs, write files, open connections, or inspect other processes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _TSYNC = 1, 1
_KILL, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x4000_0000
_CLONE_THREAD = 0x0001_0000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Machine(NamedTuple):
    """An architecture: its number for audit, that of seccomp(2), and the column of `_REFUSED`."""

    audit: int
    seccomp: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000_003E, 317, 0), "aarch64": _Machine(0xC000_00B7, 277, 1)}

_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # programs and processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    # connections
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "msgget": (68, 186), "semget": (64, 190), "shmget": (29, 194),
    "mq_open": (240, 180),
    # files
    "creat": (85, None), "openat2": (437, 437), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "chmod": (90, None),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "truncate": (76, 45), "mknod": (133, None), "mknodat": (259, 33),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    # mounts, namespaces, users, the system
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159), "setfsuid": (122, 151),
    "setfsgid": (123, 152), "capset": (126, 91), "personality": (135, 92), "quotactl": (179, 60), "acct": (163, 89),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "syslog": (103, 116), "iopl": (172, None),
    "ioperm": (173, None),
    # large and rarely used subsystems
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
}  # fmt: skip

Instruction = tuple[int, int, int, int]


def is_supported() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _MACHINES


def apply_filter() -> None:
    """Refuse the listed system calls to all threads of this process, for good; does nothing on unsupported machines.

    Raises OSError if the kernel rejects the filter.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return
    program = b"".join(
        code.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little")
        for code, yes, no, value in _program(machine, os.getpid())
    )
    libc = ctypes.CDLL(None, use_errno=True)
    none = ctypes.c_ulong(0)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), none, none, none), "no_new_privs")
    place = ctypes.create_string_buffer(program, len(program))
    described = (ctypes.c_ulong * 2)(len(program) // 8, ctypes.addressof(place))  # struct sock_fprog
    done = libc.syscall(
        ctypes.c_long(machine.seccomp), ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_TSYNC),
        ctypes.byref(described),
    )  # fmt: skip
    _check(done, "seccomp")


def _program(machine: _Machine, pid: int) -> list[Instruction]:
    def refuse(number: int) -> Instruction:
        return (_RETURN, 0, 0, _ERRNO | number)

    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine.column == 0:
        program += [(_JUMP_GREATER_EQUAL, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for numbers in _REFUSED.values():
        if (number := numbers[machine.column]) is not None:
            program += [(_JUMP_EQUAL, 0, 1, number), refuse(errno.EPERM)]
    program += [
        (_JUMP_EQUAL, 0, 1, 435),
        refuse(errno.ENOSYS),
    ]  # clone3: a filter cannot read its flags; glibc falls back to clone
    for numbers, argument, jump, value, allowed in (
        ((56, 220), 0, _JUMP_SET, _CLONE_THREAD, True),  # clone: threads, no processes
        ((62, 129), 0, _JUMP_EQUAL, pid, True),  # kill, tgkill: itself
        ((234, 131), 0, _JUMP_EQUAL, pid, True),
        ((302, 261), 0, _JUMP_EQUAL, 0, True),  # prlimit64: its own limits
        ((257, 56), 2, _JUMP_SET, _WRITES, False),  # openat, open: to read
        ((2, None), 1, _JUMP_SET, _WRITES, False),
    ):
        if (number := numbers[machine.column]) is not None:
            program += [
                (_JUMP_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
                (jump, 1, 0, value) if allowed else (jump, 0, 1, value),
                refuse(errno.EPERM),
                (_RETURN, 0, 0, _ALLOW),
            ]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
