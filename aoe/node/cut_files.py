"""Files for snapshots of disks that are served: without a name until they are whole, so that nothing is left
of one that never is."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple

from aoe import limits, timing
from aoe.disk.threads import begin
from aoe.errors import ConfigurationError, NoThread, PoolError
from aoe.node.chores import Facts
from aoe.node.pools import Pools
from aoe.pool import names
from aoe.pool.adopting import Keep
from aoe.pool.requests import Cut
from aoe.pool.volume import FOR_CLONE, Image
from aoe.pool.work import Work, failed, fresh_id


class _File(NamedTuple):
    """One that is being filled, and what it is to be."""

    pool: str
    uuid: str
    snapshot: str
    made: str
    cause: str
    image: Image
    fd: int
    held: ExitStack


class CutFiles:
    """Those of one process, by numbers. Its methods block."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._them: dict[int, _File] = {}

    def begin(self, pool: str, request: Cut, cause: str) -> Facts:
        """Make one, where there may be such a snapshot: its `number`. ConfigurationError, PoolError."""
        if len(self._them) >= limits.CUT_GROUP_MAX:
            raise ConfigurationError(f"{limits.CUT_GROUP_MAX} snapshots are under way; wait for one of them")
        with self._pools.turn(pool) as work:
            named = _named(work, request, cause)
            work.plan(named)
            number = secrets.randbits(48)  # another opener has others
            self._them[number] = _opened(pool, work, named, cause)
        return {"number": number}

    def file(self, number: int) -> int:
        """A descriptor of it, to be filled. ConfigurationError, OSError."""
        return os.dup(self._found(number).fd)

    def end(self, number: int, *, whole: bool) -> Facts:
        """It is whole, and becomes the snapshot: its name, and what was `done`; or it is not, and goes.
        ConfigurationError, PoolError: then it goes, too."""
        file = self._found(number)
        del self._them[number]
        try:
            if not whole:
                return {"snapshot": file.snapshot, "done": ""}
            with self._pools.turn(file.pool) as work:
                return {"snapshot": file.snapshot, "done": _kept(work, file)}
        finally:
            _leave(file)

    def _found(self, number: int) -> _File:
        file = self._them.get(number)
        if file is None:
            raise ConfigurationError("the opener ended meanwhile, and with it the snapshot; try again")
        return file


def _named(work: Work, request: Cut, cause: str) -> Cut:
    """One for a clone has a name of its own."""
    if cause != FOR_CLONE:
        return request
    taken = [it.name for it in work.tree.volume(request.volume).snapshots]
    return replace(request, snapshot=names.fresh(request.snapshot, taken))


def _opened(pool: str, work: Work, request: Cut, cause: str) -> _File:
    held = ExitStack()
    volume = work.tree.volume(request.volume)
    image = replace(volume.head, id=fresh_id())
    try:
        fd = held.enter_context(work.store.unnamed(image))
    except OSError as error:
        raise failed(work.store.said, "making a file", error) from error
    made = work.standing().now
    return _File(pool, volume.uuid, request.snapshot, made, cause, image, fd, held)


def _kept(work: Work, file: _File) -> str:
    image = replace(file.image, size=os.fstat(file.fd).st_size)
    request = Keep(file.uuid, file.snapshot, image, file.made, file.cause)
    work.plan(request)
    try:
        with _only_read(file) as fd:
            work.store.name(fd, image)
    except OSError as error:
        raise failed(work.store.said, "naming a snapshot", error) from error
    return work.do(request).done


@contextmanager
def _only_read(file: _File) -> Iterator[int]:
    """The same file, which no process can write any more: what has filled it could go on. OSError,
    PoolError."""
    fd = os.open(f"/proc/self/fd/{file.fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        file.held.close()
        until_s = time.monotonic() + timing.CUT_LEFT_S
        while _is_written(fd):
            if time.monotonic() > until_s:
                raise PoolError(f"snapshot {file.snapshot}: what has filled it has it open still; try again")
            time.sleep(timing.CUT_LEFT_LOOK_S)
        yield fd
    finally:
        os.close(fd)


def _is_written(fd: int) -> bool:
    """Whether a process has a file open for writing: there is no lease for reading then (fcntl(2))."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:  # a file system without leases
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _leave(file: _File) -> None:
    """To give back the blocks of a file may take long."""
    try:
        begin(file.held.close, "close")
    except NoThread:
        file.held.close()
