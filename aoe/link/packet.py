"""AF_PACKET on an Ethernet interface (packet(7))."""

import asyncio
import errno
import select
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Hashable
from contextlib import ExitStack
from functools import partial

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.home import Home
from aoe.link.base import Batch, Link, Listener, Received
from aoe.link.interface import (
    ARPHRD_ETHER,
    ARPHRD_LOOPBACK,
    Interface,
    Monitor,
    ethernet_interfaces_up,
    look_up,
)
from aoe.link.packet_sockets import (
    NO_FRAME,
    ONLY_REPLIES,
    Ring,
    Sockets,
    filter_frames,
    open_packet,
)
from aoe.wire import protocol
from aoe.wire.frame import BROADCAST, destination

_TIMESPEC = struct.Struct("qq")
_TRUNCATED = int(socket.MSG_TRUNC)  # as an enumeration it costs more than the rest of the check
_TO_ALL = (socket.PACKET_BROADCAST, socket.PACKET_MULTICAST)
"""What the kernel may call a frame to ff:ff:ff:ff:ff:ff, which is not the loopback's broadcast address."""
_HOST = socket.PACKET_HOST
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_VLAN_HEADER = 4
_now_ns = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
"""A frame that waits grows old while the machine is suspended, too."""


_ABSENT = Interface(0, ARPHRD_ETHER, bytes(6), limits.UDP_MTU_DEFAULT, False)
"""What is said of an interface that never was there."""


