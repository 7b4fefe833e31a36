"""The arithmetic in C against the one in Python, in virtual time: the same frames, results and states, at
every step of long random lives with losses, late and repeated frames, restarts, growth, cut links, nonsense.
"""

import heapq
import itertools
import os
import random
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import pytest

from aoe import limits
from aoe.drive import identify
from aoe.drive.command import STAMPED
from aoe.drive.identify import NO_STORE_ID, Identity, StoreId
from aoe.initiator.channel import USER_TAG
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.debts import Legacy
from aoe.initiator.life import State
from aoe.initiator.path import Policy, Port
from aoe.initiator.request import Verb
from aoe.initiator.sizes import Narrow
from aoe.target.streams import Place, Streams
from aoe.timing import USUAL, Timing
from aoe.wire import ata, config, frame
from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_ERROR, FLAG_RESPONSE, Command, Header
from aoe.wire.stamp import Stamp, stamp_of
from tests.support.tools import need_engine

pytestmark = pytest.mark.timeout(900)

MS = 1_000_000
ADDRESSES = [(1, 0), (2, 0)]
SECTORS = 512
SEEDS = int(os.environ.get("AOE_DIFFERENTIAL_SEEDS", "32"))
STEPS = 400
FORGED = (0, 3, 5, 7)
DRAINED = (5, 8, 25, 30, 36)
"""Seeds of worlds in which there is a server to go to."""

_WORDS = {"no_fua": (84, 0x4000), "no_flush": (83, 0x4400), "no_trim": (169, 0)}
STORES = [StoreId(kind, digest * 16) for kind in (1, 6) for digest in (b"a", b"b")]
_NONSENSE = {"no_lba": (49, 0), "large": (103, 1), "lba28": (83, 0x7000)}


def sealed(data: bytearray) -> bytes:
    """With the right checksum."""
    data[511] = -sum(data[:511]) & 0xFF
    return bytes(data)


