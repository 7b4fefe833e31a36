"""Disks in images whose process ended, and which another one serves: what clients are told of that."""

import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from functools import partial

from aoe.disk.image import ImageDisk
from aoe.errors import DiskError, Outdated
from aoe.metrics.snapshot import ExportNumbers
from aoe.target.export import Export, Job
from aoe.target.losses import Losses
from aoe.target.served import Served
from aoe.target.system import System

log = logging.getLogger("aoe.target")


class Returned:
    """Of one server, which `tells` what it serves otherwise from now on, and `fences` exports."""

    def __init__(
        self,
        system: System,
        numbers: Callable[[Export], ExportNumbers],
        tells: Callable[[Export], None],
        fences: Callable[[Export], Coroutine[None, None, None]],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._system = system
        self._numbers = numbers
        self._tells = tells
        self._fences = fences
        self._spawn = spawn
        self._losses: dict[Export, Losses] = {}

    def admit(self, one: Served) -> None:
        """It is about to be served."""
        if isinstance(one.disk, ImageDisk):
            again = partial(self._system.image_again, one.export.key)
            one.disk.serve(again, partial(self._came, one.export, one.disk))
            if one.disk.lost and one.export.identity.cache_on:
                self._lose(one.export, (), others=True)
                log.warning("%s: what served its image had ended before this start", one.export.address)

    def dismiss(self, export: Export) -> None:
        """It is not served any more."""
        self._losses.pop(export, None)

    def _came(self, export: Export, disk: ImageDisk) -> None:
        """Another process serves it, and nothing was asked of that yet. What was acknowledged and not flushed
        may be lost."""
        if export.identity.cache_on:
            numbers = self._numbers(export)
            writers = [it.mac for it in numbers.clients if it["written_bytes"]]
            self._lose(export, writers, others=bool(numbers.other_written))
        log.warning("%s: what serves its image ended, and does again", export.address)
        self._tells(export)
        self._spawn(self._settle(export, disk))

    def _lose(self, export: Export, writers: Iterable[bytes], *, others: bool) -> None:
        losses = self._losses.setdefault(export, Losses())
        losses.lose(writers, others=others)
        export.renew(secrets.randbits(64))
        export.ask_flushes(losses.any)

    async def _settle(self, export: Export, disk: ImageDisk) -> None:
        await self._fences(export)
        disk.let_go()

    def vouch(self, job: Job) -> None:
        """A job that flushed is done. Outdated where its client has to learn first that its disk is another
        instance, DiskError where what it had written may be lost."""
        losses = self._losses.get(job.export)
        if losses is None or job.operation.extents:
            return
        mac = job.arrival.header.src
        if job.instance not in (None, job.export.identity.instance):
            raise Outdated
        if job.instance is not None:
            losses.knows(mac)
        elif losses.fails(mac):
            raise DiskError("what was written before may be lost: what serves the image ended", 0)
        if not losses.any:
            del self._losses[job.export]
            job.export.ask_flushes(False)
            self._tells(job.export)
