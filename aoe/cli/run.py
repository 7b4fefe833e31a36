"""`aoe-target run`: serve what a file says, as a service, until a signal ends it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aoe import limits, timing
from aoe.cli import stdio
from aoe.cli.allowed import Allowed
from aoe.cli.apart import Apart
from aoe.cli.hearing import Hearing
from aoe.cli.journal import log_as_json
from aoe.cli.node_verbs import NodeVerbs
from aoe.cli.privilege import allow_descriptors
from aoe.cli.report import Report
from aoe.cli.rights import owner_of, rights_of
from aoe.cli.serve import (
    OPEN_ALWAYS,
    announce,
    guarded,
    open_target,
    print_counters,
    refresh,
    warn_of_damage,
)
from aoe.cli.wanted import Wanted
from aoe.config.values import Config, TargetConfig
from aoe.control import place
from aoe.control.listening import Seat
from aoe.control.rights import Rights
from aoe.control.server import ControlServer
from aoe.control.written import Written
from aoe.errors import AoeError, ConfigurationError
from aoe.link.base import Link
from aoe.node import life
from aoe.node.alone import Alone
from aoe.node.done import Done
from aoe.node.drains import Drains
from aoe.node.exposing import DESCRIPTORS as METRICS_OPEN
from aoe.node.exposing import NAME as METRICS
from aoe.node.exposing import Exposing
from aoe.node.hands import Live
from aoe.node.held import Held, Kind
from aoe.node.held_addresses import HeldAddresses
from aoe.node.held_stores import HeldStores
from aoe.node.links import Names
from aoe.node.node import Node
from aoe.node.notify import Notifier
from aoe.node.state import State
from aoe.node.store_life import name_of_life
from aoe.target.accelerator import EngineOptions
from aoe.target.marks import Marks
from aoe.target.records import default_directory
from aoe.target.server import TargetOptions
from aoe.target.target import Target

log = logging.getLogger("aoe.node")

_EACH, _ON_EACH_LINK = 4, 2
"""Descriptors of an export: its disk's, its lock's, its record's; on each interface its address lock. What
the service manager is to hold is there twice until it has it."""


class Run(NamedTuple):
    """The words behind `run`."""

    config: Path
    socket: Path | None
    opener: Path | None
    metrics: str | None
    json: bool
    verbose: bool

    def run(self, report: Report) -> int:
        """Serve. 0 after a clean stop, 1 if work was left behind, 2 if it could not start."""
        report.as_json = self.json
        return guarded(lambda: _Daemon(self, report).run(), report, verbose=self.verbose)


class _Daemon:
    def __init__(self, said: Run, report: Report) -> None:
        """ConfigurationError for fewer descriptors than there have to be whatever the file says: an event
        loop and an opener without them end in a traceback."""
        allow_descriptors(descriptors(0, 0, TargetConfig(engine="python")))
        self._said = said
        self._report = report
        self._notifier = Notifier.of(os.environ)
        self._links: list[Link] = []
        self._socket = said.socket or place.daemons()
        self._owner = owner_of(said.config)
        changes = place.changes_of(self._owner, self._socket)
        self._held = Held.of(os.environ, self._notifier)
        allowed = Allowed(said.config, changes)
        hear = Hearing(allowed, said.config, self._socket)
        self._apart = Apart(allowed, hear, said.opener, self._held, self._socket)
        by = self._apart.by
        self._alone = Alone(lambda: by.text("file"))
        written = Written(changes, lambda: by.text("changes"))
        self._wanted = Wanted(said.config, self._content, written.read, allowed.reader)
        self._changes = str(changes)

    def _content(self) -> bytes:
        return self._alone.read(self._said.config)

    async def run(self) -> bool:
        """Whether nothing was left behind."""
        life_name = self._life_name = name_of_life(self._held)  # held first of all
        self._held.pause()
        self._exposing = Exposing(self._held.given(METRICS))
        unknown = self._held.drop_unknown()
        self._addresses = HeldAddresses(self._held, self._apart.by)
        self._blank = life.blank()
        with self._alone, closing(self._apart):
            wanted = self._wanted.load()
            target = wanted.target
            self._report.as_json |= target.json
            if self._report.as_json:
                log_as_json()
            if not self._said.verbose:
                logging.getLogger("aoe").setLevel(target.log_level.upper())
            directory = Path(target.state_dir) if target.state_dir else default_directory()
            self._alone.keep(directory)
            wanted = self._wanted.keep(directory, wanted)
            state = State(directory)
            self._marks = Marks(directory, life_name) if life_name else None
            warn_of_damage(state.records)
            names = Names(wanted, self._apart.by.look, self._apart.by.only)
            allow_descriptors(descriptors(len(wanted.exports), len(names.all), target), for_good=True)
            if self._notifier.is_managed:
                unknown += HeldStores(self._held).go_on(self._apart.by)
            for name in unknown:
                log.warning("%s is of another version of the service: closed, and opened afresh", name)
            node = Node(self._said.config, self._apart.by, state, self._announce)
            self._state_dir = directory
            return await self._serve(node, wanted, names)

    async def _serve(self, node: Node, wanted: Config, names: Names) -> bool:
        seat = Seat(self._socket)
        try:
            prepared = node.prepare(wanted)
            if prepared.plan.problems:
                raise ConfigurationError("; ".join(it.sentence for it in prepared.plan.problems))
            self._links = node.open_links(names)
            how = wanted.target
            self._exposing.open(self._said.metrics or how.metrics)
            rights = self._rights(wanted)
            legacy, paused = life.take(self._held), self._apart.sockets.went_on
            target = open_target(
                self._links,
                _options(how),
                how.engine,
                _threads(how),
                confined=partial(self._apart.confine, self._state_dir),
                system=self._addresses,
                legacy=legacy,
                paused=paused,
                marks=self._marks,
            )
        except BaseException:
            node.give_up()
            seat.close()
            self._exposing.close()
            raise
        stdio.start()
        self._node = node
        drains = Drains(target, self._state_dir, self._life_name)
        verbs = NodeVerbs(node, self._wanted, drains, self._changed, self._tell, self._apart.by.group)
        self._apart.serving()
        async with ControlServer(seat, verbs, rights) as self._server:
            try:
                self._say(await node.start(target), at_start=True)
                self._apart.started()
                stopped = self._listen(node, verbs)  # what is told that it is ready may signal at once
                self._begin(target, paused=paused)
                async with self._exposing.serve(node):
                    await stopped.wait()
                self._notifier.stopping()
            finally:
                clean = await node.stop()
        await self._leave(target)
        print_counters(node.target, self._report)
        if not clean:
            stdio.complain("aoe-target", f"{node.target.left_behind} requests hang in the disk")
        return clean

    def _begin(self, target: Target, *, paused: bool) -> None:
        if paused:
            target.resume()
        self._held.let_go(Kind.IMAGES)
        for name in (*self._held.leave(), *self._addresses.leave(self._node.unserved)):
            log.info("%s: of an earlier life of the service, and of no use to this one", name)
        self._notifier.ready()
        self._held.go_on()
        if self._notifier.watchdog_s:
            target.server.spawn(self._stay_alive())

    async def _stay_alive(self) -> None:
        while True:
            self._notifier.alive()
            await asyncio.sleep(self._notifier.watchdog_s)
            self._tell()

    def _tell(self) -> None:
        if self._notifier.is_managed:
            self._notifier.status(self._node.sentence)

    async def _leave(self, target: Target) -> None:
        """To the next life, if this one ended with everything answered."""
        if target.legacy:
            life.leave(target.legacy, self._held, self._blank)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._held.settled(), timing.LEAVE_S)
        self._held.close()
        if self._notifier.is_managed:
            log.info("the next start finds sockets, locks and instances held; systemctl stop lets go of them")

    def _listen(self, node: Node, verbs: NodeVerbs) -> asyncio.Event:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        handlers: dict[int, Callable[[], None]] = {
            signal.SIGTERM: stopped.set,
            signal.SIGINT: stopped.set,
            signal.SIGHUP: lambda: node.target.server.spawn(self._reload(node, verbs)),
            signal.SIGUSR1: lambda: print_counters(node.target, self._report),
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        return stopped

    async def _reload(self, node: Node, verbs: NodeVerbs) -> None:
        """As `apply`, but for the changes beside the file, which only their owner's command can end. Look at
        the sizes of the disks again, too."""
        try:
            done = await verbs.reload("SIGHUP")
            lines = (*done.said, *(f"stays: {it}; aoe-target apply ends it" for it in await verbs.stays()))
            self._report.say("\n".join(lines), event="applied", **done.facts)
        except AoeError as error:
            self._report.fail(error)
        self._tell()
        await refresh(node.target, self._report)

    def _changed(self, wanted: Config) -> None:
        self._server.rights = self._rights(wanted)

    def _rights(self, wanted: Config) -> Rights:
        return rights_of(wanted, self._owner, self._changes, self._apart.by.group)

    def _announce(self, one: Live) -> None:
        target = self._node.target
        announce(self._report, target, one.export, target.server.links_of(one.export))

    def _say(self, done: Done, *, at_start: bool = False) -> None:
        """At the start only what is not as wanted."""
        event = "started" if at_start else "applied"
        if not at_start or done.exit:
            lines = done.sentences if not at_start else [it for it in done.sentences if ": serve " not in it]
            self._report.say("\n".join(lines), event=event, **done.facts())
        self._tell()
        if at_start:
            self._report.say("ready", event="ready", number=done.number)


def descriptors(exports: int, links: int, target: TargetConfig) -> int:
    """How many are open at most."""
    threads = 0 if target.engine == "python" else _threads(target).threads
    always = OPEN_ALWAYS + METRICS_OPEN + limits.OPENER_DESCRIPTORS_MAX  # of one answer, twice for a moment
    return always + (_EACH + _ON_EACH_LINK * links) * exports + links * (4 + threads) + 3 * threads


def _options(target: TargetConfig) -> TargetOptions:
    return TargetOptions(
        target.max_frame_age,
        target.buffer_count,
        target.remote_admin,
        target.remote_masks,
        links_come=True,
    )


def _threads(target: TargetConfig) -> EngineOptions:
    spin_us = limits.SPIN_US if target.spin else 0
    return EngineOptions(len(target.cpus) or target.threads, target.cpus, spin_us)