class PacketLink(Link):
    """AoE frames on one interface. Survives the interface going down, away and coming back; `name` follows it
    when it is renamed."""

    def __init__(self, name: str, sockets: Sockets = Sockets(), *, waits: bool = False) -> None:  # noqa: B008
        """ConfigurationError where it cannot be used; one that `waits` is down as long as there is no
        interface of that name. Every socket is opened by `sockets`, and none later than `engine_sockets`."""
        self.name = self._given = name
        self.by_itself = True
        """Whether it looks by its name for an interface that was away; else it is told which to `follow`."""
        self._home = Home(name, loop=False)
        self._sockets = sockets
        self.counters = Counter()
        with ExitStack() as opened:
            self._kernel = kernel = opened.enter_context(sockets.asking())
            self._interface = _ABSENT if waits and look_up(name, kernel) is None else usable(name, kernel)
            self.mac = self._interface.mac
            self.mtu = self._interface.mtu
            self._socket = opened.enter_context(sockets.packet(self._bound))
            self._changes = opened.enter_context(sockets.watching())
            opened.pop_all()
        self._engine_sockets: list[socket.socket] = []
        self._ahead: list[tuple[socket.socket, bool]] = []
        """Those that were opened ahead."""
        self._binds = False
        """Whether sockets are being bound."""
        self._sought: str | None = None
        """Something changed meanwhile: which interface is to be followed then, if any in particular."""
        self.receive_buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._listener: Listener | None = None
        self._monitor: Monitor | None = None
        self._backlog: deque[tuple[int, bytes]] = deque()
        """Frames, and until when they may be sent."""
        self._buffer = memoryview(b"")
        # The loop watches this instead of the socket: uvloop gives a descriptor up for good once it
        # reports an error, as a packet socket does whenever its interface goes down.
        self._events = select.epoll()
        self._watched = False
        self._events.register(self._socket, select.EPOLLIN)

    @property
    def up(self) -> bool:
        return self._interface.up

    @property
    def _bound(self) -> str:
        return self.name if self._interface.number else ""

    @property
    def segment(self) -> str:
        """The interface by its number: names can change."""
        return str(self._interface.number or "")

    def engine_sockets(self, count: int, ring: Ring) -> list[tuple[int, bool]]:
        """Open sockets for the threads of an engine, with such a ring each. Where another engine had one, and
        what came since is in it, the second is true."""
        self.close_engine_sockets()
        if len(self._ahead) != count:
            self.open_ahead(count, ring)
        opened, self._ahead = self._ahead, []
        self._engine_sockets = [it for it, _ in opened]
        return [(it.fileno(), was_used) for it, was_used in opened]

    def close_engine_sockets(self) -> None:
        """Those that there are."""
        for it in self._engine_sockets:
            it.close()
        self._engine_sockets = []

    def open_ahead(self, count: int, ring: Ring) -> None:
        """What `engine_sockets` will give. Blocks, if another process opens them."""
        for it, _ in self._ahead:
            it.close()
        self._ahead = [self._sockets.ringed(self._bound, thread, ring) for thread in range(count)]

    def let_go(self) -> None:
        """It is to be closed, and no later process is to go on with its sockets."""
        self._sockets.let_go(self._socket, *self._engine_sockets)

    def only_replies(self) -> None:
        """Leave the requests to an engine: only replies of others come here. The loopback interface brings
        our own back, and no others' can be told from them."""
        filter_frames(self._socket, NO_FRAME if self._interface.kind == ARPHRD_LOOPBACK else ONLY_REPLIES)

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._monitor = Monitor(self._changes, self._look)
        self._watch()

    def take(self) -> Batch:
        frames: list[Received] = []
        room = self.mtu + protocol.ETHERNET_HEADER + _VLAN_HEADER
        if len(self._buffer) != room:
            self._buffer = memoryview(bytearray(room))
        buffer = self._buffer
        for _ in range(limits.RECEIVE_BATCH):
            try:
                length, ancillary, flags, address = self._socket.recvmsg_into((buffer,), _ANCILLARY)
            except BlockingIOError:
                return Batch(frames, True)
            except OSError:
                self.counters["receive_error"] += 1
                return Batch(frames, False)
            if address[2] != _HOST and not (address[2] in _TO_ALL and destination(buffer) == BROADCAST):
                self.counters["other_host"] += 1
            elif flags & _TRUNCATED:
                self.counters["receive_too_long"] += 1
            else:
                seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
                stamp_ns = seconds * 1_000_000_000 + nanoseconds
                frames.append(Received(bytes(buffer[:length]), stamp_ns, None))
        return Batch(frames, False)

    def stop(self) -> None:
        if self._listener is not None:
            self._listener = None
            self._watch()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def send(self, frame: bytes, origin: Hashable = None) -> None:
        if self._backlog:
            self._keep(frame)
            return
        try:
            self._socket.send(frame)
        except BlockingIOError:
            self._keep(frame)
            self._watch()
        except OSError as error:
            self._count_send_error(error)

    def close(self) -> None:
        if self._home.forked:  # what it watches with is its parent's, too
            return
        self.stop()
        self._backlog.clear()
        if not self._events.closed:
            self._watch()
        self._events.close()
        ahead = (it for it, _ in self._ahead)
        for it in (self._socket, self._kernel, self._changes, *self._engine_sockets, *ahead):
            it.close()

    def _watch(self) -> None:
        """Wait for what is of use: frames while there is a listener, room while something is to be sent."""
        wanted = select.EPOLLIN if self._listener is not None else 0
        wanted |= select.EPOLLOUT if self._backlog else 0
        self._events.modify(self._socket, wanted)
        if wanted:
            asyncio.get_running_loop().add_reader(self._events, self._ready)
        elif self._watched:
            asyncio.get_running_loop().remove_reader(self._events)
        self._watched = bool(wanted)

    def _ready(self) -> None:
        if self._backlog:
            self._send_backlog()
        if self._listener is not None:
            self._listener.ready(self)

    # Sending

    def _keep(self, frame: bytes) -> None:
        if len(self._backlog) >= limits.SEND_BACKLOG_MAX:
            self.counters["send_queue_full"] += 1
        else:
            self._backlog.append((_now_ns() + timing.SEND_BACKLOG_NS, frame))

    def _send_backlog(self) -> None:
        now_ns = _now_ns()
        while self._backlog:
            until_ns, frame = self._backlog[0]
            try:
                if now_ns < until_ns:
                    self._socket.send(frame)
                else:
                    self.counters["send_too_late"] += 1
            except BlockingIOError:
                return
            except OSError as error:
                self._count_send_error(error)
            self._backlog.popleft()
        self._watch()

    def _count_send_error(self, error: OSError) -> None:
        known = {errno.EMSGSIZE: "send_too_long", errno.ENOBUFS: "send_no_buffer"}
        self.counters[known.get(error.errno or 0, "send_link_down")] += 1

    # The interface changes

    def follow(self, name: str) -> None:
        """Go on with this interface, if its own is away."""
        self._look(name)

    def look_again(self) -> None:
        """What could not be had of the system can be now."""
        if self._monitor is not None:
            self._look()

    def _look(self, sought: str = "") -> None:
        if self._binds:
            self._sought = sought or self._sought or ""
            return
        was = self.name
        self.name = self._find_name(sought)
        before, now = self._interface, look_up(self.name, self._kernel)
        if now is None or not (self._is_bound or self.by_itself or sought):
            self._interface = before._replace(number=0, up=False)
            if before.up and self._listener is not None:
                self._listener.changed(self, False)
            return
        # One that was away is bound to nothing, even if it came back with its old number.
        away = now.number != before.number or self._socket.getsockname()[0] != self.name
        if not away:
            self._take_up(now, was)
        elif now.carries_ethernet:
            self._rebind()

    def _take_up(self, now: Interface, was: str) -> None:
        """It is the interface that the sockets are bound to; the link `was` called otherwise, perhaps."""
        before, self.name = self._interface, self._socket.getsockname()[0]
        if now == before and self.name == was:
            return
        self._interface = now
        self.mac, self.mtu = now.mac, now.mtu
        if self._listener is not None:
            self._listener.changed(self, now.up and not before.up)

    @property
    def _is_bound(self) -> bool:
        return bool(self._socket.getsockname()[0])

    def _find_name(self, sought: str) -> str:
        """By its index, whatever it is called by now; where it was away, by its last name or the first."""
        names = (self._socket.getsockname()[0], sought, self.name, self._given)
        return next((name for name in names if name and look_up(name, self._kernel)), self.name)

    def _rebind(self) -> None:
        """The interface was removed and came back: the sockets follow it (needs no privilege)."""
        self._binds = True
        self._sockets.go_on(self.name, (self._socket, *self._engine_sockets), self._rebound)

    def _rebound(self, done: bool) -> None:
        self._binds = False
        if self._events.closed:
            return
        name = self._socket.getsockname()[0]
        now = look_up(name, self._kernel) if name else None
        if done:
            self.counters["rebound"] += 1
        if done and now is not None:
            self._take_up(now, self.name)
        if self._sought is not None:
            sought, self._sought = self._sought, None
            self._look(sought)


