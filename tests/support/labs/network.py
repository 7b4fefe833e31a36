"""A small lab: network namespaces joined by veth cables."""

import ctypes
import fcntl
import functools
import itertools
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, TypeVar

from aoe.wire import frame
from tests.support.labs import loss
from tests.support.labs.ports import PacketPort, packet_socket
from tests.support.labs.raw_client import Client
from tests.support.tools import which
from tests.support.waiting import wait_for

SIOCGIFFLAGS = 0x8913
IFF_RUNNING = 0x40
CLONE_NEWNET = 0x40000000

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_labs = itertools.count(1)


class End(NamedTuple):
    """One end of a cable."""

    side: str
    interface: str
    mac: bytes


class Cable(NamedTuple):
    """A veth pair between two sides of a lab."""

    a: End
    b: End
    mtu: int


def in_namespace(name: str, call: Callable[[], T]) -> T:
    """Result of a call made inside a network namespace: the sockets it opens stay there.

    setns(2) moves one thread, so a thread is made for it (and os.setns is younger than Python 3.11).
    """
    future: Future[T] = Future()
    thread = threading.Thread(target=_enter, args=(name, call, future))
    thread.start()
    thread.join()
    return future.result()


def _enter(name: str, call: Callable[[], T], future: "Future[T]") -> None:
    try:
        fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            if _libc.setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns", name)
        finally:
            os.close(fd)
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


