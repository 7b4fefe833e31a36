"""Serves as `aoe-target`, and from inside, once it serves, tries what a serving process has no business with.

`forbidden.py FILE WORD... -- ARGUMENTS`: into FILE, which stands in the state directory, goes in JSON what
became of each attempt: "" if it was refused, else what it brought. The words: `free` has it
give up its privileges and nothing else, `nobody` is an ordinary user, `service` knows a user to become,
`unit` is one that systemd has confined already. Until then FILE names what is tried.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import pwd
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from tests.support.labs.ring import AT_FDCWD, OPENAT, Ring

REFUSED = (errno.EPERM, errno.EACCES)
_libc = ctypes.CDLL(None, use_errno=True)
_SECRET = Path("/etc/passwd")
_NUMBERS = {"clone": 56, "clone3": 435, "vfork": 58, "ptrace": 101, "process_vm_readv": 310, "mount": 165}
_NUMBERS |= {"umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308, "bpf": 321, "keyctl": 250}
_NUMBERS |= {"add_key": 248, "init_module": 175, "finit_module": 313, "perf_event_open": 298}
_NUMBERS |= {"userfaultfd": 323, "reboot": 169, "kexec_load": 246, "clock_settime": 227, "setuid": 105}
_NUMBERS |= {"setgroups": 116, "pidfd_open": 434, "pidfd_getfd": 438, "open_by_handle_at": 304}
_NUMBERS |= {"memfd_create": 319, "capset": 126, "personality": 135, "swapon": 167, "acct": 163, "iopl": 172}
_NUMBERS |= {"syslog": 103, "sethostname": 170, "chroot": 161, "fanotify_init": 300, "quotactl": 179}
_NUMBERS |= {"mknod": 133, "chmod": 90, "chown": 92, "symlink": 88, "link": 86, "shmget": 29, "seccomp": 317}
_NUMBERS |= {"landlock_create_ruleset": 444, "move_mount": 429, "fsopen": 430, "execveat": 322}
_NUMBERS |= {"settimeofday": 164, "adjtimex": 159, "modify_ldt": 154, "name_to_handle_at": 303}
_NUMBERS |= {"x32_open": 0x40000000 | 2}


def _call(name: str, *arguments: object) -> str:
    """One by its number, on x86-64. One that is let through fails for its arguments, or does no harm."""
    result = _libc.syscall(_NUMBERS[name], *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    if name in ("clone", "vfork") and result == 0:
        os._exit(0)
    return f"{name} gave {result}"


def _reads() -> str:
    return _SECRET.read_text()[:9]


def _reads_shadow() -> str:
    return f"{len(Path('/etc/shadow').read_text())} bytes"


def _reads_the_memory_of_its_own() -> str:
    return f"{os.open('/proc/self/mem', os.O_RDWR)}"


def _writes() -> str:
    path = Path("/tmp", f"aoe-forbidden-{os.getpid()}")
    path.touch()
    path.unlink()
    return "a file"


def _lists() -> str:
    return f"{len(list(Path('/').iterdir()))} entries"


def _opens_a_device() -> str:
    return f"{os.open('/dev/null', os.O_RDWR)}"


def _opens_by_a_new_ring() -> str:
    name = ctypes.create_string_buffer(bytes(_SECRET))
    ring = Ring()
    ring.submit(OPENAT, AT_FDCWD, ctypes.addressof(name), 0, 0)
    result = ring.result()
    if result < 0:
        raise OSError(-result, "ring")
    return f"{result}"


def _opens_by_the_engines_ring() -> str:
    """What has one; its kernel may say as well that the ring is another thread's."""
    for fd in range(1024):
        try:
            if "io_uring" not in os.readlink(f"/proc/self/fd/{fd}"):  # noqa: PTH115
                continue
        except OSError:
            continue
        result = _libc.syscall(426, fd, 1, 0, 0, 0, 0)
        if result >= 0:
            return f"{result} of {fd}"
        if ctypes.get_errno() != errno.EEXIST:
            raise OSError(ctypes.get_errno(), "ring")
    raise OSError(errno.EPERM, "no ring")


def _socket(family: int, kind: int) -> Callable[[], str]:
    return lambda: f"{socket.socket(family, kind).fileno()}"


def _connects() -> str:
    with socket.socket(socket.AF_UNIX) as near:
        near.connect("\0aoe-forbidden")
    return "connected"


def _executes() -> str:
    return subprocess.run(["true"], check=True).args[0]


def _executes_itself() -> str:
    os.execv("/bin/true", ["true"])  # no return


def _forks() -> str:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return f"{child}"


def _kills() -> str:
    os.kill(os.getppid(), 0)
    return "its parent"


def _kills_by_thread() -> str:
    if _libc.syscall(234, os.getppid(), os.getppid(), 0):
        raise OSError(ctypes.get_errno(), "tgkill")
    return "its parent"


def _makes_code() -> str:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return "memory"


