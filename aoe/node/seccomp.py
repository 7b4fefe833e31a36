"""Which system calls a process may still make (seccomp(2)): what serving needs, and nothing else."""

import ctypes
import errno
import mmap
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

from aoe import timing
from aoe.errors import ConfigurationError, NoThread
from aoe.node.calls import CALLS
from aoe.sandbox.bpf import (
    ANY_BIT,
    ARCHITECTURE_AT,
    ARGUMENTS_AT,
    EQUAL,
    LOAD,
    MACHINES,
    NUMBER_AT,
    SPEC_ALLOW,
    TSYNC,
    Machine,
    Step,
    answer,
    gain_nothing,
    install,
    packed,
)

T = TypeVar("T")

_IO_URING_SETUP = 425
_CLONE_THREAD, _PR_SET_NAME, _TIOCSTI, _TIOCLINUX, _ENABLE_RINGS = 0x10000, 15, 0x5412, 0x541C, 12
_AF_UNIX, _SOCK_SEQPACKET_CLOEXEC = 1, 0x80005


class Sockets(Enum):
    """Which sockets a process may still make, all of them Unix sockets: any, to lock addresses itself; one to
    an opener that is a service; none."""

    ANY = "any"
    OPENERS = "openers"
    NONE = "none"


def _argument(number: int) -> Step:
    return Step(LOAD, ARGUMENTS_AT + 8 * number)


def _only(number: int, value: int) -> list[Step]:
    """Allowed with one value of an argument."""
    return [_argument(number), Step(EQUAL, value, 0, 1), answer(0), answer(errno.EPERM)]


def _only_first(first: int, second: int) -> list[Step]:
    """Allowed with one value of each of the first two arguments."""
    tests = [_argument(0), Step(EQUAL, first, 0, 3), _argument(1), Step(EQUAL, second, 0, 1)]
    return [*tests, answer(0), answer(errno.EPERM)]


def _if_any(number: int, bits: int) -> list[Step]:
    """Allowed with one of these bits in an argument."""
    return [_argument(number), Step(ANY_BIT, bits, 0, 1), answer(0), answer(errno.EPERM)]


def _if_none(number: int, bits: int) -> list[Step]:
    return [_argument(number), Step(ANY_BIT, bits, 0, 1), answer(errno.EPERM), answer(0)]


def _none(number: int) -> list[Step]:
    """Allowed with a null pointer as an argument."""
    high = Step(LOAD, ARGUMENTS_AT + 8 * number + 4)
    return [
        _argument(number),
        Step(EQUAL, 0, 0, 3),
        high,
        Step(EQUAL, 0, 0, 1),
        answer(0),
        answer(errno.EPERM),
    ]


def _but(number: int, *values: int) -> list[Step]:
    """Allowed with every other value."""
    tests = [Step(EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [_argument(number), *tests, answer(0), answer(errno.EPERM)]


def _with_sockets(sockets: Sockets) -> dict[str, list[Step]]:
    """A packet socket that could be bound would hear another interface: the filter cannot see which."""
    may, may_not = [answer(0)], [answer(errno.EPERM)]
    made = {
        Sockets.ANY: _only(0, _AF_UNIX),
        Sockets.OPENERS: _only_first(_AF_UNIX, _SOCK_SEQPACKET_CLOEXEC),
        Sockets.NONE: may_not,
    }
    own = may if sockets is Sockets.ANY else may_not
    connected = may_not if sockets is Sockets.NONE else may
    return {"socket": made[sockets], "connect": connected, "listen": own, "bind": own}


def _with_conditions(own: int, sockets: Sockets) -> dict[str, list[Step]]:
    """What is allowed in part. Threads are, processes are not; memory that was written is not executed; a
    ring is enabled, not made; nothing is typed at the terminal."""
    return {
        **_with_sockets(sockets),
        "clone": _if_any(0, _CLONE_THREAD),
        "clone3": [answer(errno.ENOSYS)],  # its flags are out of sight: libc falls back on clone
        "mmap": _if_none(2, mmap.PROT_EXEC),
        "mprotect": _if_none(2, mmap.PROT_EXEC),
        "prctl": _only(0, _PR_SET_NAME),
        "kill": _only(0, own),
        "tgkill": _only(0, own),
        "prlimit64": _none(2),  # to look, not to set
        "ioctl": _but(1, _TIOCSTI, _TIOCLINUX),
        "io_uring_register": _only(1, _ENABLE_RINGS),
        "seccomp": [answer(errno.EPERM)],
    }


def program(machine: Machine, own: int, sockets: Sockets) -> bytes:
    """The filter for a process of the number `own`."""
    return packed(_steps(machine, own, sockets))


def _steps(machine: Machine, own: int, sockets: Sockets) -> Iterator[Step]:
    yield Step(LOAD, ARCHITECTURE_AT)
    yield Step(EQUAL, machine.audit, 1, 0)
    yield answer(errno.EPERM)
    yield Step(LOAD, NUMBER_AT)
    conditions = _with_conditions(own, sockets)
    for name, numbers in CALLS.items():
        number = numbers.on(machine.is_x86)
        if number is not None:
            then = conditions.get(name, [answer(0)])
            yield Step(EQUAL, number, 0, len(then))
            yield from then
    yield answer(errno.EPERM)


def restrict_calls(sockets: Sockets) -> str:
    """Let this process, with all its threads, make no other system calls from now on. Why it cannot be, where
    the kernel lacks it; else empty. Needs no privilege once no_new_privs is set."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return f"system calls are not restricted: their numbers on {platform.machine()} are not known"
    code = program(machine, os.getpid(), sockets)
    deadline = time.monotonic() + timing.THREAD_END_S
    while (result := install(machine, code, TSYNC | SPEC_ALLOW)) > 0 and time.monotonic() < deadline:
        time.sleep(timing.THREAD_END_LOOK_S)  # for the thread of that number: it was `without_ring`
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
    ring = (Step(LOAD, NUMBER_AT), Step(EQUAL, _IO_URING_SETUP, 0, 1), answer(errno.ENOSYS), answer(0))
    gain_nothing()
    install(machine, packed(ring), SPEC_ALLOW)