class Server:
    """A target: answers as its seed has it."""

    def __init__(self, rng: random.Random, number: int, ports: list[int], disk: bytearray) -> None:
        self.rng = rng
        self.disk = disk
        self.store = disk
        self.mac = bytes((2, 0, 0, 0, 1, number))
        self.address = rng.choice(ADDRESSES)
        self.ports = ports
        self.silent = False
        self.stuck = False
        self.sectors = SECTORS
        self.serial = "S" if rng.random() < 0.85 else "T"
        self.cache = rng.random() < 0.2
        self.foreign = rng.random() < 0.3
        self.lacks = [name for name in _WORDS if rng.random() < 0.2]
        self.nonsense = rng.choice(["", "", "", "", "checksum", *_NONSENSE])
        self.frame = rng.choice([16, 16, 16, 8, 2, 0])
        self.buffers = rng.choice([1, 4, 16, 64, 200])
        self.draining = False
        self.streams: Streams | None = None
        self.places = rng.choice([0, 1, 1000, 1000])
        """Of how many streams each of its lives knows."""
        self.start()

    def start(self) -> None:
        """As after a restart."""
        self.instance = self.rng.getrandbits(64)
        self.store = self.rng.choice([self.disk, self.disk, self.disk, self.clone()])
        self.store_id = self.rng.choice([NO_STORE_ID, NO_STORE_ID, *STORES])
        self.streams = Streams() if self.rng.random() < 0.7 else None
        self.trims = self.instance % 3 > 0  # else it is of the version before
        self.tells = self.instance % 2 > 0  # else it is of the version before
        self.alone = self.rng.random() < 0.5

    def forget(self) -> None:
        """Our stream, and nothing else."""
        self.streams = self.streams and Streams()

    def end_epochs(self) -> None:
        """As another host does that sends a FLUSH in our name: our changes are dropped, and nothing else."""
        for it in self.streams.left() if self.streams else ():
            assert self.streams is not None
            self.streams.see(it.mac, Stamp(it.number, (it.epoch + 100) & 0xFF, 0), it.newest, 0)

    def suit(self) -> None:
        """Nothing but what it stores keeps it from being a path."""
        self.serial, self.nonsense, self.cache, self.frame = "S", "", False, 16
        self.store = self.rng.choice([self.disk, self.clone()])
        self.store_id = self.rng.choice([NO_STORE_ID] * 5 + STORES)

    def clone(self) -> bytearray:
        """Of the disk, as it is, or with a sector that is not."""
        clone = bytearray(self.disk)
        if self.rng.random() < 0.7:
            clone[self.rng.randrange(len(clone))] ^= 1
        return clone

    def identity(self, streams: bool = False) -> bytes:
        words = Identity(
            self.sectors,
            self.serial,
            trim_blocks=2,
            cache=self.cache,
            cache_on=self.cache,
            frame_age_ms=1000,
            instance=self.instance,
            streams=streams,
            store_id=self.store_id,
            alone=self.alone,
            draining=self.draining,
        )
        data = bytearray(identify.build(words))
        for name in self.lacks:
            word, value = _WORDS[name]
            data[2 * word : 2 * word + 2] = value.to_bytes(2, "little")
        if not self.trims:
            data[276] &= ~identify.VENDOR_TRIMS
        if self.foreign:
            data[258:262] = b"none"
        if self.nonsense in _NONSENSE:
            word, value = _NONSENSE[self.nonsense]
            data[2 * word : 2 * word + 2] = value.to_bytes(2, "little")
        return bytes(data) if self.nonsense == "checksum" else sealed(data)

    def _said_to(self, place: Place | None) -> bytes:
        """To one whose stream has that place."""
        data = self.identity(place is not Place.NONE)
        tells = self.tells and place in (Place.KNOWN, Place.ANEW) and self.nonsense != "checksum"
        return identify.heeding(data) if tells else data

    def answer(self, raw: bytes) -> bytes | None:
        header = frame.decode(raw)
        assert isinstance(header, Header)
        if self.silent or raw[:6] not in (self.mac, BROADCAST) or (header.shelf, header.slot) != self.address:
            return None
        back = header._replace(dst=header.src, src=self.mac, flags=FLAG_RESPONSE)
        if header.command == Command.CONFIG:
            said = Config(ConfigCommand.READ, b"text", self.buffers, 7, self.frame, 1)
            return frame.encode(back, config.encode(said))
        if header.command != Command.ATA:
            return frame.encode(back, raw[24:26] + bytes(30))
        request = ata.decode_request(raw)
        assert isinstance(request, AtaRequest)
        if self.streams is not None and self._drops(self.streams, header.src, raw, request.command):
            return None
        return None if self.stuck and request.command != 0xEC else self._drive(back, request, raw)

    def _drops(self, streams: Streams, src: bytes, raw: bytes, opcode: int) -> bool:
        stamp, tag = stamp_of(raw), int.from_bytes(raw[20:24], "big")
        if stamp is None or opcode not in STAMPED or (opcode == 0x06 and not self.trims):
            return False
        if stamp.instance != self.instance or streams.stale(src, stamp, tag):
            return True
        streams.see(src, stamp, tag, 0)
        return False

    def _registers(self, src: bytes, raw: bytes) -> Place | None:
        """What an IDENTIFY comes to that names its stream; None where it names none."""
        if self.streams is None:
            return Place.NONE
        stamp, tag = stamp_of(raw), int.from_bytes(raw[20:24], "big")
        if stamp is None or stamp.instance != self.instance:
            return None
        assert stamp.stream
        self.places -= 1
        return self.streams.register(src, stamp, tag, 0, 1) if self.places > 0 else Place.NONE

    def _drive(self, back: Header, request: AtaRequest, raw: bytes) -> bytes:
        chance = self.rng.random()
        if chance < 0.01:
            return frame.encode(back._replace(flags=FLAG_RESPONSE | FLAG_ERROR, error=6))
        if chance < 0.02:
            return frame.encode(back, ata.encode(AtaReply(0, 0x40, 0, 0x41, request.lba + 1)))
        data = b""
        if request.command in (0x24, 0x34, 0x3D, 0x06) and request.sector_count > (self.frame or 2):
            if self.foreign:
                return frame.encode(back._replace(flags=FLAG_RESPONSE | FLAG_ERROR, error=2))
            return frame.encode(back, ata.encode(AtaReply(0, 4, 0, 0x41, request.lba)))
        if request.command == 0xEC:
            data = self._said_to(self._registers(back.dst, raw))
        elif request.command == 0x24:
            at, size = request.lba * 512, request.sector_count * 512
            data = bytes(self.store[at : at + size]).ljust(size, b"\0")
        elif request.command in (0x34, 0x3D):
            self.store[request.lba * 512 : request.lba * 512 + len(request.data)] = request.data
        reply = frame.encode(back, ata.encode(AtaReply(0, 0, 0, 0x40, request.lba, data)))
        return reply[:40] if chance < 0.025 else reply + bytes(self.rng.choice([0, 0, 4]))

    def advertisement(self) -> bytes:
        header = Header(BROADCAST, self.mac, 0, FLAG_RESPONSE, 0, *self.address, Command.CONFIG, 0)
        said = Config(ConfigCommand.READ, b"", self.buffers, 7, self.frame, 1)
        return frame.encode(header, config.encode(said))


