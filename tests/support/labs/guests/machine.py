"""QEMU guests: emulated machines with their serial console in a file, and Linux ones with a shell."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from aoe.wire.frame import format_mac
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import Kernel
from tests.support.labs.network import Lab
from tests.support.tools import need, unavailable, which

PATIENCE_S = 300.0
"""For what an emulated processor does while others have its real one."""
BOOT_S = 2 * PATIENCE_S
"""For a guest to come up, which is the longest of what it does at a stretch."""
LIFETIME_S = 900.0
"""No guest outlives this, whatever its test waits for; one with a whole system has a longer life."""

PLAIN_CONSOLE = "loglevel=6"
"""On the kernel's command line: most of its own lines, which begin in the midst of others, are not shown."""
SIDE = "host"
Address = tuple[str, int]
"""Of the loopback, and a UDP port."""
_CPU = "Nehalem,+rdrand"
"""An old one: what newer ones add costs an emulator more time than it saves."""
_POLL_S = 0.02
_TAIL = 6000


class GuestError(AssertionError):
    """A guest died, or did not do in time what was waited for; the message ends with its console."""


class Done(NamedTuple):
    """What a command in a guest left."""

    status: int
    output: str


def needs_qemu() -> None:
    """Skip the calling test where guests cannot run."""
    need("qemu-system-x86_64", "setpriv")


def tied(lab: Lab | None, *argv: str | Path, drop: bool = False) -> list[str]:
    """A command line that dies with the process that starts it; inside the lab's namespace if there is one.

    With `drop` it has no capability, even when the tests run as root.
    """
    options = ["--pdeathsig", "KILL"]
    if drop and os.geteuid() == 0:
        options += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    command = ["setpriv", *options, "--", which(str(argv[0])) or str(argv[0]), *map(str, argv[1:])]
    return lab.command(SIDE, *command) if lab else [which("setpriv") or "setpriv", *command[1:]]


def host() -> Lab:
    """A network namespace with nothing in it, for taps."""
    return Lab((SIDE,), cables=0)


def add_tap(lab: Lab, name: str, mtu: int) -> None:
    """A virtual cable: this end is an interface of the namespace, a guest's network card is the other."""
    made = lab.run(SIDE, "ip", "tuntap", "add", "dev", name, "mode", "tap")
    if made.returncode:
        unavailable(f"no tap device: {made.stderr.strip()}")
    lab.run(SIDE, "ip", "link", "set", name, "mtu", str(mtu), "up", check=True)


def tap_card(name: str, mtu: int = 1500, mac: bytes | None = None) -> list[str]:
    """QEMU arguments for a network card at the far end of a tap."""
    return _card(f"tap,ifname={name},script=no,downscript=no,id={name}", name, mtu, mac)


def _card(backend: str, name: str, mtu: int = 1500, mac: bytes | None = None) -> list[str]:
    """QEMU arguments for a network card; the MTU is what the guest's driver sets at first, and the most
    that it takes; with 0 it knows of none."""
    # No option ROM: the firmware would wait for a network boot.
    device = f"virtio-net-pci,netdev={name},host_mtu={mtu},romfile="
    return ["-netdev", backend, "-device", f"{device},mac={format_mac(mac)}" if mac else device]


def udp_card(
    here: Address, there: Address, name: str = "udp", mtu: int = 1500, mac: bytes | None = None
) -> list[str]:
    """QEMU arguments for a network card whose frames travel in UDP between two addresses (`own_address`);
    `there` is the guest's."""
    ends = (("local", there), ("remote", here))
    words = (f"{end}.type=inet,{end}.host={host},{end}.port={port}" for end, (host, port) in ends)
    return _card(f"dgram,id={name},{','.join(words)}", name, mtu, mac)


class Guest:
    """A machine that runs from construction to the end of the `with` block. Its console is COM1."""

    lifetime_s = LIFETIME_S

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        lab: Lab | None = None,
        memory_mib: int = 256,
        drop: bool = False,
        process_group: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.console = directory / "console"
        self.console.touch()
        self._log = directory / "qemu"
        self._deadline = time.monotonic() + self.lifetime_s
        machine = ["-accel", "tcg", "-M", "pc", "-cpu", _CPU, "-m", str(memory_mib), "-no-reboot"]
        quiet = ["-nodefaults", "-display", "none", "-serial", f"file:{self.console}"]
        command = tied(lab, "qemu-system-x86_64", *machine, *quiet, *arguments, drop=drop)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=process_group,
                pass_fds=pass_fds,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:  # pytest shows it with a test that failed
                print(self.last_words())
        finally:
            self.kill()

    def last_words(self) -> str:
        """What it tells when its test has failed: the end of its console."""
        return f"--- console of {self._log.parent.name}\n{self.text()[-_TAIL:]}"

    def kill(self) -> None:
        """Pull the plug: SIGKILL, nothing is written back."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)

    def text(self) -> str:
        """Everything on the console so far."""
        return self.console.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = PATIENCE_S) -> str:
        """The console once it holds a text; GuestError when the guest ends before, or time runs out."""
        deadline = self.before(timeout)
        while text not in (shown := self.text()):
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise self.error(f"no {text!r} on the console")
            time.sleep(_POLL_S)
        return shown

    def before(self, timeout: float) -> float:
        """The time at which a wait ends: its own timeout, or the guest's end of life."""
        return min(time.monotonic() + timeout, self._deadline)

    def error(self, what: str) -> GuestError:
        """What went wrong, with all that there is to tell why."""
        state = "running" if self.process.poll() is None else f"ended with {self.process.returncode}"
        log = self._log.read_text(errors="replace")
        return GuestError(f"{what}; guest {state}\n--- qemu\n{log}--- console\n{self.text()[-_TAIL:]}")


