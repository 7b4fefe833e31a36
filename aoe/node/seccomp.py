"""Which system calls a process may still make (seccomp(2)): what serving needs, and nothing else."""

import ctypes
import errno
import mmap
import os
import platform
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import NamedTuple, TypeVar

from aoe import timing
from aoe.errors import ConfigurationError, NoThread
from aoe.node.calls import CALLS

T = TypeVar("T")

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_MODE_FILTER, _TSYNC, _SPEC_ALLOW = 1, 1, 4
_PR_SET_NO_NEW_PRIVS, _IO_URING_SETUP = 38, 425
_CLONE_THREAD, _PR_SET_NAME, _TIOCSTI, _TIOCLINUX, _ENABLE_RINGS = 0x10000, 15, 0x5412, 0x541C, 12
_AF_UNIX, _SOCK_SEQPACKET_CLOEXEC = 1, 0x80005

_libc = ctypes.CDLL(None, use_errno=True)


class Sockets(Enum):
    """Which sockets a process may still make, all of them Unix sockets: any, to lock addresses itself; one to
    an opener that is a service; none."""

    ANY = "any"
    OPENERS = "openers"
    NONE = "none"


class Machine(NamedTuple):
    """What filters call an architecture, and whether it has the numbers of x86-64."""

    audit: int
    is_x86: bool


MACHINES = {
    "x86_64": Machine(0xC000003E, True),
    "aarch64": Machine(0xC00000B7, False),
    "riscv64": Machine(0xC00000F3, False),
}
"""All little-endian, so that the low half of an argument comes first."""


