"""UdpLink under the event loops that are used: what it takes, how much it keeps, how old it says it is."""

import asyncio
import random
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

import aoe
from aoe import timing
from aoe.disk.memory import MemoryDisk
from aoe.errors import ConfigurationError
from aoe.limits import RECEIVE_BATCH, UDP_QUEUE_MAX
from aoe.link.base import Link
from aoe.link.udp import UdpLink, UdpSpec
from aoe.wire import ata, frame
from aoe.wire.ata import AtaRequest
from aoe.wire.frame import FLAG_RESPONSE, Command, Header
from aoe.wire.protocol import SECTOR
from tests.link.collector import BROADCAST, Collector, ethernet, until
from tests.support.waiting import PATIENCE_S

Run = Callable[[Coroutine[Any, Any, None]], None]
SRC = bytes((2, 0, 0, 0, 0, 9))
LOOPS: list[Run] = [asyncio.run, uvloop.run]
ANY_PORT = UdpSpec(("127.0.0.1", 0))
FLOOD = 50_000
GROWTH_KIB = 24 << 10


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Both event loops."""
    chosen: Run = request.param
    return chosen


class Peer:
    """A socket that does not wait."""

    def __init__(self, to: tuple[str, int], bind: str = "127.0.0.1") -> None:
        self.to = to
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((bind, 0))

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self.to)

    def poll(self) -> bytes | None:
        try:
            return self.socket.recv(65536)
        except BlockingIOError:
            return None


@contextmanager
def peer_of(link: UdpLink) -> Iterator[Peer]:
    peer = Peer(address(link))
    try:
        yield peer
    finally:
        peer.socket.close()


def address(link: UdpLink) -> tuple[str, int]:
    _, host, port = link.name.split(":")
    return host, int(port)


@asynccontextmanager
async def started(collector: Collector, spec: UdpSpec = ANY_PORT) -> Any:
    link = UdpLink(spec)
    try:
        link.start(collector)
        await asyncio.sleep(0.05)
        yield link
    finally:
        link.close()
        await asyncio.sleep(0.01)


# The command line's form


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("udp:127.0.0.1:7000", UdpSpec(("127.0.0.1", 7000))),
        ("127.0.0.1:7000", UdpSpec(("127.0.0.1", 7000))),
        ("udp:localhost:0", UdpSpec(("127.0.0.1", 0))),
        ("udp:127.9.9.9:65535,mtu=534", UdpSpec(("127.9.9.9", 65535), (), 534)),
        ("udp:127.0.0.1:1,mtu=65493", UdpSpec(("127.0.0.1", 1), (), 65493)),
        (
            "udp:0.0.0.0:7000,peer=192.0.2.1:7001,mtu=9000,peer=192.0.2.2:7002",
            UdpSpec(("0.0.0.0", 7000), (("192.0.2.1", 7001), ("192.0.2.2", 7002)), 9000),
        ),
    ],
)
def test_a_link_is_read(text: str, spec: UdpSpec) -> None:
    assert UdpSpec.parse(text) == spec


BAD = [
    "udp:",
    "udp:127.0.0.1",
    "udp:127.0.0.1:",
    "udp::7000",
    "udp:7000",
    "udp:127.0.0.1:-1",
    "udp:127.0.0.1:65536",
    "udp:127.0.0.1:7000x",
    "udp:127.0.0.1:0x10",
    "udp:127.0.0.1:\N{SUPERSCRIPT TWO}",
    "udp:127.0.0.1:" + "9" * 5000,
    "udp:[::1]:7000",
    "udp:..:7000",
    "udp:" + "x" * 70 + ":7000",
    "udp:no such host:7000",
    "udp:127.0.0.1:7000,",
    "udp:127.0.0.1:7000,,mtu=1500",
    "udp:127.0.0.1:7000,mtu",
    "udp:127.0.0.1:7000,mtu=",
    "udp:127.0.0.1:7000,mtu=533",
    "udp:127.0.0.1:7000,mtu=65494",
    "udp:127.0.0.1:7000,mtu=-1500",
    "udp:127.0.0.1:7000,mtu=1.5e3",
    "udp:127.0.0.1:7000,mtu=\N{SUPERSCRIPT TWO}",
    "udp:127.0.0.1:7000,mtu=" + "9" * 5000,
    "udp:127.0.0.1:7000,MTU=1500",
    "udp:127.0.0.1:7000,peer",
    "udp:127.0.0.1:7000,peer=",
    "udp:127.0.0.1:7000,peer=192.0.2.1",
    "udp:127.0.0.1:7000,peer=192.0.2.1:0",
    "udp:127.0.0.1:7000,peer=192.0.2.1:99999",
    "udp:127.0.0.1:7000,peer=:7001",
    "udp:127.0.0.1:7000,color=red",
    "udp:0.0.0.0:7000",
    "udp:192.0.2.1:7000",
    "udp:192.0.2.1:7000,mtu=9000",
]


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that would be asked of a name server do not exist."""
    real = socket.gethostbyname

    def gethostbyname(name: str) -> str:
        if " " in name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(name)

    monkeypatch.setattr(socket, "gethostbyname", gethostbyname)