class ShellGuest(Guest):
    """A guest with a shell on its second serial port."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        lab: Lab | None = None,
        memory_mib: int = 256,
        process_group: int | None = None,
    ) -> None:
        self._shell, theirs = socket.socketpair()
        self._received = b""
        self.is_busy = False
        """Whether a command runs in the shell."""
        shell = ["-chardev", f"socket,id=shell,fd={theirs.fileno()}", "-serial", "chardev:shell"]
        with theirs:
            super().__init__(
                directory,
                *shell,
                *arguments,
                lab=lab,
                memory_mib=memory_mib,
                process_group=process_group,
                pass_fds=(theirs.fileno(),),
            )

    def __enter__(self) -> Self:
        try:
            self._read_until(rb"ready\n", BOOT_S, "no shell")
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        super().kill()
        self._shell.close()

    def run(self, command: str, timeout: float = PATIENCE_S) -> Done:
        """Run one line in the guest's shell, and wait for it."""
        self.start(command)
        return self.finish(timeout)

    def start(self, command: str) -> None:
        """Give the shell one line; `finish` must follow before the next."""
        assert "\n" not in command
        if self.process.poll() is not None:
            raise self.error("no guest to run a command")
        self.is_busy = True
        self._shell.sendall(command.encode() + b"\n")

    def finish(self, timeout: float = PATIENCE_S) -> Done:
        """Wait until the line given to the shell has ended."""
        output, status = self._read_until(rb"status (\d+)\n", timeout, "the command did not end")
        self.is_busy = False
        return Done(int(status), output)

    def check(self, command: str, timeout: float = PATIENCE_S) -> str:
        """Output of a command that must succeed."""
        done = self.run(command, timeout)
        if done.status:
            raise self.error(f"{command}: status {done.status}: {done.output}")
        return done.output

    def see(self, text: str, timeout: float = PATIENCE_S) -> None:
        """Wait until the command that runs has printed a text; `finish` will not show what came before."""
        self._read_until(re.escape(text.encode()) + b"()", timeout, f"the command did not print {text!r}")

    def pending(self) -> str:
        """What the command that runs has printed since it was last looked at."""
        while data := self._receive(deadline=0):
            self._received += data
        shown, self._received = self._received.decode(errors="replace"), b""
        return shown

    def _read_until(self, pattern: bytes, timeout: float, failure: str) -> tuple[str, str]:
        """Text before a match, and the last group in it."""
        deadline = self.before(timeout)
        while not (found := re.search(pattern, self._received)):
            if not (data := self._receive(deadline)):
                raise self.error(f"{failure} within {timeout} s: {self._received[-_TAIL:]!r}")
            self._received += data
        before, self._received = self._received[: found.start()], self._received[found.end() :]
        return before.decode(errors="replace"), found[found.lastindex or 0].decode()

    def _receive(self, deadline: float) -> bytes:
        """More of the shell's output; nothing when the guest ended, or time runs out."""
        left = max(0.0, deadline - time.monotonic())
        with contextlib.suppress(ConnectionError):
            if select.select([self._shell], [], [], left)[0]:
                return self._shell.recv(65536)
        return b""


class LinuxGuest(ShellGuest):
    """One that boots from an initramfs of ours."""

    kernel_arguments = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off ipv6.disable=1"

    def __init__(
        self,
        directory: Path,
        kernel: Kernel,
        files: GuestFiles,
        *arguments: str,
        lab: Lab | None = None,
        memory_mib: int = 256,
        process_group: int | None = None,
    ) -> None:
        self._archive = files.write(directory / "initramfs")
        boot = ["-kernel", str(kernel.image), "-initrd", str(self._archive), "-append", self.kernel_arguments]
        super().__init__(
            directory, *boot, *arguments, lab=lab, memory_mib=memory_mib, process_group=process_group
        )

    def __enter__(self) -> Self:
        super().__enter__()
        self._archive.unlink()
        return self


@contextlib.contextmanager
def killed_together() -> Iterator[int]:
    """A process group for processes that must die at one instant; whoever is left at the end is killed."""
    leader = subprocess.Popen(["sleep", str(int(LIFETIME_S))], process_group=0)
    try:
        yield leader.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.wait(timeout=30)