class Both(NamedTuple):
    """One and the same request, in either language."""

    python: Any
    c: Any


def timing_of(rng: random.Random) -> Timing:
    """Mostly the usual one; else all twice as fast or as slow, and servers that are given up sooner."""
    twice, parts = rng.choice([(2, 2), (2, 2), (2, 2), (1, 2), (4, 2)])
    scaled = Timing(*(ns * twice // parts for ns in USUAL))
    return scaled._replace(slow_ns=scaled.dead_ns) if rng.random() < 0.1 else scaled


class World:
    """Drives both, and compares them after every step."""

    def __init__(self, seed: int, often: float = 0, dies: float = 0) -> None:
        """At `often` of its steps an administrator drains a server, at `dies` of them we die."""
        self.often = often
        self.dies = dies
        self.rng = rng = random.Random(seed)
        failback_ns = rng.choice([None, None, None, 2_000 * MS, 0])
        policy = Policy(rng.random() < 0.3, rng.random() < 0.2, failback_ns, rng.random() < 0.2)
        policy = policy._replace(background=seed % 2 == 1, timing=timing_of(random.Random(-2 - seed)))
        ports = rng.choice([1, 2, 2, 3])
        first_tag = rng.getrandbits(31)
        self.policy = policy
        self.deaths = random.Random(-4 - seed)
        self.begin(ports, first_tag, Legacy())
        self.now = 1_000_000 * MS
        self.lose = rng.choice([0, 0.02, 0.3])
        self.slow_ms = rng.choice([1, 20, 400])
        self.up = [True] * ports
        self.switch = [9000] * ports
        disk = bytearray(rng.randbytes(SECTORS * 512))
        self.seen: Counter[str] = Counter()
        self.servers = [
            Server(rng, number, [port for port in range(ports) if rng.random() < 0.8] or [0], disk)
            for number in range(rng.choice([1, 2, 3, 5]))
        ]
        self.calm = rng.random() < 0.5
        for server in self.servers if self.calm else []:
            server.suit()
        self.macs = 0
        self.switches = random.Random(-1 - seed)
        self.drains = random.Random(-3 - seed)
        self.last = 0
        """Number of the owner."""
        self.on_channel = self.switches.choice([-1, *range(ports)])
        """The port whose switches lose large frames on the way there only."""
        self.coming: list[tuple[int, int, int, bytes]] = []
        self.numbers = itertools.count()
        self.open: list[Both] = []
        self.ended = 0
        self.renewed = self.narrow = False
        self.sent = 0
        for port in range(ports):
            self.plug(port, True)
        if rng.random() < 0.25:
            self.crowd()

    def begin(self, ports: int, first_tag: int, legacy: Legacy) -> None:
        """A life."""
        self.python = Core(ports, ADDRESSES, first_tag, self.policy, legacy)
        self.c = CompiledCore(ports, ADDRESSES, first_tag, self.policy, legacy)

    def die(self) -> None:
        """The next life is told what this one had under way."""
        self.seen["left behind"] += len(self.python.debts)
        self.open.clear()
        self.begin(len(self.up), self.deaths.getrandbits(31), Legacy(tuple(self.python.debts), self.now))
        self.now += self.deaths.choice([20, 300, 5000]) * MS
        for port, up in enumerate(self.up):
            self.plug(port, up)

    def crowd(self) -> None:
        """Servers that tell of themselves and are gone: nearly as many as there may be."""
        for number in range(limits.PATHS_MAX - 1):
            header = Header(BROADCAST, bytes((2, 0, 0, 2, 0, number)), 0, FLAG_RESPONSE, 0, 1, 0, 1, 0)
            raw = frame.encode(header, config.encode(Config(ConfigCommand.READ, b"", 16, 7, 16, 1)))
            self.both("received", self.rng.randrange(len(self.up)), raw)

    def both(self, what: str, *arguments: Any) -> None:
        getattr(self.python, what)(*arguments, self.now)
        getattr(self.c, what)(*arguments, self.now)
        self.compare()

    def compare(self) -> None:
        frames, others = list(self.python.out), list(self.c.out)
        self.python.out.clear()
        self.c.out.clear()
        assert by_path(frames) == by_path(others)
        while self.python.done:
            assert self.c.done
            one, other = self.python.done.popleft(), self.c.done.popleft()
            assert one.result == other.result
            if one.result is not None and one.result.data:
                assert len(one.result.data) == len(other.result.data)
            self.open = [both for both in self.open if both.python is not one]
            assert all(both.c is not other for both in self.open), "another one ended"
            self.ended += 1
        assert not self.c.done
        paths = self.python.paths
        assert paths == self.c.paths
        self.renewed |= any(path.renewed for path in paths)
        self.narrow |= any(path.narrow > Narrow.TRIED for path in paths)
        assert self.python.news == self.c.news
        assert self.python.chosen == self.c.chosen
        assert self.python.comparing == self.c.comparing
        assert self.python.pulse_ns == self.c.pulse_ns
        assert self.python.identity == self.c.identity
        assert +self.python.counters == self.c.counters
        assert self.python.debts == self.c.debts
        assert self.python.left == self.c.left
        self.sent += len(frames)
        chosen = self.python.chosen
        self.seen["proved"] += chosen and any(path.proved and not path.owner for path in paths)
        self.seen["unproved owner"] += any(path.owner and not path.proved for path in paths)
        self.seen.update(path.reason.name for path in paths)
        self.look_for_handovers()
        for port, raw in frames:
            self.carry(port, raw)

    def look_for_handovers(self) -> None:
        owner, paths = self.python.session.owner, self.python.session.paths
        last = next((path for path in paths if path.number == self.last), None)
        self.last = owner.number if owner else 0
        if owner and last and last is not owner and last.state is State.USABLE:
            self.seen["handed over"] += last.draining and not owner.draining
        self.seen["hands over"] += self.python.session.heir is not None

    def carry(self, port: int, raw: bytes) -> None:
        if not self.up[port] or len(raw) > self.switch[port]:
            return
        for server in self.servers:
            if port in server.ports and self.rng.random() >= self.lose:
                answer = server.answer(raw)
                copies = self.rng.choice([1, 1, 1, 1, 2])
                for _ in range(copies if answer and self.rng.random() >= self.lose else 0):
                    assert answer is not None
                    self.arrive(port, answer)

    def arrive(self, port: int, raw: bytes) -> None:
        if len(raw) > self.switch[port] and self.on_channel != port:
            return
        late = self.rng.random() ** 4 * self.slow_ms * MS
        if self.rng.random() < 0.01:
            late += 1500 * MS
        heapq.heappush(self.coming, (self.now + int(late), next(self.numbers), port, raw))

    def plug(self, port: int, up: bool) -> None:
        self.up[port] = up
        self.macs += self.rng.random() < 0.1
        mac = bytes((2, 0, 0, 0, 9 + self.macs, port))
        sectors, window = self.rng.choice([16, 16, 16, 17, 8, 2, 1]), self.rng.choice([8, 64])
        self.both("set_port", port, Port(mac, sectors, window, up))

    def ask(self) -> None:
        rng = self.rng
        verb = rng.choice([Verb.READ, Verb.WRITE, Verb.WRITE, Verb.WRITE_FUA, *Verb])
        offset = rng.randrange(SECTORS * 512)
        length = rng.choice([0, 1, 512, 4096, 8192, 8192, 30_000, 100_000])
        if rng.random() < 0.7:
            offset, length = offset // 4096 * 4096 % 65536, length // 512 * 512
        data, number = b"", 0
        if verb in (Verb.WRITE, Verb.WRITE_FUA):
            data = rng.randbytes(length)
        elif verb is Verb.TRIM and rng.random() < 0.3:
            offset, length = 0, SECTORS * 512
        elif verb in (Verb.FLUSH, Verb.IDENTIFY):
            offset = length = 0
        elif verb is Verb.ASK:
            if not self.python.session.paths:
                return
            offset, length, data = rng.choice([(2, 28, bytes(4)), (1, 32, bytes(60)), (3, 26, bytes(2))])
            number = rng.choice(self.python.session.paths).number
        one = self.python.start(verb, offset, length, data, self.now, number)
        other = self.c.start(verb, offset, length, data, self.now, number)
        self.open.append(Both(one, other))

    def stop(self) -> None:
        """Nothing of ours runs for a while. What was not sent by then is made anew."""
        if self.rng.random() < 0.7:
            self.ask()
        self.now += self.rng.choice([400, 600, 1200, 5000, 34_000]) * MS
        assert self.python.own_time_ns(self.now) == self.c.own_time_ns(self.now)
        self.compare()

    def step(self) -> None:
        rng = self.rng
        if self.switches.random() < 0.01:
            port = self.switches.randrange(len(self.up))
            self.switch[port] = self.switches.choice([9000, 9000, 4300, 1514, 1000])
        for server in self.servers if self.switches.random() < 0.05 else []:
            server.forget()
        for server in self.servers if self.switches.random() < 0.12 else []:
            server.end_epochs()
        if self.drains.random() < self.often:
            self.drain()
        if self.deaths.random() < self.dies:
            self.die()
        chance = rng.random()
        if chance < 0.35:
            self.ask()
            self.compare()
        elif chance < 0.4 and self.open:
            gone = self.open.pop(rng.randrange(len(self.open)))
            self.python.abandon(gone.python, self.now)
            self.c.abandon(gone.c, self.now)
            self.compare()
        elif chance < 0.415:
            self.plug(rng.randrange(len(self.up)), rng.random() < 0.85)
        elif chance < 0.45:
            self.upset(rng.choice(self.servers))
        elif chance < 0.46 and self.python.session.paths:
            path = rng.choice(self.python.session.paths).number
            assert self.python.switch(path, self.now) == self.c.switch(path, self.now)
            self.compare()
        elif chance < 0.465 and self.python.session.paths:
            self.both("fenced", rng.choice(self.python.session.paths).number)
        elif chance < 0.48:
            self.nonsense()
        elif chance < 0.483:
            self.stop()
        self.live(rng.choice([1, 1, 5, 5, 20, 300]) * MS)

    def drain(self) -> None:
        """The owner's server, or any, and seldom two. Mostly all of them have the disk."""
        for server in self.servers if self.drains.random() < 0.8 else []:
            server.suit()
            server.silent = server.stuck = server.foreign = False
            server.store, server.store_id = server.disk, NO_STORE_ID
        owner = [server for server in self.servers if server.mac in self.owners()]
        drained = self.drains.choice(owner or self.servers)
        for server in self.servers:
            before = server.draining
            server.draining = server is drained or self.drains.random() < 0.1
            if before is not server.draining and not server.silent:
                self.arrive(self.drains.choice(server.ports), server.advertisement())

    def owners(self) -> list[bytes]:
        return [path.mac for path in self.python.paths if path.owner]

    def upset(self, server: Server) -> None:
        rng = self.rng
        server.silent = rng.random() < 0.3
        server.stuck = rng.random() < 0.3
        if rng.random() < 0.3:
            server.start()
        if rng.random() < 0.1:
            server.mac = bytes((2, 0, 0, 3, rng.getrandbits(8), server.mac[5]))
        if rng.random() < 0.05:
            server.sectors = max(0, server.sectors + rng.choice([64, 64, -64, -SECTORS]))
        if rng.random() < 0.2:
            server.nonsense = rng.choice(["", "", "checksum", *_NONSENSE])
        if rng.random() < 0.3:
            server.frame = rng.choice([16, 16, 8, 2, 1, 0])
        if self.calm and rng.random() < 0.8:
            server.silent = False
            server.suit()
        if rng.random() < 0.5 and not server.silent:
            self.arrive(rng.choice(server.ports), server.advertisement())

    def nonsense(self) -> None:
        raw = bytearray(self.coming[0][3] if self.coming else self.servers[0].advertisement())
        for _ in range(self.rng.choice([1, 2, 20])):
            raw[self.rng.randrange(len(raw))] = self.rng.getrandbits(8)
        length = self.rng.choice([10, 24, 30, 36, 9999])
        self.both("received", self.rng.randrange(len(self.up)), bytes(raw[:length]))

    def live(self, ns: int) -> None:
        end = self.now + ns
        while self.now < end:
            due = min(end, self.now + self.python.pulse_ns)
            while self.coming and self.coming[0][0] <= due:
                at, _, port, raw = heapq.heappop(self.coming)
                self.now = max(self.now, at)
                if self.up[port]:
                    self.both("received", port, raw)
            self.now = due
            self.both("tick")


class Forged(World):
    """Its network and servers are well, but another host ends the streams there."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.lose, self.slow_ms = 0, 1
        for server in self.servers:
            server.streams = Streams()
            server.places = 1000
            server.suit()

    def upset(self, server: Server) -> None:
        """Some heed our streams as long as that host leaves them alone."""
        server.suit()
        server.silent = server.stuck = server.foreign = False
        server.end_epochs()


def by_path(frames: list[tuple[int, bytes]]) -> dict[tuple[int, bytes, int], list[bytes]]:
    """In which order each server hears what; between them there is none."""
    sorted_ = defaultdict(list)
    for port, raw in frames:
        sorted_[port, raw[:6], raw[19]].append(raw)
    return sorted_


@pytest.fixture(autouse=True)
def engine_is_there() -> None:
    need_engine()


@pytest.mark.parametrize("chunk", range(2))
def test_both_do_the_same(chunk: int) -> None:
    sent = ended = forgot = refused = narrow = 0
    seen: Counter[str] = Counter()
    for seed in range(chunk, SEEDS, 2):
        world = World(seed)
        for step in range(STEPS):
            try:
                world.step()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, step {step}") from error
        sent += world.sent
        seen += world.seen
        ended += world.ended
        narrow += world.narrow
        refused += any(server.places < 0 for server in world.servers)
        forgot += any(path.number > limits.PATHS_MAX for path in world.python.paths)
    assert forgot, "paths make room for others"
    assert narrow, "some switches lose large frames"
    assert refused, "and some have no place for them"
    assert all(seen[what] for what in ("proved", "unproved owner", "OTHER_DATA")), "servers are compared"
    assert sent > 100 * SEEDS
    assert ended > 5 * SEEDS


def test_both_take_another_stream_where_theirs_is_not_heeded() -> None:
    renewed = 0
    for seed in FORGED:
        world = Forged(seed)
        for step in range(STEPS):
            try:
                world.step()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, step {step}") from error
        renewed += world.renewed
    assert renewed, "servers that heed no writes are told of other streams"


@pytest.mark.parametrize("seed", DRAINED)
def test_both_leave_servers_that_drain(seed: int) -> None:
    world = World(seed, often=0.1)
    for step in range(STEPS):
        try:
            world.step()
        except AssertionError as error:
            raise AssertionError(f"step {step}") from error
    assert world.seen["handed over"]


@pytest.mark.parametrize("seed", range(100, 108))
def test_both_go_on_where_a_life_died(seed: int) -> None:
    world = World(seed, dies=0.02)
    for step in range(STEPS):
        try:
            world.step()
        except AssertionError as error:
            raise AssertionError(f"step {step}") from error
    assert world.seen["left behind"]


def test_the_comparison_finds_a_difference() -> None:
    found = 0
    for seed in range(8):
        world = World(seed)
        world.c.tick(world.now + 60_000 * MS)
        try:
            for _ in range(STEPS):
                world.step()
        except AssertionError:
            found += 1
    assert found == 8


def test_forged_replies_are_refused_in_c_too() -> None:
    """A million guesses at 64 tags out of 2^31: 0.03 hits are to be expected, and this seed has none."""
    rng = random.Random(1)
    core, server = CompiledCore(1, [(1, 0)], 7), Server(random.Random(2), 0, [0], bytearray(SECTORS * 512))
    server.address, server.serial, server.frame, server.buffers = (1, 0), "S", 16, 64
    server.cache, server.nonsense = False, ""
    server._drive = lambda back, request, _raw: frame.encode(  # type: ignore[method-assign]
        back,
        ata.encode(AtaReply(0, 0, 0, 0x40, 0, server.identity() if request.command == 0xEC else bytes(8192))),
    )
    now = MS

    def exchange() -> None:
        frames = list(core.out)
        core.out.clear()
        for _, raw in frames:
            core.received(0, server.answer(raw) or b"", now)

    core.set_port(0, Port(bytes((2, 0, 0, 0, 9, 0)), 16, 64, True), now)
    for at in range(40):
        now = (1 + 5 * at) * MS
        exchange()
        core.tick(now)
    for _ in range(64):
        core.start(Verb.READ, 0, 8192, b"", now)
        exchange()
    while core.done:
        core.done.popleft()
    for _ in range(64):
        core.start(Verb.READ, 0, 8192, b"", now)
    asked = [raw for _, raw in core.out]
    core.out.clear()
    assert len(asked) == 64
    forged = bytearray(server.answer(asked[0]) or b"")
    before = core.counters["unknown_tag"]
    for _ in range(1_000_000):
        forged[20:24] = (USER_TAG | rng.getrandbits(31)).to_bytes(4, "big")
        core.received(0, bytes(forged), now)
    assert core.counters["unknown_tag"] - before == 1_000_000
    assert not core.done
    core.received(0, server.answer(asked[0]) or b"", now)
    assert core.done