class _Step(NamedTuple):
    """One instruction of a filter (BPF)."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


def _answer(error: int) -> _Step:
    return _Step(_RETURN, _REFUSE | error if error else _ALLOW)


def _argument(number: int) -> _Step:
    return _Step(_LOAD, _ARGUMENTS_AT + 8 * number)


def _only(number: int, value: int) -> list[_Step]:
    """Allowed with one value of an argument."""
    return [_argument(number), _Step(_EQUAL, value, 0, 1), _answer(0), _answer(errno.EPERM)]


def _only_first(first: int, second: int) -> list[_Step]:
    """Allowed with one value of each of the first two arguments."""
    tests = [_argument(0), _Step(_EQUAL, first, 0, 3), _argument(1), _Step(_EQUAL, second, 0, 1)]
    return [*tests, _answer(0), _answer(errno.EPERM)]


def _if_any(number: int, bits: int) -> list[_Step]:
    """Allowed with one of these bits in an argument."""
    return [_argument(number), _Step(_ANY_BIT, bits, 0, 1), _answer(0), _answer(errno.EPERM)]


def _if_none(number: int, bits: int) -> list[_Step]:
    return [_argument(number), _Step(_ANY_BIT, bits, 0, 1), _answer(errno.EPERM), _answer(0)]


def _none(number: int) -> list[_Step]:
    """Allowed with a null pointer as an argument."""
    high = _Step(_LOAD, _ARGUMENTS_AT + 8 * number + 4)
    return [
        _argument(number),
        _Step(_EQUAL, 0, 0, 3),
        high,
        _Step(_EQUAL, 0, 0, 1),
        _answer(0),
        _answer(errno.EPERM),
    ]


def _but(number: int, *values: int) -> list[_Step]:
    """Allowed with every other value."""
    tests = [_Step(_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [_argument(number), *tests, _answer(0), _answer(errno.EPERM)]


def _with_sockets(sockets: Sockets) -> dict[str, list[_Step]]:
    """A packet socket that could be bound would hear another interface: the filter cannot see which."""
    may, may_not = [_answer(0)], [_answer(errno.EPERM)]
    made = {
        Sockets.ANY: _only(0, _AF_UNIX),
        Sockets.OPENERS: _only_first(_AF_UNIX, _SOCK_SEQPACKET_CLOEXEC),
        Sockets.NONE: may_not,
    }
    own = may if sockets is Sockets.ANY else may_not
    connected = may_not if sockets is Sockets.NONE else may
    return {"socket": made[sockets], "connect": connected, "listen": own, "bind": own}


def _with_conditions(own: int, sockets: Sockets) -> dict[str, list[_Step]]:
    """What is allowed in part. Threads are, processes are not; memory that was written is not executed; a
    ring is enabled, not made; nothing is typed at the terminal."""
    return {
        **_with_sockets(sockets),
        "clone": _if_any(0, _CLONE_THREAD),
        "clone3": [_answer(errno.ENOSYS)],  # its flags are out of sight: libc falls back on clone
        "mmap": _if_none(2, mmap.PROT_EXEC),
        "mprotect": _if_none(2, mmap.PROT_EXEC),
        "prctl": _only(0, _PR_SET_NAME),
        "kill": _only(0, own),
        "tgkill": _only(0, own),
        "prlimit64": _none(2),  # to look, not to set
        "ioctl": _but(1, _TIOCSTI, _TIOCLINUX),
        "io_uring_register": _only(1, _ENABLE_RINGS),
        "seccomp": [_answer(errno.EPERM)],
    }


def program(machine: Machine, own: int, sockets: Sockets) -> bytes:
    """The filter for a process of the number `own`."""
    return _packed(_steps(machine, own, sockets))


def _packed(steps: Iterable[_Step]) -> bytes:
    return b"".join(struct.pack("HBBI", it.code, it.if_true, it.if_false, it.value) for it in steps)


def _steps(machine: Machine, own: int, sockets: Sockets) -> Iterator[_Step]:
    yield _Step(_LOAD, _ARCHITECTURE_AT)
    yield _Step(_EQUAL, machine.audit, 1, 0)
    yield _answer(errno.EPERM)
    yield _Step(_LOAD, _NUMBER_AT)
    conditions = _with_conditions(own, sockets)
    for name, numbers in CALLS.items():
        number = numbers.on(machine.is_x86)
        if number is not None:
            then = conditions.get(name, [_answer(0)])
            yield _Step(_EQUAL, number, 0, len(then))
            yield from then
    yield _answer(errno.EPERM)


def restrict_calls(sockets: Sockets) -> str:
    """Let this process, with all its threads, make no other system calls from now on. Why it cannot be, where
    the kernel lacks it; else empty. Needs no privilege once no_new_privs is set."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return f"system calls are not restricted: their numbers on {platform.machine()} are not known"
    code = program(machine, os.getpid(), sockets)
    deadline = time.monotonic() + timing.THREAD_END_S
    while (result := _install(machine, code, _TSYNC | _SPEC_ALLOW)) > 0 and time.monotonic() < deadline:
        time.sleep(
            timing.THREAD_END_S / 1000
        )  # for the thread of that number, which ends: it was `without_ring`
    return f"system calls are not restricted: {os.strerror(ctypes.get_errno())}" if result else ""


def without_ring(make: Callable[[], T]) -> T:
    """What `make` returns, called where the kernel has no io_uring: libuv makes itself a ring for a loop, and
    a ring that may do everything opens files and sockets unseen by a filter. ConfigurationError
    where there can be no thread for it."""
    with ThreadPoolExecutor(1, initializer=_refuse_rings) as aside:
        try:
            made = aside.submit(make)
        except RuntimeError as error:
            raise ConfigurationError(str(NoThread())) from error
        return made.result()


def _refuse_rings() -> None:
    """To this thread. Where that cannot be, nothing is restricted later, either."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return
    ring = (_Step(_LOAD, _NUMBER_AT), _Step(_EQUAL, _IO_URING_SETUP, 0, 1), _answer(errno.ENOSYS), _answer(0))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _install(machine, _packed(ring), _SPEC_ALLOW)


def _install(machine: Machine, code: bytes, flags: int) -> int:
    """0, a negative error, or the number of a thread that has another filter."""
    text = ctypes.create_string_buffer(code, len(code))
    filters = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(text)))
    return int(_libc.syscall(CALLS["seccomp"].on(machine.is_x86), _MODE_FILTER, flags, filters))
