"""Plays a target against order rule T5: what a change acknowledges is stored, drained and seen by all."""

import random
from collections.abc import Callable

from aoe.target.export import Job
from aoe.target.responder import Responder
from tests.target.driver import (
    CLIENT,
    RIVAL,
    STRANGER,
    Driver,
    Reply,
    config,
    make_driver,
    make_export,
    parse,
    reserve,
    write,
)

HOSTS = (CLIENT, RIVAL, STRANGER)
LBAS = 64


class FenceBroken(AssertionError):
    """A reply said more than was true."""


class Play:
    """Writes, reservations and config strings from three hosts; the disk and the store take their time.

    `before` holds, for each change on its way, the writes that were admitted before it; `stored` and
    `holders` are what a client may believe: what was stored and acknowledged last.
    """

    def __init__(self, make: Callable[[], Driver], seed: int) -> None:
        self.rng = random.Random(seed)
        self.driver = make()
        self.driver.held = True
        self.tag = 0
        self.open_writes: set[int] = set()
        self.before: dict[int, set[int]] = {}
        self.texts: dict[int, bytes] = {}
        self.stored = b""
        self.holders: list[bytes] | None = []
        self.reserving = 0

    def run(self, steps: int) -> None:
        actions = [self.write, self.finish, self.reserve, self.persist, self.force_text, self.ask_text]
        for _ in range(steps):
            self.rng.choices(actions, [6, 6, 1, 2, 1, 1])[0]()
        while self.driver.jobs or self.driver.changes:
            self.finish()
            self.persist()
        self.expect(not self.before, "a change was never answered")
        self.expect(self.driver.responder.active == 0, "something is left for ever")

    def send(self, raw: bytes) -> list[Reply]:
        return self.heard(self.driver.send(raw))

    def next_tag(self) -> int:
        self.tag += 1
        return self.tag

    def write(self) -> None:
        tag, src = self.next_tag(), self.rng.choice(HOSTS)
        admitted = self.driver.responder.active
        self.send(write(self.rng.randrange(LBAS), bytes(512), tag=tag, src=src))
        if self.driver.responder.active > admitted:
            self.open_writes.add(tag)

    def reserve(self) -> None:
        tag, src = self.next_tag(), self.rng.choice(HOSTS)
        macs = self.rng.sample(HOSTS, self.rng.randrange(3))
        self.before[tag] = set(self.open_writes)
        self.holders = None
        self.reserving += 1
        self.send(reserve(self.rng.choice([1, 2]), *macs, tag=tag, src=src))

    def force_text(self) -> None:
        tag = self.next_tag()
        self.before[tag] = set(self.open_writes)
        self.texts[tag] = b"text %d" % tag
        self.send(config(4, self.texts[tag], tag=tag))

    def ask_text(self) -> None:
        self.send(config(0, tag=self.next_tag()))

    def finish(self) -> None:
        if not self.driver.jobs:
            return
        job = self.rng.choice(self.driver.jobs)
        self.lands(job)
        self.heard(self.driver.finish(job))

    def persist(self) -> None:
        if not self.driver.changes:
            return
        ok = self.rng.random() < 0.8
        if ok:
            self.stored = self.driver.changes[0].verdict.state.config
        self.heard(self.driver.persist(ok))

    def lands(self, job: Job) -> None:
        """A write reaches the disk: of whom, once a reservation was acknowledged and none is on its way?"""
        header = job.arrival.header
        self.open_writes.discard(header.tag)
        if self.holders:
            self.expect(header.src in self.holders, f"a write of {header.src.hex()} after the reservation")

    def heard(self, frames: list[bytes]) -> list[Reply]:
        replies = [parse(raw) for raw in frames]
        for reply in replies:
            if reply.tag in self.before:
                self.acknowledged(reply)
            elif reply.command == 1:
                self.expect(reply.text == self.stored, f"{reply.text!r} was shown, {self.stored!r} is stored")
        return replies

    def acknowledged(self, reply: Reply) -> None:
        before = self.before.pop(reply.tag)
        refused = reply.error in (2, 6)
        self.expect(refused or not before & self.open_writes, "acknowledged before earlier writes were done")
        if reply.command == 1:
            wanted = self.texts[reply.tag] if not reply.error else self.stored
            self.expect(reply.text == wanted == self.stored, "acknowledged and not stored")
            return
        self.reserving -= 1
        self.holders = reply.listed if not self.reserving and reply.error != 3 else None

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise FenceBroken(what)


def play(responder_class: type[Responder], seeds: range, steps: int = 150) -> None:
    def make() -> Driver:
        driver = make_driver(make_export(places=2))
        driver.responder.__class__ = responder_class
        return driver

    for seed in seeds:
        Play(make, seed).run(steps)
