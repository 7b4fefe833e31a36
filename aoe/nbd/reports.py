"""What the plugin reports of its disk over a socket: the size once it is served, and how the paths are."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence

from aoe import limits, timing
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.path import PathSnapshot
from aoe.initiator.sizes import Narrow
from aoe.initiator.standing import PathStatus, Standing


class Reports:
    """Our end of the socket. `on_change` is called with each path whose state or reason is another one than
    it was, and the seconds for which it could not be used before, where it is usable again."""

    def __init__(
        self,
        ours: socket.socket,
        interfaces: Sequence[str],
        *,
        hold: bool,
        on_change: Callable[[PathStatus, float | None], None],
    ) -> None:
        self._ours = ours
        self._names = list(interfaces)
        self._standing = Standing(self._names.__getitem__, hold=hold)
        self._on_change = on_change
        self._paths: list[PathSnapshot] = []
        self._shown: dict[int, tuple[State, Reason]] = {}
        self._lost_at: dict[int, float] = {}
        """When a path that was usable came to be something else (s)."""
        self._heard = asyncio.Event()
        self._size: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(ours, self._readable)

    async def size(self) -> int | None:
        """Of the disk in bytes, once it is served; None where the plugin ends before that."""
        return await self._size

    async def hung_up(self) -> None:
        """Once the plugin has ended, or is to end and no request waits for an answer."""
        await self._over.wait()

    async def paths(self) -> list[PathStatus]:
        """How they are now, or were when the plugin last answered."""
        self._heard.clear()
        try:
            self._ours.send(b"?")
            async with asyncio.timeout(timing.REPORT_S):
                await self._heard.wait()
        except (OSError, TimeoutError):
            pass
        return [self._standing.status(path) for path in self._paths]

    def close(self) -> None:
        """Listen no more."""
        if not self._over.is_set():
            self._end()
        self._ours.close()

    # What comes in

    def _readable(self) -> None:
        try:
            message = self._ours.recv(limits.REPORT_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        kind, _, rest = message.decode("ascii", "replace").partition("\n")
        if not message:
            self._end()
        elif kind.startswith("size "):
            if not self._size.done():
                self._size.set_result(int(kind.removeprefix("size ")))
        else:
            self._take([self._path(line) for line in rest.splitlines()])

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        if not self._size.done():
            self._size.set_result(None)
        self._over.set()
        self._heard.set()

    def _take(self, paths: list[PathSnapshot]) -> None:
        self._paths = paths
        self._standing.look(paths)
        for path in paths:
            self._compare(path)
        self._heard.set()

    def _compare(self, path: PathSnapshot) -> None:
        now = time.monotonic()
        was, is_ = self._shown.get(path.number), (path.state, path.reason)
        if was == is_ or path.state is State.CHECKING:
            return
        self._shown[path.number] = is_
        if path.state is not State.USABLE:
            self._lost_at.setdefault(path.number, now)
        elif was is None:
            return
        lost_at = self._lost_at.pop(path.number, now) if path.state is State.USABLE else None
        self._on_change(self._standing.status(path), None if lost_at is None else now - lost_at)

    def _path(self, line: str) -> PathSnapshot:
        """As csrc/nbd/notices.c writes it in `notices_report`; in the end what an interface is called now."""
        number, port, mac, *rest = line.split()
        shelf, slot, state, reason, owner, rtt_ns, sectors, most, narrow, unsettled = map(int, rest[:10])
        proved, lba, draining, copy = map(int, rest[10:14])
        self._names[int(port)] = rest[14] if rest[14:] else self._names[int(port)]
        return PathSnapshot(
            int(number),
            int(port),
            bytes.fromhex(mac),
            shelf,
            slot,
            State(state),
            Reason(reason),
            bool(owner),
            rtt_ns,
            sectors,
            most,
            Narrow(narrow),
            unsettled,
            proved=bool(proved),
            lba=lba,
            draining=bool(draining),
            copy=bool(copy),
        )