def _turns_data_into_code() -> str:
    page = mmap.mmap(-1, 4096)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if _libc.mprotect(ctypes.c_void_p(at), 4096, 5):
        raise OSError(ctypes.get_errno(), "mprotect")
    return "memory"


def _binds() -> str:
    """One that needs no right: a packet socket that was handed over could be moved to another interface."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.bind(f"\0aoe-forbidden-{os.getpid()}")
    return "a socket"


def _types() -> str:
    """As if at its terminal."""
    fcntl.ioctl(2, 0x5412, b"x")
    return "x"


def _lifts_limits() -> str:
    limit = struct.pack("qq", *resource.getrlimit(resource.RLIMIT_CORE))
    if _libc.prlimit(0, resource.RLIMIT_CORE, limit, None):
        raise OSError(ctypes.get_errno(), "prlimit")
    return "core"


def _sets_no_new_privileges() -> str:
    if _libc.prctl(4, 1, 0, 0, 0):  # PR_SET_DUMPABLE
        raise OSError(ctypes.get_errno(), "prctl")
    return "prctl"


ATTEMPTS: dict[str, Callable[[], str]] = {
    "read a file": _reads,
    "read the passwords": _reads_shadow,
    "open its own memory as a file": _reads_the_memory_of_its_own,
    "write a file": _writes,
    "list a directory": _lists,
    "open a device": _opens_a_device,
    "open through a new io_uring": _opens_by_a_new_ring,
    "open through the engine's io_uring": _opens_by_the_engines_ring,
    "open an internet socket": _socket(socket.AF_INET, socket.SOCK_STREAM),
    "open a datagram socket": _socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "open a packet socket": _socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open a netlink socket": _socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "open a virtual machine's socket": _socket(40, socket.SOCK_STREAM),
    "run a program": _executes,
    "become a program": _executes_itself,
    "fork": _forks,
    "signal its parent": _kills,
    "signal its parent's thread": _kills_by_thread,
    "map memory to execute": _makes_code,
    "make data executable": _turns_data_into_code,
    "type at the terminal": _types,
    "set a limit": _lifts_limits,
    "become dumpable": _sets_no_new_privileges,
}
CALLS: dict[str, Callable[[], str]] = {
    "clone": lambda: _call("clone", 17, 0, 0, 0, 0),
    "vfork": lambda: _call("clone", 0x4011, 0, 0, 0, 0),
    "trace": lambda: _call("ptrace", 16, os.getppid(), 0, 0),
    "read another's memory": lambda: _call("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0),
    "leave for new namespaces": lambda: _call("unshare", 0x10000000),
    "enter a namespace": lambda: _call("setns", -1, 0),
    "call another's keys": lambda: _call("keyctl", 0, -3, 0, 0, 0),
    "change its user": lambda: _call("setuid", 12345),
    "change its groups": lambda: _call("setgroups", 0, None),
    "call open as x32": lambda: _call("x32_open", b"/etc/passwd", 0, 0),
    "make memory a file": lambda: _call("memfd_create", b"x", 0),
    "hold another process": lambda: _call("pidfd_open", os.getppid(), 0),
    **{
        name: lambda name=name: _call(name, -1, 0, 0, 0, 0, 0)  # type: ignore[misc]
        for name in sorted(
            _NUMBERS.keys() - {"clone", "clone3", "vfork", "unshare", "setuid", "x32_open", "reboot"}
        )
    },
}


def attempt(what: Callable[[], str]) -> str:
    """What it brought; empty if it was refused."""
    try:
        return what() or "something"
    except OSError as error:
        return "" if error.errno in REFUSED else f"{error!r}"
    except (subprocess.SubprocessError, ValueError) as error:
        return f"{error!r}"


def outcome(file: Path) -> dict[str, str]:
    found = {}
    for name, what in {**ATTEMPTS, **(CALLS if platform.machine() == "x86_64" else {})}.items():
        file.write_text(name)
        found[name] = attempt(what)
    return found


if __name__ == "__main__":
    from aoe.cli import opening, stdio, target

    at = sys.argv.index("--")
    file, *words = sys.argv[1:at]
    if "free" in words:
        opening.confine = lambda *_, **__: None
        del ATTEMPTS["become a program"]  # it would
    if "service" in words:
        user = pwd.getpwuid(65534)
        pwd.getpwnam = lambda _: user
        ATTEMPTS["bind a socket"] = _binds  # without an opener it locks addresses itself
    if "unit" in words:
        del CALLS["call open as x32"]  # which ends the thread
    if "nobody" in words:
        for module in ("shutil", "uvloop", "encodings.idna"):
            import_module(module)  # which that user may not read
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    begin = stdio.start

    def tries() -> None:
        text = json.dumps(outcome(Path(file)))
        Path(file).write_text(text)
        Path(file).rename(file + ".done")

    def start() -> None:
        begin()
        threading.Thread(target=tries).start()

    stdio.start = start
    sys.exit(target.main(sys.argv[at + 1 :]))
