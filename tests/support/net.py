"""A small lab: network namespaces joined by veth cables, and a client that speaks raw AoE on them."""

import contextlib
import ctypes
import fcntl
import functools
import itertools
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol, Self, TypeVar

from aoe.limits import SECTOR
from aoe.wire import ata as ata_wire
from aoe.wire import config as config_wire
from aoe.wire import frame
from aoe.wire import mask as mask_wire
from aoe.wire import reserve as reserve_wire
from tests.support import loss
from tests.support.tools import which

PACKET_OTHERHOST = 3
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
SIOCGIFFLAGS = 0x8913
IFF_RUNNING = 0x40
CLONE_NEWNET = 0x40000000
RECEIVE_BUFFER = 8 << 20
FRAME_MAX = 65536 + 14

BUSY_DF_DRQ_ERR = 0xA9
IDENTIFY = 0xEC
READ, READ_EXT = 0x20, 0x24
WRITE, WRITE_EXT, WRITE_FUA_EXT = 0x30, 0x34, 0x3D
FLUSH, FLUSH_EXT = 0xE7, 0xEA
_EXTENDED = {0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x3D, 0x42, 0xCE, 0xEA}
_USER_TAG = 1 << 31

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_labs = itertools.count(1)
_tags = itertools.count(1)


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


class NoAnswer(Exception):
    """Every transmission of a request went unanswered."""


class Refused(Exception):
    """A reply with the E flag; `message` is what its body says."""

    def __init__(self, code: int, message: object) -> None:
        super().__init__(f"AoE error {code}: {message!r:.200}")
        self.code = code
        self.message = message


class AtaFailed(Exception):
    """A reply whose status register says that the command failed."""

    def __init__(self, reply: ata_wire.AtaReply) -> None:
        super().__init__(f"ATA status {reply.status:#04x} error {reply.error:#04x} LBA {reply.lba}")
        self.reply = reply


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


class Port(Protocol):
    """What a Client speaks through: whole Ethernet frames, without FCS."""

    mac: bytes

    def send(self, data: bytes) -> None: ...
    def receive(self, timeout: float) -> bytes | None: ...
    def close(self) -> None: ...


class PacketPort:
    """A raw socket on one interface. A MAC of choice makes it one of many hosts behind that interface."""

    def __init__(self, raw: socket.socket, mac: bytes | None = None, promiscuous: bool = False) -> None:
        self.socket = raw
        self.mac = mac or raw.getsockname()[4]
        self._mine = (self.mac, frame.BROADCAST)
        self._promiscuous = promiscuous

    def send(self, data: bytes) -> None:
        self.socket.send(data)

    def receive(self, timeout: float) -> bytes | None:
        """The next frame for this MAC, or None once `timeout` seconds have passed."""
        deadline = time.monotonic() + timeout
        while True:
            if not _readable(self.socket, deadline):
                return None
            # A link that went down leaves its error on the socket once; it is no frame.
            with contextlib.suppress(OSError):
                data, address = self.socket.recvfrom(FRAME_MAX, socket.MSG_DONTWAIT)
                if address[2] != PACKET_OUTGOING and (self._promiscuous or data[:6] in self._mine):
                    return data

    def close(self) -> None:
        self.socket.close()


