"""Judges a host: the engine, io_uring, the clock, and the aoe driver of the kernel."""

import errno
from collections.abc import Iterator
from typing import NamedTuple

from aoe import timing
from aoe.doctor.checks import Finding, fault, fine, halves

_ON = "sysctl -w kernel.io_uring_disabled=0"
_PASS = "let its seccomp filter pass io_uring: SystemCallFilter=@aio in the unit"
_SLEW = "let it be slewed: chronyd without makestep"


class Clock(NamedTuple):
    """`steps` is how often a daemon saw it jump, `moved_ns` by how much it did while it was looked at."""

    synchronised: bool
    steps: int = 0
    moved_ns: int = 0


class Uring(NamedTuple):
    """`number` is the errno of io_uring_setup(2), 0 where it works; `disabled` the sysctl, `filtered` whether
    a seccomp filter is in force."""

    number: int = 0
    disabled: int = 0
    filtered: bool = False


def engine(reason: str, about: str = "engine", name: str = "c") -> Finding:
    """`reason`: why it is not the compiled one that was meant; empty where it is the one of that `name`."""
    if not reason:
        return fine("engine", about, "the compiled engine" if name == "c" else "Python, as it was told")
    seen, remedy = halves(reason)
    return fault("engine", about, seen, remedy or "see the log of the service: journalctl -u aoe-target")


def uring(found: Uring, allowed: bool | None, about: str = "io_uring") -> Finding:
    """`allowed` is what a daemon found; None where there is none."""
    refused = bool(found.number) if allowed is None else not allowed
    if not refused:
        return fine("io-uring", about, "the kernel allows it")
    return fault("io-uring", about, *_refused(found))


def _refused(found: Uring) -> tuple[str, str]:
    if found.disabled:
        return f"kernel.io_uring_disabled = {found.disabled}", _ON
    if found.number == errno.ENOMEM:
        return "no memory may be locked for it", "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"
    if found.number == errno.ENOSYS:
        return "the kernel has none", "boot a kernel with CONFIG_IO_URING"
    if not found.number:
        return "refused to the daemon, not to this command", _PASS
    name = errno.errorcode.get(found.number, str(found.number))
    filtered = " (a seccomp filter is in force)" if found.filtered else ""
    return f"{name} of io_uring_setup{filtered}", _PASS


def clock(found: Clock) -> Finding:
    """One that is not synchronised harms nothing: only jumps do (order rule T3)."""
    if abs(found.moved_ns) > timing.CLOCK_STEP_NS:
        seen = f"it jumped by {found.moved_ns / 1e9:.1f} s just now"
        return fault("clock-stepped", "clock", seen, _SLEW)
    if found.steps:
        seen = f"the daemon saw it jump {found.steps} times"
        return fault("clock-stepped", "clock", seen, _SLEW)
    seen = "synchronised" if found.synchronised else "not synchronised, but steady"
    return fine("clock-stepped", "clock", seen)


def driver(held: tuple[str, ...] | None, twice: dict[str, str]) -> Iterator[Finding]:
    """`held` are the addresses that the driver has disks of (None: it is not loaded); `twice` those that
    another server may answer for, too, and which."""
    if held is None:
        yield fine("kernel-driver", "driver aoe", "not loaded")
    for address in held or ():
        if address in twice:
            seen = f"/dev/etherd/{address} is there, and {twice[address]}"
            remedy = f"umount it, then echo {address} > /dev/etherd/flush, or rmmod aoe"
            yield fault("kernel-driver", address, seen, remedy)
        else:
            yield fine("kernel-driver", address, "the driver aoe has it, from one server")


def watches(most: int, exports: int) -> Finding:
    """The limit of inotify watches, each of which is for a served file."""
    seen = f"fs.inotify.max_user_watches = {most}, for {exports} exports"
    if most and most < exports:
        return fault("watches", "inotify", seen, f"sysctl -w fs.inotify.max_user_watches={2 * exports}")
    return fine("watches", "inotify", seen)