@pytest.mark.usefixtures("no_resolver")
@pytest.mark.parametrize("text", BAD, ids=[text[:60] for text in BAD])
def test_a_bad_link_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        UdpSpec.parse(text)
    message = str(caught.value)
    assert "link" in message
    assert "\n" not in message


def test_without_peers_only_the_loopback_is_bound() -> None:
    with pytest.raises(ConfigurationError, match=r"open to everyone; bind 127\.0\.0\.1 or name peer="):
        UdpSpec.parse("udp:0.0.0.0:7000")
    assert UdpSpec.parse("udp:0.0.0.0:7000,peer=127.0.0.1:1").peers


def test_an_address_that_is_taken_is_said() -> None:
    first = UdpLink(ANY_PORT)
    try:
        with pytest.raises(ConfigurationError, match=r"udp 127\.0\.0\.1:\d+: Address already in use"):
            UdpLink(UdpSpec(address(first)))
    finally:
        first.close()


def test_its_mac_is_its_own_and_stays() -> None:
    links = [UdpLink(ANY_PORT), UdpLink(ANY_PORT)]
    first, second = links
    try:
        assert first.mac != second.mac
        assert {link.mac[0] & 0x03 for link in links} == {0x02}  # locally administered, not a group
        assert {len(link.mac) for link in links} == {6}
    finally:
        for link in links:
            link.close()
    again = UdpLink(UdpSpec(address(first)))
    again.close()
    assert again.mac == first.mac


# Frames


def test_a_frame_comes_in_and_the_answer_goes_to_its_source(run: Run) -> None:
    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            with peer_of(link) as one, peer_of(link) as other:
                one.send(ethernet(link.mac, SRC, b"one"))
                other.send(ethernet(link.mac, SRC, b"other"))
                await until(lambda: len(collector.frames) == 2)
                for received in collector.received:
                    link.send(received.frame, received.origin)
                await asyncio.sleep(0.02)
                assert [one.poll(), one.poll()] == [ethernet(link.mac, SRC, b"one"), None]
                assert [other.poll(), other.poll()] == [ethernet(link.mac, SRC, b"other"), None]

    run(scenario())


def test_strangers_are_dropped_and_counted(run: Run) -> None:
    async def scenario() -> None:
        collector = Collector()
        friend, stranger = Peer(("", 0)), Peer(("", 0))
        spec = UdpSpec(("127.0.0.1", 0), (friend.socket.getsockname(),))
        async with started(collector, spec) as link:
            friend.to = stranger.to = address(link)
            for _ in range(3):
                stranger.send(ethernet(link.mac, SRC, b"stranger"))
            friend.send(ethernet(link.mac, SRC, b"friend"))
            await until(lambda: collector.frames)
            assert collector.frames == [ethernet(link.mac, SRC, b"friend")]
            assert link.counters == {"not_a_peer": 3}
            link.send(ethernet(BROADCAST, link.mac))
            await asyncio.sleep(0.02)
            assert [friend.poll(), stranger.poll()] == [ethernet(BROADCAST, link.mac), None]
        friend.socket.close()
        stranger.socket.close()

    run(scenario())


def test_what_nobody_asked_for_goes_to_every_peer(run: Run) -> None:
    async def scenario() -> None:
        peers = [Peer(("", 0)) for _ in range(3)]
        spec = UdpSpec(("127.0.0.1", 0), tuple(peer.socket.getsockname() for peer in peers))
        collector = Collector()
        async with started(collector, spec) as link:
            link.send(ethernet(BROADCAST, link.mac))
            await asyncio.sleep(0.02)
            assert [peer.poll() for peer in peers] == [ethernet(BROADCAST, link.mac)] * 3
            peers[1].to = address(link)
            peers[1].send(ethernet(link.mac, SRC))
            await until(lambda: collector.frames)
            link.send(ethernet(SRC, link.mac), collector.received[0].origin)
            await asyncio.sleep(0.02)
            assert [peer.poll() for peer in peers] == [None, ethernet(SRC, link.mac), None]
            for peer in peers:
                peer.socket.close()

    run(scenario())