class UdpPort:
    """One Ethernet frame per datagram, as QEMU's dgram network speaks."""

    def __init__(
        self,
        remote: tuple[str, int],
        mac: bytes = b"\x02\0\0\0\0\x0c",
        local: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(local)
        self.remote = remote
        self.mac = mac

    @property
    def local(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port

    def send(self, data: bytes) -> None:
        # The peer may not be up yet: its ICMP answer surfaces here, and is a lost frame.
        with contextlib.suppress(ConnectionRefusedError):
            self.socket.sendto(data, self.remote)

    def receive(self, timeout: float) -> bytes | None:
        deadline = time.monotonic() + timeout
        while _readable(self.socket, deadline):
            with contextlib.suppress(OSError):
                return self.socket.recv(FRAME_MAX, socket.MSG_DONTWAIT)
        return None

    def close(self) -> None:
        self.socket.close()


def _readable(sock: socket.socket, deadline: float) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    left = max(0.0, deadline - time.monotonic())
    return bool(poller.poll(left * 1000))


def new_tag() -> int:
    """A tag not used before, in the half that the kernel driver leaves to user space (bit 31)."""
    return _USER_TAG | next(_tags)


class Client:
    """A stop-and-wait initiator for one address: decoded values back, exceptions for what went wrong.

    Each transmission has a new tag; a reply to any of a request's transmissions is its answer.
    """

    def __init__(
        self,
        port: Port,
        shelf: int = 1,
        slot: int = 1,
        *,
        dst: bytes = frame.BROADCAST,
        timeout: float = 0.5,
        retries: int = 4,
    ) -> None:
        self.port = port
        self.shelf = shelf
        self.slot = slot
        self.dst = dst
        self.timeout = timeout
        self.retries = retries

    @property
    def mac(self) -> bytes:
        return self.port.mac

    def close(self) -> None:
        self.port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Frames

    def send(self, data: bytes) -> None:
        self.port.send(data)

    def receive(self, timeout: float) -> bytes | None:
        return self.port.receive(timeout)

    def header(self, command: int, **fields: Any) -> frame.Header:
        """A request header for this address; any field can be given instead."""
        header = frame.Header(
            self.dst, self.mac, frame.VERSION, 0, 0, self.shelf, self.slot, command, new_tag()
        )
        return header._replace(**fields)

    def request(self, command: int, body: bytes = b"", **fields: Any) -> bytes:
        """A request frame, padded to 60 bytes."""
        return frame.encode(self.header(command, **fields), body)

    def ask(self, command: int, body: bytes = b"", **fields: Any) -> bytes | None:
        """The reply frame to one request, or None when every transmission went unanswered."""
        tags = set()
        for _ in range(1 + self.retries):
            request = self.header(command, **fields)
            tags.add(request.tag)
            self.send(frame.encode(request, body))
            for reply in self.replies(tags, self.timeout):
                return reply
        return None

    def replies(self, tags: set[int], seconds: float) -> Iterator[bytes]:
        """Replies that carry one of the tags, as they come, for some seconds."""
        deadline = time.monotonic() + seconds
        while (reply := self.receive(max(0.0, deadline - time.monotonic()))) is not None:
            header = frame.decode(reply)
            if isinstance(header, frame.Header) and header.flags & frame.FLAG_RESPONSE and header.tag in tags:
                yield reply

    def ask_all(self, command: int, body: bytes = b"", *, seconds: float = 0.5, **fields: Any) -> list[bytes]:
        """Every reply to one transmission: what a wildcard brings."""
        request = self.header(command, **fields)
        self.send(frame.encode(request, body))
        return list(self.replies({request.tag}, seconds))

    def drain(self) -> int:
        """Forget what has arrived and was not read; returns how many frames that was."""
        return sum(1 for _ in iter(lambda: self.receive(0), None))

    def silence(self, data: bytes, seconds: float = 0.3) -> bool:
        """Whether a frame brings nothing back. Advertisements, being broadcast, do not count."""
        self.drain()
        self.send(data)
        deadline = time.monotonic() + seconds
        while (reply := self.receive(max(0.0, deadline - time.monotonic()))) is not None:
            if reply[:6] != frame.BROADCAST:
                return False
        return True

    # Commands

    def _answer(self, command: int, body: bytes, fields: dict[str, Any]) -> tuple[frame.Header, bytes]:
        reply = self.ask(command, body, **fields)
        if reply is None:
            raise NoAnswer(f"{frame.Command(command).name} to {self.shelf}.{self.slot}")
        header = frame.decode(reply)
        assert isinstance(header, frame.Header)
        return header, reply

    def _decoded(
        self, command: int, body: bytes, decode: Callable[[bytes], T | frame.Fault], fields: dict[str, Any]
    ) -> T:
        header, reply = self._answer(command, body, fields)
        message = decode(reply)
        if header.flags & frame.FLAG_ERROR:
            raise Refused(header.error, message)
        if isinstance(message, frame.Fault):
            raise AssertionError(f"undecodable reply ({message}): {reply.hex()}")
        return message

    def config(
        self, ccmd: int = config_wire.ConfigCommand.READ, text: bytes = b"", **fields: Any
    ) -> config_wire.Config:
        body = config_wire.encode(config_wire.Config(ccmd, text))
        return self._decoded(frame.Command.CONFIG, body, config_wire.decode, fields)

    def mask(self, *directives: mask_wire.Directive, **fields: Any) -> mask_wire.Mask:
        """Edit the mask list; with no directive, read it."""
        message = mask_wire.edit(*directives) if directives else mask_wire.Mask(mask_wire.MaskCommand.READ)
        return self._decoded(frame.Command.MASK, mask_wire.encode(message), mask_wire.decode, fields)

    def reserve(
        self, rcmd: int = reserve_wire.ReserveCommand.READ, *macs: bytes, **fields: Any
    ) -> reserve_wire.Reserve:
        body = reserve_wire.encode(reserve_wire.Reserve(rcmd, macs))
        return self._decoded(frame.Command.RESERVE, body, reserve_wire.decode, fields)

    def ata(
        self,
        command: int,
        lba: int = 0,
        count: int = 0,
        data: bytes = b"",
        *,
        feature: int = 0,
        aflags: int | None = None,
        **fields: Any,
    ) -> ata_wire.AtaReply:
        """Issue one ATA command; the reply comes back whatever its status says."""
        request = ata_request(command, lba, count, data, feature=feature, aflags=aflags)
        return self._decoded(frame.Command.ATA, ata_wire.encode(request), ata_wire.decode_reply, fields)

    def _good(self, reply: ata_wire.AtaReply) -> ata_wire.AtaReply:
        if reply.status & BUSY_DF_DRQ_ERR:
            raise AtaFailed(reply)
        return reply

    def identify(self, **fields: Any) -> bytes:
        """The 512 bytes of IDENTIFY DEVICE."""
        reply = self._good(self.ata(IDENTIFY, count=1, **fields))
        assert len(reply.data) >= SECTOR
        return reply.data[:SECTOR]

    def read(self, lba: int, count: int = 1, **fields: Any) -> bytes:
        reply = self._good(self.ata(READ_EXT, lba, count, **fields))
        assert len(reply.data) >= count * SECTOR
        return reply.data[: count * SECTOR]

    def write(self, lba: int, data: bytes, fua: bool = False, **fields: Any) -> None:
        count, rest = divmod(len(data), SECTOR)
        assert rest == 0
        self._good(self.ata(WRITE_FUA_EXT if fua else WRITE_EXT, lba, count, data, **fields))

    def flush(self, **fields: Any) -> None:
        self._good(self.ata(FLUSH_EXT, **fields))


def ata_request(
    command: int,
    lba: int = 0,
    count: int = 0,
    data: bytes = b"",
    *,
    feature: int = 0,
    aflags: int | None = None,
) -> ata_wire.AtaRequest:
    """Registers with the flags that the command needs, unless flags are given."""
    if aflags is None:
        extended = ata_wire.AFLAG_EXTENDED if command in _EXTENDED else 0
        aflags = extended | (ata_wire.AFLAG_WRITE if data else 0)
    return ata_wire.AtaRequest(aflags, feature, count, command, lba, data)


def sectors_of(identify: bytes) -> int:
    """Capacity that IDENTIFY words 100-103 tell."""
    return int.from_bytes(identify[200:208], "little")


def text_of(identify: bytes, first_word: int, words: int) -> str:
    """An ASCII field of IDENTIFY (two characters a word, the first in the high byte), unpadded."""
    raw = identify[2 * first_word : 2 * (first_word + words)]
    return b"".join(raw[at + 1 : at + 2] + raw[at : at + 1] for at in range(0, len(raw), 2)).decode().strip()


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
        self, side: str, *argv: str | Path, timeout: float = 10, check: bool = False
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
        return in_namespace(self.namespace(side), lambda: _packet_socket(interface, ethertype))

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
    done = subprocess.run([_tool("ip"), *arguments], capture_output=True, text=True, timeout=10, check=False)
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


def _packet_socket(interface: str, ethertype: int) -> socket.socket:
    # Protocol 0 until it is bound: a socket of all interfaces would queue other interfaces' frames first.
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        raw.bind((interface, ethertype))
        try:
            raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    except BaseException:
        raw.close()
        raise
    return raw


def wait_for(condition: Callable[[], T], seconds: float = 10, what: str = "") -> T:
    """First true value of a condition that is polled; AssertionError when none came in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what or f"waited {seconds} s for {condition!r}"
        time.sleep(0.01)
    return value
