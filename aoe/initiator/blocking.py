"""`aoe.open`: what `aoe.attach` gives, for programs without an event loop.

Each disk has a thread in which its event loop runs. A caller of a method waits for that thread.
"""

import asyncio
import contextlib
import inspect
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from aoe.errors import MisuseError, NoThread, RequestError
from aoe.home import Home, Rooted
from aoe.initiator.admin import Admin
from aoe.initiator.attach import attach
from aoe.initiator.remote import RemoteDisk
from aoe.initiator.standing import PathStatus

P = ParamSpec("P")
T = TypeVar("T")


class _Worker:
    """A thread with an event loop, in which a disk is attached until it is told to stop.

    `opened` is the disk, or why there is none. `ended` comes when the loop is closed, with what went wrong
    at that.
    """

    def __init__(self, name: str, attached: AbstractAsyncContextManager[RemoteDisk]) -> None:
        self.name = name
        self._home = Home(f"the disk {name}", "open it again here", loop=False)
        self.opened: Future[RemoteDisk] = Future()
        self.ended: Future[None] = Future()
        self.thread = threading.Thread(target=self._run, name=f"aoe {name}", daemon=True)
        self._attached = attached
        self._over = asyncio.Event()
        self._closing = False
        self._lock = threading.RLock()
        """Whatever is asked under it before `_closing` is set is a task before the loop stops, and then done
        or cancelled."""
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()

    def start(self) -> None:
        """Attach the disk. NoThread."""
        try:
            self.thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise NoThread from error

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Have it run there; its result. A caller that is interrupted meanwhile cancels it."""
        try:
            self._home.check_process()
        except MisuseError:
            coroutine.close()
            raise
        with self._lock:
            if self._closing:
                coroutine.close()
                raise RequestError(f"{self.name} is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError as error:
            raise RequestError(f"{self.name} was closed") from error
        except BaseException:
            future.cancel()
            raise

    def look(self, function: Callable[[], T]) -> T:
        """What it returns there, where nothing changes under its hands; also after the end."""

        async def asked() -> T:
            return function()

        return function() if self.ended.done() else self.call(asked())

    def stop(self, *, urgent: bool) -> None:
        """Take nothing more, and end when what is under way is answered; if it is urgent, at once. In a child
        that was forked there is no thread, and what it used is the parent's: nothing is done."""
        if self._home.forked:
            return
        with self._lock:
            self._closing = True
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._cancel_all if urgent else self._over.set)

    def end(self, *, urgent: bool) -> None:
        """Stop, and wait for the thread. RequestError if something under way was not answered in time."""
        if self._home.forked:
            return
        self.stop(urgent=urgent)
        try:
            self.ended.result()
        except BaseException:
            self.stop(urgent=True)
            raise
        finally:
            self.thread.join()

    def _cancel_all(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            with self._runner:
                self._runner.run(self._hold())
        except BaseException as error:
            failure = error
        if not self.opened.done():
            self.opened.set_exception(failure)
        elif failure is not None and not isinstance(failure, asyncio.CancelledError):
            self.ended.set_exception(failure)
        if not self.ended.done():
            self.ended.set_result(None)

    async def _hold(self) -> None:
        try:
            async with self._attached as disk:
                self.opened.set_result(disk)
                await self._over.wait()
        finally:
            with self._lock:
                self._closing = True


class BlockingDisk(Rooted):
    """A `RemoteDisk` whose methods return when they are done; any number of threads may use it.

    Close it, or use it in a `with` statement: left in the ordinary way, that waits for what other threads
    have under way. An exception inside gives it up, and those threads get a RequestError. A call
    that is interrupted (KeyboardInterrupt) leaves a write of unknown fate behind, as a cancelled one does.
    """

    def __init__(self, worker: _Worker, remote: RemoteDisk) -> None:
        self._worker = worker
        self._remote = remote
        forgotten = weakref.finalize(self, worker.stop, urgent=True)
        forgotten.atexit = False  # the thread is a daemon

    def __enter__(self) -> "BlockingDisk":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(urgent=kind is not None)

    def close(self) -> None:
        """Wait for what is under way, and ask nothing more. RequestError if it is not answered in time
        (5 s); whatever is called afterwards raises one, too. Once more does nothing."""
        self._end(urgent=False)

    def _end(self, *, urgent: bool) -> None:
        if not self._worker.ended.done():
            self._worker.end(urgent=urgent)

    # Data

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes."""
        return self._worker.call(self._remote.read(offset, length))

    def read_into(self, offset: int, buffer: bytearray) -> None:
        """As `read`, but the bytes fill a buffer of the caller's."""
        self._worker.call(self._remote.read_into(offset, buffer))

    def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        """Store `data`; with `fua` it is on stable storage when this returns."""
        self._worker.call(self._remote.write(offset, data, fua))

    def flush(self) -> None:
        """Put every write that returned before this call on stable storage."""
        self._worker.call(self._remote.flush())

    def trim(self, offset: int, length: int) -> None:
        """Give the range back to the store; durable with the next flush."""
        self._worker.call(self._remote.trim(offset, length))

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make the range read as zeroes; durable with the next flush."""
        self._worker.call(self._remote.write_zeroes(offset, length))

    def revalidate(self) -> None:
        """Ask what the target says of its disk again; `size` follows, as do the other properties."""
        self._worker.call(self._remote.revalidate())

    # What it is

    @property
    def address(self) -> str:
        """Where it is, as `e0.0`; several with `/` between them."""
        return self._remote.address

    @property
    def size(self) -> int:
        """Bytes."""
        return self._remote.size

    @property
    def block(self) -> int:
        """The unit (bytes) in which it can be written without reading first."""
        return self._remote.block

    @property
    def physical_block(self) -> int:
        """The block of the medium (bytes)."""
        return self._remote.physical_block

    @property
    def read_only(self) -> bool:
        """Whether it is known to refuse writes."""
        return self._remote.read_only

    @property
    def trims(self) -> bool:
        """Whether `trim` works."""
        return self._remote.trims

    @property
    def trim_zeroes(self) -> bool:
        """Whether what was trimmed reads as zeroes."""
        return self._remote.trim_zeroes

    @property
    def identity(self) -> str | None:
        """The serial number."""
        return self._remote.identity

    # The paths to it

    @property
    def paths(self) -> list[PathStatus]:
        """How the paths to the disk are."""
        return self._worker.look(lambda: self._remote.paths)

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far on all paths, by reason."""
        return self._worker.look(lambda: self._remote.counters)

    @property
    def peers(self) -> list[bytes]:
        """The MAC at the other end of each path."""
        return self._worker.look(lambda: self._remote.peers)

    def next_change(self) -> list[PathStatus]:
        """Wait until a path, the owner or the disk changes; how the paths are then."""
        return self._worker.call(self._remote.next_change())

    def prefer(self, name: str) -> None:
        """Make the usable path of that name the owner. RequestError if there is none."""
        self._worker.call(_soon(self._remote.prefer, name))

    def fenced(self, name: str) -> None:
        """The server at the other end of a path was made sure to do nothing any more."""
        self._worker.call(_soon(self._remote.fenced, name))

    @property
    def admin(self) -> "BlockingAdmin":
        """Config string, mask list and reservation."""
        return BlockingAdmin(self, self._worker, self._remote.admin)


class BlockingAdmin:
    """The verbs of `Admin`, each of which returns when it is done."""

    def __init__(self, disk: BlockingDisk, worker: _Worker, admin: Admin) -> None:
        self._disk = disk
        self._worker = worker
        self._admin = admin

    def config(self) -> bytes:
        """The config string."""
        return self._worker.call(self._admin.config())

    def set_config(self, text: bytes, *, force: bool = False) -> bytes:
        """Store a config string; TargetRefused if there is another one, unless forced."""
        return self._worker.call(self._admin.set_config(text, force=force))

    def test_config(self, text: bytes, *, prefix: bool = False) -> bool:
        """Whether every server's config string is `text`, or with `prefix` begins with it."""
        return self._worker.call(self._admin.test_config(text, prefix=prefix))

    def mask(self) -> list[bytes]:
        """The MACs that are served; empty means all."""
        return self._worker.call(self._admin.mask())

    def edit_mask(self, *, add: Iterable[bytes] = (), delete: Iterable[bytes] = ()) -> list[bytes]:
        """Add and delete MACs. RequestError if that would lock this host out."""
        return self._worker.call(self._admin.edit_mask(add=add, delete=delete))

    def reserved(self) -> list[bytes]:
        """The MACs that may do I/O; empty means all."""
        return self._worker.call(self._admin.reserved())

    def reserve(self, *, force: bool = False, more: Iterable[bytes] = ()) -> list[bytes]:
        """Reserve the disk for this host, and `more`; TargetRefused if another holds it, unless forced."""
        return self._worker.call(self._admin.reserve(force=force, more=more))

    def release(self, *, force: bool = False) -> list[bytes]:
        """Give the reservation up; TargetRefused if it is another host's, unless forced."""
        return self._worker.call(self._admin.release(force=force))


async def _soon(function: Callable[[str], None], name: str) -> None:
    function(name)


def _blocking(attach: Callable[P, AbstractAsyncContextManager[RemoteDisk]]) -> Callable[P, BlockingDisk]:
    """The twin of `attach`, with the same parameters."""
    signature = inspect.signature(attach).replace(return_annotation=BlockingDisk)

    def open(*addresses: P.args, **options: P.kwargs) -> BlockingDisk:
        """The one disk that is at all `addresses` ("e0.0"), for use from ordinary code:

        with aoe.open("e0.0", interface="eth0") as disk:
            disk.write(0, b"data")

        Options, and what it raises, are those of `attach`. A link of `aoe.link.memory` cannot be used: both
        its ends belong to one event loop.
        """
        try:
            signature.bind(*addresses, **options)
        except TypeError as error:
            raise TypeError(f"open() {error}") from None
        worker = _Worker("/".join(map(str, addresses)), attach(*addresses, **options))
        worker.start()
        try:
            remote = worker.opened.result()
        except BaseException:
            worker.end(urgent=True)
            raise
        return BlockingDisk(worker, remote)

    open.__signature__ = signature  # type: ignore[attr-defined]
    open.__qualname__ = open.__name__
    return open


open = _blocking(attach)