class Lab:
    """Hosts as network namespaces. Sides and cables are named the same in each lab:

    the n-th cable of a side is its interface `v<n>`, and cable n joins the first two sides.
    """

    def __init__(
        self, sides: Iterable[str] = ("target", "client"), *, cables: int = 1, mtu: int = 1500
    ) -> None:
        self.sides = tuple(sides)
        self.mtu = mtu
        self.cables: list[Cable] = []
        self._prefix = f"aoe-{os.getpid()}-{next(_labs)}"
        self._first_cables = cables
        self._plugged = 0
        self._open: list[Any] = []
        self._children: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        try:
            for side in self.sides:
                _ip("netns", "add", self.namespace(side))
                _ip("-n", self.namespace(side), "link", "set", "lo", "up")
                in_namespace(self.namespace(side), _without_ipv6)
            for _ in range(self._first_cables):
                self.cable(self.sides[0], self.sides[1])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what was started and opened here, and remove the namespaces."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            with child:
                pass
        for port in self._open:
            port.close()
        for side in self.sides:
            if Path("/run/netns", self.namespace(side)).exists():
                _ip("netns", "delete", self.namespace(side))
        self._children.clear()
        self._open.clear()

    def namespace(self, side: str) -> str:
        """Name of a side's namespace under /run/netns."""
        assert side in self.sides, side
        return f"{self._prefix}-{side}"

    # Processes

    def command(self, side: str, *argv: str | Path) -> list[str]:
        """A command line that runs inside a side; the process is the command itself, no wrapper stays."""
        tool = which(str(argv[0])) or str(argv[0])
        return [_tool("ip"), "netns", "exec", self.namespace(side), tool, *map(str, argv[1:])]

    def run(
        self, side: str, *argv: str | Path, timeout: float = 60, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        command = self.command(side, *argv)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=check)

    def popen(
        self,
        side: str,
        *argv: str | Path,
        stdout: IO[Any] | int = subprocess.DEVNULL,
        stderr: IO[Any] | int = subprocess.DEVNULL,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command inside a side; what still runs when the lab closes is killed."""
        child = subprocess.Popen(
            self.command(side, *argv), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, **options
        )
        self._children.append(child)
        return child

    # Sockets

    def socket(self, side: str, interface: str = "v0", ethertype: int = frame.ETHERTYPE) -> socket.socket:
        """A raw packet socket of a side, bound to an interface; the caller closes it."""
        return in_namespace(self.namespace(side), lambda: packet_socket(interface, ethertype))

    def port(
        self,
        side: str = "client",
        interface: str = "v0",
        mac: bytes | None = None,
        *,
        promiscuous: bool = False,
    ) -> PacketPort:
        """A PacketPort of a side, closed with the lab."""
        port = PacketPort(self.socket(side, interface), mac, promiscuous)
        self._open.append(port)
        return port

    def client(
        self,
        shelf: int = 1,
        slot: int = 1,
        *,
        side: str = "client",
        interface: str = "v0",
        mac: bytes | None = None,
        **options: Any,
    ) -> Client:
        """A Client of a side, closed with the lab."""
        return Client(self.port(side, interface, mac), shelf, slot, **options)

    # Cables

    def cable(self, a: str, b: str, mtu: int | None = None) -> Cable:
        """Join two sides by one more cable."""
        made = Cable(self._end(a), self._end(b), mtu or self.mtu)
        self.plug(made)
        self.cables.append(made)
        return made

    def _end(self, side: str) -> End:
        number = sum(side in (cable.a.side, cable.b.side) for cable in self.cables)
        mac = bytes((0x02, 0xA0, 0xE0, 0, self.sides.index(side) + 1, number))
        return End(side, f"v{number}", mac)

    def plug(self, cable: Cable) -> None:
        """Make the interfaces of a cable, and bring them up."""
        # Different indexes: the kernel notices the carrier of a pair with equal ones up to a second late.
        number = self._plugged = self._plugged + 1
        a, b = self._link(cable.a, cable.mtu, 2 * number), self._link(cable.b, cable.mtu, 2 * number + 1)
        _ip("link", "add", *a, "type", "veth", "peer", *b)
        self.link(cable.a, "up")
        self.link(cable.b, "up")
        self._wait_running(cable.a, cable.b)

    def unplug(self, cable: Cable) -> None:
        """Remove both interfaces of a cable; `plug` brings back the same names and MACs."""
        _ip("-n", self.namespace(cable.a.side), "link", "delete", cable.a.interface)

    def _link(self, end: End, mtu: int, index: int) -> tuple[str, ...]:
        numbers = ("address", frame.format_mac(end.mac), "mtu", str(mtu), "index", str(index))
        return ("name", end.interface, "netns", self.namespace(end.side), *numbers)

    def up(self, end: End) -> None:
        """Bring one end up, and wait until both carry frames (the other end must be up)."""
        self.link(end, "up")
        self._wait_running(end)

    def _wait_running(self, *ends: End) -> None:
        # A sender's queue drops frames until the kernel has noticed the carrier.
        for end in ends:
            namespace = self.namespace(end.side)
            probe = functools.partial(_running, end.interface)
            wait_for(functools.partial(in_namespace, namespace, probe), what=f"no carrier on {end}")

    def down(self, end: End) -> None:
        self.link(end, "down")

    def set_mtu(self, cable: Cable, mtu: int) -> None:
        """Change the MTU of both ends."""
        for end in (cable.a, cable.b):
            self.link(end, "mtu", str(mtu))

    def lose(self, end: End, share: float | None) -> None:
        """Lose this share (0 to 1) of the frames that arrive at one end, whatever it was before; what leaves
        it goes on. None takes the program away that does it: 0 costs what any other share costs."""
        in_namespace(self.namespace(end.side), functools.partial(loss.lose, end.interface, share))

    def rename(self, end: End, name: str) -> End:
        """Call an end otherwise; it is down for a moment. The end as it is then."""
        self.link(end, "down")
        self.link(end, "name", name)
        renamed = end._replace(interface=name)
        self.link(renamed, "up")
        return renamed

    def link(self, end: End, *change: str) -> None:
        """`ip link set` on one end."""
        _ip("-n", self.namespace(end.side), "link", "set", end.interface, *change)


def _ip(*arguments: str) -> None:
    done = subprocess.run([_tool("ip"), *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@functools.cache
def _tool(name: str) -> str:
    return which(name) or name


def _without_ipv6() -> None:
    for scope in ("all", "default"):
        knob = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if knob.exists():
            knob.write_text("1")


def _running(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
    return bool(struct.unpack_from("H", answer, 16)[0] & IFF_RUNNING)
