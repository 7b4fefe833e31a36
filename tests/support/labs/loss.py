"""Loss of frames without netem: an XDP program of seven instructions that drops a share of what arrives.

It is attached in generic mode, which needs nothing of the driver and takes frames of any size.
"""

import ctypes
import os
import platform
import socket
import struct

from tests.support.tools import need_namespaces, unavailable

SYS_BPF = {"x86_64": 321, "aarch64": 280}
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_XDP = 6
GET_PRANDOM_U32 = 7
XDP_DROP, XDP_PASS = 1, 2
RTM_SETLINK = 19
NLM_F_REQUEST_ACK = 1 | 4
NLA_F_NESTED = 0x8000
IFLA_XDP, IFLA_XDP_FD, IFLA_XDP_FLAGS = 43, 1, 3
XDP_FLAGS_SKB_MODE = 2
DETACH = -1

_CALL, _EXIT, _SHIFT_RIGHT, _SET, _SKIP_IF_LESS = 0x85, 0x95, 0x74, 0xB4, 0xA6
"""Opcodes; the last three work on the low 32 bits of a register, and only r0 is used."""
_HALF = 1 << 31

_libc = ctypes.CDLL(None, use_errno=True)


def program(share: float) -> bytes:
    """Drops a frame if 31 random bits, as a fraction of 2**31, are less than `share`: 0 none, 1 all."""
    assert 0 <= share <= 1, share
    instructions = (
        (_CALL, 0, GET_PRANDOM_U32),
        (_SHIFT_RIGHT, 0, 1),
        (_SKIP_IF_LESS, 2, round(share * _HALF)),
        (_SET, 0, XDP_PASS),
        (_EXIT, 0, 0),
        (_SET, 0, XDP_DROP),
        (_EXIT, 0, 0),
    )
    return b"".join(struct.pack("<BBhI", opcode, 0, skip, value) for opcode, skip, value in instructions)


def load(code: bytes) -> int:
    """A file descriptor of a program that the kernel has accepted. OSError if this user may not load one."""
    number = SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(f"bpf(2) has no known number on {platform.machine()}")
    instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"MIT")
    wanted = struct.pack(
        "IIQQ", BPF_PROG_TYPE_XDP, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)
    )
    fd: int = _libc.syscall(number, BPF_PROG_LOAD, ctypes.create_string_buffer(wanted), len(wanted))
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    return fd


def attach(interface: str, program_fd: int) -> None:
    """Put a program before all that arrives at an interface of this network namespace, in the place of the
    one that is there; DETACH takes it away."""
    xdp = _attribute(IFLA_XDP_FD, struct.pack("i", program_fd))
    xdp += _attribute(IFLA_XDP_FLAGS, struct.pack("I", XDP_FLAGS_SKB_MODE))
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(interface), 0, 0)
    body += _attribute(IFLA_XDP | NLA_F_NESTED, xdp)
    message = struct.pack("IHHII", 16 + len(body), RTM_SETLINK, NLM_F_REQUEST_ACK, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(message)
        (status,) = struct.unpack_from("i", netlink.recv(4096), 16)
    if status:
        raise OSError(-status, f"IFLA_XDP on {interface}: {os.strerror(-status)}")


def _attribute(kind: int, value: bytes) -> bytes:
    assert len(value) % 4 == 0
    return struct.pack("HH", 4 + len(value), kind) + value


def lose(interface: str, share: float | None) -> None:
    """Lose this share of the frames that arrive at an interface of this network namespace; None: as without
    a program."""
    if share is None:
        attach(interface, DETACH)
        return
    fd = load(program(share))
    try:
        attach(interface, fd)
    finally:
        os.close(fd)


def obstacle() -> str:
    """Why no program can be loaded; empty where one can."""
    try:
        os.close(load(program(0)))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def need_loss() -> None:
    """Skip unless a lab can lose frames (never in a user namespace)."""
    need_namespaces()
    reason = obstacle()
    if reason:
        unavailable(f"no XDP program can be loaded here: {reason}; run as root")
