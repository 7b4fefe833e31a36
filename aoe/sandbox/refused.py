"""The system calls that a program without business of its own is refused (seccomp(2))."""

import ctypes
import errno
import os
import platform
from collections.abc import Iterator

from aoe.sandbox.bpf import (
    ANY_BIT,
    ARCHITECTURE_AT,
    ARGUMENTS_AT,
    EQUAL,
    LOAD,
    MACHINES,
    NUMBER_AT,
    SPEC_ALLOW,
    Machine,
    Number,
    Step,
    answer,
    install,
    packed,
)

_X32 = 0x40000000
"""In the number of a call of x86-64 that has the pointers of 32 bits."""

REFUSED = {
    "socket": Number(41, 198),
    "connect": Number(42, 203),
    "bind": Number(49, 200),
    "listen": Number(50, 201),
    "io_uring_setup": Number(425, 425),
    "ptrace": Number(101, 117),
    "process_vm_readv": Number(310, 270),
    "process_vm_writev": Number(311, 271),
    "kill": Number(62, 129),
    "tkill": Number(200, 130),
    "tgkill": Number(234, 131),
    "rt_sigqueueinfo": Number(129, 138),
    "rt_tgsigqueueinfo": Number(297, 240),
    "pidfd_open": Number(434, 434),
    "pidfd_send_signal": Number(424, 424),
    "pidfd_getfd": Number(438, 438),
    "mount": Number(165, 40),
    "umount2": Number(166, 39),
    "pivot_root": Number(155, 41),
    "chroot": Number(161, 51),
    "move_mount": Number(429, 429),
    "open_tree": Number(428, 428),
    "fsopen": Number(430, 430),
    "fsconfig": Number(431, 431),
    "fsmount": Number(432, 432),
    "fspick": Number(433, 433),
    "mount_setattr": Number(442, 442),
    "unshare": Number(272, 97),
    "setns": Number(308, 268),
    "keyctl": Number(250, 219),
    "add_key": Number(248, 217),
    "request_key": Number(249, 218),
    "bpf": Number(321, 280),
    "perf_event_open": Number(298, 241),
    "userfaultfd": Number(323, 282),
    "open_by_handle_at": Number(304, 265),
    "init_module": Number(175, 105),
    "finit_module": Number(313, 273),
    "delete_module": Number(176, 106),
    "kexec_load": Number(246, 104),
    "kexec_file_load": Number(320, 294),
    "reboot": Number(169, 142),
    "swapon": Number(167, 224),
    "swapoff": Number(168, 225),
    "acct": Number(163, 89),
    "settimeofday": Number(164, 170),
    "clock_settime": Number(227, 112),
    "adjtimex": Number(159, 171),
    "clock_adjtime": Number(305, 266),
    "sethostname": Number(170, 161),
    "setdomainname": Number(171, 162),
    "quotactl": Number(179, 60),
    "syslog": Number(103, 116),
    "iopl": Number(172, None),
    "ioperm": Number(173, None),
    "modify_ldt": Number(154, None),
    "personality": Number(135, 92),
    "fanotify_init": Number(300, 262),
    "shmget": Number(29, 194),
    "shmat": Number(30, 196),
    "msgget": Number(68, 186),
    "semget": Number(64, 190),
    "mq_open": Number(240, 180),
    "truncate": Number(76, 45),
    "chmod": Number(90, None),
    "fchmod": Number(91, 52),
    "fchmodat": Number(268, 53),
    "fchmodat2": Number(452, 452),
    "chown": Number(92, None),
    "lchown": Number(94, None),
    "fchown": Number(93, 55),
    "fchownat": Number(260, 54),
    "utime": Number(132, None),
    "utimes": Number(235, None),
    "futimesat": Number(261, None),
    "utimensat": Number(280, 88),
    "setxattr": Number(188, 5),
    "lsetxattr": Number(189, 6),
    "fsetxattr": Number(190, 7),
    "removexattr": Number(197, 14),
    "lremovexattr": Number(198, 15),
    "fremovexattr": Number(199, 16),
    "setxattrat": Number(463, 463),
    "removexattrat": Number(466, 466),
    "file_setattr": Number(469, 469),
    "setpriority": Number(141, 140),
    "sched_setattr": Number(314, 274),
    "ioprio_set": Number(251, 30),
}
"""What reaches other processes, the network or the kernel, or changes files without opening them, which
landlock(7) does not see."""
_CLONE_X86, _CLONE_ARM, _CLONE3 = 56, 220, 435
_NAMESPACES = 0x7E020000
"""Flags of clone(2) that make a namespace, in which a process has all rights: CLONE_NEWNS, _NEWCGROUP,
_NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET."""


def refusing(machine: Machine) -> bytes:
    """A filter that lets everything else pass, for a thread and the programs that it starts."""
    return packed(_refusing(machine))


def _refusing(machine: Machine) -> Iterator[Step]:
    yield Step(LOAD, ARCHITECTURE_AT)
    yield Step(EQUAL, machine.audit, 1, 0)
    yield answer(errno.EPERM)
    yield Step(LOAD, NUMBER_AT)
    if machine.is_x86:
        yield Step(ANY_BIT, _X32, 0, 1)
        yield answer(errno.EPERM)
    yield from _without_namespaces(_CLONE_X86 if machine.is_x86 else _CLONE_ARM)
    for numbers in REFUSED.values():
        number = numbers.on(machine.is_x86)
        if number is not None:
            yield Step(EQUAL, number, 0, 1)
            yield answer(errno.EPERM)
    yield answer(0)


def _without_namespaces(clone: int) -> Iterator[Step]:
    yield Step(EQUAL, _CLONE3, 0, 1)
    yield answer(errno.ENOSYS)  # its flags are out of sight: libc falls back on clone
    yield Step(EQUAL, clone, 0, 4)
    yield Step(LOAD, ARGUMENTS_AT)
    yield Step(ANY_BIT, _NAMESPACES, 0, 1)
    yield answer(errno.EPERM)
    yield answer(0)


def refuse_calls() -> str:
    """Let this thread, and the programs that it starts, make none of them. Why it cannot be, where the kernel
    or this program lacks it; else empty."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return f"system calls are not restricted: their numbers on {platform.machine()} are not known"
    if install(machine, refusing(machine), SPEC_ALLOW):
        return f"system calls are not restricted: {os.strerror(ctypes.get_errno())}"
    return ""
