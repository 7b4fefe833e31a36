"""One Ethernet frame per UDP datagram: what QEMU's `-netdev dgram` and `-netdev socket,udp=` speak."""

import asyncio
import hashlib
import importlib
import ipaddress
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.home import Home
from aoe.limits import UDP_MTU_DEFAULT
from aoe.link.base import Batch, Link, Listener, Received
from aoe.link.spec import Place, badly_spelled, spelled
from aoe.wire import protocol

_SO_TIMESTAMPNS_NEW = 64
_TIMESPEC = struct.Struct("qq")
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)

Address = tuple[str, int]


class UdpSpec(NamedTuple):
    """`udp:BIND:PORT[,peer=HOST:PORT...][,mtu=N]`. Without peers only the loopback may be bound."""

    bind: Address
    peers: tuple[Address, ...] = ()
    mtu: int = UDP_MTU_DEFAULT

    @classmethod
    def parse(cls, text: str) -> "UdpSpec":
        """Read the command line's form; ConfigurationError says what is wrong with it."""
        said = spelled(text)
        peers = tuple(_address(peer, text) for peer in said.peers)
        spec = cls(_address(said.bind, text), peers, said.mtu)
        if not peers and not ipaddress.ip_address(spec.bind[0]).is_loopback:
            raise ConfigurationError(
                f"link {text} is open to everyone; bind 127.0.0.1 or name peer=HOST:PORT"
            )
        return spec


def _address(place: Place, link: str) -> Address:
    host, port = place
    try:
        address = socket.gethostbyname(host)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"link {link}: no address for {host!r}") from error
    if not address:
        raise badly_spelled(link)
    return address, port


class UdpLink(Link):
    """Frames in datagrams; answers go to the datagram's source, the rest to every peer.

    The library gives no kernel receive stamps. So what the socket holds is looked at between two passes:
    a frame's stamp is the last moment at which it was empty, or the stamp of the first that waited then. No
    frame is older than that. A pulse keeps this so while nothing arrives.
    """

    def __init__(self, spec: UdpSpec, opened: "Bound | None" = None) -> None:
        """`opened` is what another process opened for it. ConfigurationError where it cannot be."""
        self.counters = Counter()
        self.spec = spec
        self.socket, self.mac = opened or open_datagrams(spec)
        """An engine may use it instead of `start` and `send`."""
        self.name = _name_of(self.socket)
        self._home = Home(self.name, loop=False)
        self.mtu = spec.mtu
        self.receive_buffer = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._peers = dict.fromkeys(spec.peers)
        self._queue: deque[Received] = deque()
        self._none_before = 0
        self._seen_empty = False
        self._closed = False
        self._listener: Listener | None = None
        self._stream: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        with suppress(ConfigurationError):
            _dgram()  # a process that confines itself meanwhile could not read it any more

    def start(self, listener: Listener) -> None:
        dgram = _dgram()
        self._listener = listener
        self._pumping = asyncio.ensure_future(self._pump(dgram))
        self._tasks = {self._pumping, asyncio.ensure_future(self._pulse())}

    def take(self) -> Batch:
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), limits.RECEIVE_BATCH))]
        drained, self._seen_empty = self._seen_empty, False
        return Batch(taken, drained)

    def stop(self) -> None:
        self._listener = None

    def send(self, frame: bytes, origin: Hashable = None) -> None:
        if len(frame) > self.mtu + protocol.ETHERNET_HEADER:
            self.counters["send_too_long"] += 1
            return
        for address in [origin] if isinstance(origin, tuple) else self._peers:
            try:
                self.socket.sendto(frame, address)
            except BlockingIOError:
                self.counters["send_queue_full"] += 1
            except OSError:
                self.counters["send_link_down"] += 1

    def close(self) -> None:
        if self._home.forked:  # what it watches with is its parent's, too
            return
        self.stop()
        self._closed = True
        for task in self._tasks:
            if self._stream is not None or task is not self._pumping:
                task.cancel()
        if self._stream is not None:
            self._stream.close()
        self.socket.close()

    async def _pump(self, dgram: ModuleType) -> None:
        """Empty the library's queue, which has no bound, into ours, which has one."""
        self._none_before = time.time_ns()
        if self._closed:
            return
        stream = await dgram.from_socket(self.socket.dup())
        self._stream = stream
        if self._closed:
            stream.close()
            return
        while True:
            try:
                datagram, source = await stream.recv()
            except dgram.TransportClosed:
                return
            except OSError:
                self.counters["receive_error"] += 1
                continue
            self._arrive(bytes(datagram), cast(Address, source))

    def _arrive(self, datagram: bytes, source: Address) -> None:
        if self.spec.peers and source not in self._peers:
            self.counters["not_a_peer"] += 1
        elif len(self._queue) >= limits.UDP_QUEUE_MAX:
            self.counters["queue_full"] += 1
        else:
            self._queue.append(Received(datagram, self._none_before, source))
            if len(self._queue) == 1:
                asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if self._listener is None or not self._queue:
            return
        self._listener.ready(self)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._tell)
        else:
            self._look_empty()

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(timing.UDP_LOOK_S)
            if not self._queue:
                self._look_empty()

    def _look_empty(self) -> None:
        """Note the time if neither the socket nor the library holds a frame."""
        now = time.time_ns()
        try:
            _, ancillary, _, _ = self.socket.recvmsg(1, _ANCILLARY, socket.MSG_PEEK)
        except BlockingIOError:
            pass
        except OSError:
            return
        else:
            # What is taken from now on is no older than the first that waits.
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            now = min(now, seconds * 1_000_000_000 + nanoseconds)
            asyncio.get_running_loop().call_soon(self._if_none_before, now)
            return
        asyncio.get_running_loop().call_soon(self._if_still_empty, now)

    def _if_none_before(self, then: int) -> None:
        """A turn of the loop later, as below."""
        self._none_before = max(self._none_before, then)

    def _if_still_empty(self, then: int) -> None:
        """A turn of the loop later: what the library held has reached our queue by now."""
        if not self._queue:
            self._none_before = then
            self._seen_empty = True


def _dgram() -> ModuleType:
    """What UDP comes through. Debian has no package of it, and Ethernet needs none."""
    try:
        return importlib.import_module("asyncio_dgram")
    except ImportError as error:
        raise ConfigurationError("--link udp:... needs asyncio-dgram: pip install asyncio-dgram") from error


class Bound(NamedTuple):
    """What a UDP link is made of: its socket, and the MAC that its host gives it."""

    socket: socket.socket
    mac: bytes


def open_datagrams(spec: UdpSpec) -> Bound:
    """ConfigurationError."""
    opened = _bound(spec.bind)
    return Bound(opened, _stable_mac(_name_of(opened)))


def _name_of(opened: socket.socket) -> str:
    return "udp:{}:{}".format(*opened.getsockname())


def _bound(address: Address) -> socket.socket:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.RECEIVE_BUFFER)
        link.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS_NEW, 1)
        link.bind(address)
    except OSError as error:
        link.close()
        raise ConfigurationError("udp {}:{}: {}".format(*address, error.strerror)) from error
    return link


def _stable_mac(name: str) -> bytes:
    """A locally administered address that this host's link of this name always has."""
    machine = Path("/etc/machine-id")
    salt = machine.read_bytes() if machine.is_file() else socket.gethostname().encode()
    return b"\x02" + hashlib.sha256(salt + name.encode()).digest()[:5]