def check_interface(name: str) -> None:
    """ConfigurationError if a packet socket on an interface of that name could not be used."""
    usable(name)
    open_packet(name).close()


def usable(name: str, kernel: socket.socket | None = None) -> Interface:
    """The interface of that name; ConfigurationError where a link on it can never work. `kernel` is what
    `asking` opened."""
    interface = look_up(name, kernel)
    if interface is None:
        shown = name if name and name.isprintable() else repr(name)
        raise ConfigurationError(f"there is no network interface {shown}; these are up: {_choices(kernel)}")
    if not interface.carries_ethernet:
        raise ConfigurationError(f"{name} is not an Ethernet interface; these are up: {_choices(kernel)}")
    if interface.bridge:
        raise ConfigurationError(
            f"{name} is a port of {interface.bridge}, which takes all frames; name that instead"
        )
    if interface.mtu < protocol.MTU_MIN:
        raise ConfigurationError(
            f"the MTU {interface.mtu} of {name} is too small; raise it to {protocol.MTU_MIN} or more"
        )
    return interface


def _choices(kernel: socket.socket | None) -> str:
    return ", ".join(ethernet_interfaces_up(kernel)) or "none"


def every_link() -> list["PacketLink"]:
    """On every Ethernet interface that is up and can be used; ConfigurationError where none can."""
    opened: list[PacketLink] = []
    problem = ConfigurationError("no Ethernet interface is up; say --interface NAME")
    for name in ethernet_interfaces_up():
        try:
            opened.append(PacketLink(name))
        except ConfigurationError as error:
            problem = error
    if not opened:
        raise problem
    return opened


def only_interface(kernel: socket.socket | None = None) -> str:
    """The Ethernet interface to use where none was named. `kernel` is what `asking` opened."""
    up = ethernet_interfaces_up(kernel)
    if len(up) != 1:
        which = (
            f"several Ethernet interfaces are up ({', '.join(up)})" if up else "no Ethernet interface is up"
        )
        raise ConfigurationError(f"{which}; say --interface NAME")
    return up[0]
