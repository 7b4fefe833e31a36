"""Filters of system calls (seccomp(2)) as instructions, and how one is put on a thread."""

import ctypes
import struct
from collections.abc import Iterable
from typing import NamedTuple

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 1, 38
TSYNC, SPEC_ALLOW = 1, 4

_libc = ctypes.CDLL(None, use_errno=True)


class Number(NamedTuple):
    """Of one system call; None where there is none."""

    x86_64: int | None
    generic: int | None

    def on(self, is_x86: bool) -> int | None:
        """On an architecture of one kind."""
        return self.x86_64 if is_x86 else self.generic


SECCOMP = Number(317, 277)


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


class Step(NamedTuple):
    """One instruction of a filter (BPF)."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


def answer(error: int) -> Step:
    """The call goes on, or fails with an error."""
    return Step(RETURN, _REFUSE | error if error else _ALLOW)


def packed(steps: Iterable[Step]) -> bytes:
    """As the kernel reads it."""
    return b"".join(struct.pack("HBBI", it.code, it.if_true, it.if_false, it.value) for it in steps)


def install(machine: Machine, code: bytes, flags: int) -> int:
    """0, a negative error, or the number of a thread that has another filter. Needs no privilege once
    no_new_privs is set."""
    text = ctypes.create_string_buffer(code, len(code))
    filters = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(text)))
    return int(_libc.syscall(SECCOMP.on(machine.is_x86), _MODE_FILTER, flags, filters))


def gain_nothing() -> None:
    """This thread, and what it starts, get no more rights than it has (no_new_privs)."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