def test_sending_never_raises(run: Run) -> None:
    async def scenario() -> None:
        spec = UdpSpec(("127.0.0.1", 0), (("127.0.0.1", 9),), mtu=9000)
        async with started(Collector(), spec) as link:
            link.send(bytes(9015))
            assert link.counters == {"send_too_long": 1}
            for _ in range(3):
                link.send(bytes(9014))  # nobody listens there: the kernel says so, in its time
                await asyncio.sleep(0.01)
            link.send(bytes(60), ("255.255.255.255", 9))
            assert link.counters["send_link_down"] >= 1

    run(scenario())


CLOSES = """
import asyncio, sys, uvloop
from pathlib import Path
from aoe.link.udp import UdpLink, UdpSpec
from tests.link.collector import Collector

def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))

async def scenario():
    before = descriptors()
    link = UdpLink(UdpSpec(("127.0.0.1", 0)))
    link.start(Collector())
    for _ in range(int(sys.argv[2])):
        await asyncio.sleep(0)
    link.close()
    link.close()
    await asyncio.sleep(0.02)
    print(descriptors() - before, len(asyncio.all_tasks()), flush=True)

{"asyncio": asyncio.run, "uvloop": uvloop.run}[sys.argv[1]](scenario())
"""


@pytest.mark.parametrize("turns", [0, 1, 2, 20])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_closing_leaves_nothing_behind(loop: str, turns: int) -> None:
    """However soon after the start. In a process of its own: uvloop does not end while a socket is open."""
    argv = [sys.executable, "-W", "error", "-c", CLOSES, loop, str(turns)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        try:
            said, _ = child.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            child.kill()
            said = child.communicate()[0] + "does not end"
    assert said.split() == ["0", "1"]


def descriptors() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


# Bounds


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def flood(to: tuple[str, int], count: int) -> None:
    """Datagrams as fast as they go."""
    data = ethernet(BROADCAST, SRC, length=1024)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(data, to)


async def highest_during(thread: threading.Thread, measure: Callable[[], int]) -> int:
    thread.start()
    highest = measure()
    while thread.is_alive():
        await asyncio.sleep(0.01)
        highest = max(highest, measure())
    return highest


def test_a_flood_is_bounded_while_the_listener_is_slow(run: Run) -> None:
    async def scenario() -> None:
        collector = Collector(pause_s=0.02)
        collector.batches = Forgetful()
        async with started(collector) as link:
            before = resident_kib()
            thread = threading.Thread(target=flood, args=(address(link), FLOOD))
            length = await highest_during(thread, lambda: len(link._queue))
            grown = resident_kib() - before
            assert length <= UDP_QUEUE_MAX
            assert grown < GROWTH_KIB

    run(scenario())


class Forgetful(list[Any]):
    """Remembers nothing, so that only the link's memory is measured."""

    def append(self, _: object) -> None:
        pass


def test_a_flood_while_the_process_stands_still_is_bounded(run: Run) -> None:
    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            before = resident_kib()
            thread = threading.Thread(target=flood, args=(address(link), FLOOD))
            thread.start()
            thread.join()
            await asyncio.sleep(0.3)
            assert resident_kib() - before < GROWTH_KIB
            with peer_of(link) as peer:
                after = ethernet(link.mac, SRC, b"after")

                def comes() -> bool:
                    """Sent until it does: the socket may be full of the flood."""
                    peer.send(after)
                    return collector.frames[-1] == after

                await until(comes)

    run(scenario())


def test_a_flood_that_nobody_takes_is_bounded(run: Run) -> None:
    async def scenario() -> None:
        async with started(Collector()) as link:
            link.stop()
            before, length = resident_kib(), 0
            async with asyncio.timeout(PATIENCE_S):
                while not link.counters["queue_full"]:
                    thread = threading.Thread(target=flood, args=(address(link), FLOOD))
                    length = await highest_during(thread, lambda: len(link._queue))
            assert length == UDP_QUEUE_MAX
            assert resident_kib() - before < GROWTH_KIB

    run(scenario())


def test_one_look_takes_a_bounded_number(run: Run) -> None:
    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            link._listener = None
            flood(address(link), 300)
            await until(lambda: len(link._queue) == 300)
            link._listener = collector
            with peer_of(link) as peer:
                while len(link._queue) == 300:
                    link._tell()
                peer.send(ethernet(link.mac, SRC))
                await until(lambda: len(collector.frames) == 301)
            assert max(len(batch.frames) for batch in collector.batches) == RECEIVE_BATCH

    run(scenario())


# Ages


class Paced(Collector):
    """Answers every frame with a new one, like a client that keeps a constant number outstanding.

    `early_ns` and `late_ns` are the most by which a stamp was before and after the frame was sent; `pause_ns`
    is the longest for which no frame was sent, as the loop had no processor.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer = peer
        self.sent_ns: list[int] = []
        self.early_ns = self.late_ns = self.pause_ns = 0

    def send(self) -> None:
        self.peer.send(ethernet(BROADCAST, SRC, len(self.sent_ns).to_bytes(8, "big")))
        self.sent_ns.append(time.time_ns())
        self.pause_ns = max(self.pause_ns, self.sent_ns[-1] - self.sent_ns[-2:][0])

    def ready(self, link: Link) -> None:
        for received in link.take().frames:
            sent_ns = self.sent_ns[int.from_bytes(received.frame[14:22], "big")]
            self.early_ns = max(self.early_ns, sent_ns - received.stamp_ns)
            self.late_ns = max(self.late_ns, received.stamp_ns - sent_ns)
            self.send()


def test_under_steady_load_frames_are_not_said_to_be_old(run: Run) -> None:
    """Else every write of a busy client would be dropped as expired, although none has waited."""

    async def scenario() -> None:
        link = UdpLink(ANY_PORT)
        with peer_of(link) as peer:
            collector = Paced(peer)
            link.start(collector)
            await asyncio.sleep(0.05)
            for _ in range(64):
                collector.send()
            await asyncio.sleep(1.2)
            await until(lambda: len(collector.sent_ns) > 1000)
            link.close()
            await asyncio.sleep(0.01)
        assert collector.late_ns == 0, "no frame may be said to be younger than it is"
        assert collector.early_ns < timing.FRAME_AGE_DEFAULT_S * 1e9 / 2 + 2 * collector.pause_ns

    run(scenario())


def write_request(dst: bytes, lba: int, tag: int) -> bytes:
    header = Header(dst, SRC, frame.VERSION, 0, 0, 0, 0, Command.ATA, tag)
    request = AtaRequest(0x41, 0, 1, 0x34, lba, bytes([lba]) * SECTOR)
    return frame.encode(header, ata.encode(request))


def answered(peer: Peer) -> list[int]:
    """Tags of the replies that have come."""
    headers = [frame.decode(raw) for raw in iter(peer.poll, None)]
    return [it.tag for it in headers if isinstance(it, Header) and it.flags & FLAG_RESPONSE and it.tag]


def test_a_write_that_waited_while_the_process_stood_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that comes after seconds of silence does not. Both loops, each in a thread: it takes long."""
    monkeypatch.setattr(timing, "ADDRESS_QUERY_S", 0.005)

    async def scenario() -> None:
        disk, link = MemoryDisk(64 * SECTOR), UdpLink(ANY_PORT)
        with peer_of(link) as peer:
            async with aoe.serve(disk, link, rng=random.Random(1)) as server:
                peer.send(write_request(link.mac, 1, 1))
                await until(lambda: answered(peer) == [1])
                await asyncio.sleep(0.3)
                peer.send(write_request(link.mac, 2, 2))
                time.sleep(1.5)  # the event loop stands still
                await asyncio.sleep(3)
                assert server.counters()["expired"] == 1
                assert answered(peer) == []
                peer.send(write_request(link.mac, 3, 3))
                await until(lambda: answered(peer) == [3])
        assert [disk.data[lba * SECTOR] for lba in range(1, 4)] == [1, 0, 3]

    with ThreadPoolExecutor(len(LOOPS)) as threads:
        list(threads.map(lambda run: run(scenario()), LOOPS))


def test_frames_of_a_burst_keep_their_order(run: Run) -> None:
    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            with peer_of(link) as peer:
                sent = [ethernet(link.mac, SRC, n.to_bytes(2, "big")) for n in range(500)]
                for data in sent:
                    peer.send(data)
                await until(lambda: len(collector.frames) == len(sent))
            assert collector.frames == sent
            stamps = [one.stamp_ns for one in collector.received]
            assert stamps == sorted(stamps)
            assert stamps[-1] <= time.time_ns()

    run(scenario())


def test_datagrams_cost_no_descriptors(run: Run) -> None:
    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            before = descriptors()
            flood(address(link), 200)
            await until(lambda: len(collector.frames) == 200)
            assert descriptors() == before

    run(scenario())
