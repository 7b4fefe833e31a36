"""PacketLink on the veth cables of a lab: stamps, what is dropped, and interfaces that come and go."""

import asyncio
import socket
import struct
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aoe import timing
from aoe.cli.privilege import drop_privileges
from aoe.engine import Engine, PortFacts
from aoe.errors import ConfigurationError
from aoe.limits import RECEIVE_BATCH, SEND_BACKLOG_MAX
from aoe.link.interface import ethernet_interfaces_up
from aoe.link.packet import PacketLink, only_interface
from aoe.link.packet_sockets import Sockets
from tests.link.collector import BROADCAST, Collector, ethernet, until
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.ports import PacketPort
from tests.support.tools import need_engine, need_namespaces, unavailable, which
from tests.support.waiting import wait_for

pytestmark = pytest.mark.net

ME, PEER = bytes.fromhex("02a0e0000100"), bytes.fromhex("02a0e0000200")
STRANGER = bytes.fromhex("02a0e00099ff")
SOL_PACKET, PACKET_STATISTICS = 263, 6
LONG_NS = 600_000_000_000

Loop = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A target's host and a client's host, joined by one cable; and one more host."""
    need_namespaces()
    with Lab(("target", "client", "other")) as made:
        yield made


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    """Both event loops."""
    chosen: Loop = request.param
    return chosen


def inside(lab: Lab, scenario: Coroutine[Any, Any, None], loop: Loop = asyncio.run) -> None:
    """Run an event loop on the target's host."""
    in_namespace(lab.namespace("target"), lambda: loop(scenario))


@asynccontextmanager
async def started(collector: Collector) -> AsyncIterator[PacketLink]:
    link = PacketLink("v0")
    try:
        link.start(collector)
        yield link
    finally:
        link.close()


def numbered(number: int) -> bytes:
    return ethernet(ME, PEER, number.to_bytes(4, "big"))


def received(port: PacketPort, least: int) -> list[bytes]:
    """So many frames, and what comes until nothing comes."""
    first = [port.receive(30) or b"" for _ in range(least)]
    return [*first, *iter(lambda: port.receive(0.2), None)]


# Frames


def test_frames_come_in_and_go_out(lab: Lab, loop: Loop) -> None:
    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            assert (link.name, link.mac, link.mtu) == ("v0", ME, 1500)
            assert link.receive_buffer >= 1 << 16
            port.send(ethernet(ME, PEER, b"one"))
            port.send(ethernet(BROADCAST, PEER, b"all"))
            await until(lambda: len(collector.frames) == 2)
            assert collector.frames == [ethernet(ME, PEER, b"one"), ethernet(BROADCAST, PEER, b"all")]
            assert collector.batches[-1].drained
            link.send(ethernet(PEER, ME, b"back"))
            assert port.receive(30) == ethernet(PEER, ME, b"back")
            assert not link.counters

    inside(lab, scenario(), loop)


def test_frames_for_others_are_dropped_and_counted(lab: Lab) -> None:
    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            for _ in range(3):
                port.send(ethernet(STRANGER, PEER))
            port.send(ethernet(ME, PEER))
            await until(lambda: collector.frames)
            assert collector.frames == [ethernet(ME, PEER)]
            assert link.counters == {"other_host": 3}

    inside(lab, scenario())


def test_frames_too_long_for_the_mtu_are_dropped_and_counted(lab: Lab) -> None:
    lab.set_mtu(lab.cables[0], 9000)

    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            link.mtu = 1500  # as before the interface was given a larger one
            port.send(ethernet(ME, PEER, b"long", 1519))
            port.send(ethernet(ME, PEER, b"longer", 9014))
            port.send(ethernet(ME, PEER, b"fits", 1514))
            await until(lambda: collector.frames)
            assert collector.frames == [ethernet(ME, PEER, b"fits", 1514)]
            assert link.counters == {"receive_too_long": 2}

    inside(lab, scenario())


def test_a_whole_frame_of_the_mtu_comes_in(lab: Lab) -> None:
    lab.set_mtu(lab.cables[0], 9000)

    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            port.send(ethernet(ME, PEER, b"jumbo", 9014))
            await until(lambda: collector.frames)
            assert collector.frames == [ethernet(ME, PEER, b"jumbo", 9014)]
            link.send(ethernet(PEER, ME, b"jumbo", 9014))
            assert port.receive(30) == ethernet(PEER, ME, b"jumbo", 9014)
            link.send(ethernet(PEER, ME, b"more", 9015))
            assert link.counters == {"send_too_long": 1}

    inside(lab, scenario())


def test_one_look_takes_a_bounded_number(lab: Lab, loop: Loop) -> None:
    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector):
            for number in range(300):
                port.send(numbered(number))
            await until(lambda: len(collector.frames) == 300)
            assert collector.frames == [numbered(n) for n in range(300)]
            assert max(len(batch.frames) for batch in collector.batches) == RECEIVE_BATCH
            assert [batch.drained for batch in collector.batches[:4]] == [False] * 4
            assert collector.batches[-1].drained

    inside(lab, scenario(), loop)


# Stamps


async def stamp_after_waiting(collector: Collector, port: PacketPort, seconds: float) -> tuple[int, int, int]:
    """Times before and after sending a frame, and its stamp, when it was taken some seconds later."""
    count = len(collector.frames)
    before = time.time_ns()
    port.send(numbered(count))
    after = time.time_ns()
    time.sleep(seconds)
    await until(lambda: len(collector.frames) > count)
    return before, collector.received[-1].stamp_ns, after


def test_stamps_are_the_time_of_reception(lab: Lab) -> None:
    """Not that of reading: the process stands still in between."""

    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector):
            # The kernel begins to stamp a moment after the first socket of the host asked for it.
            for _ in range(100):
                _, stamp, after = await stamp_after_waiting(collector, port, 0.02)
                if stamp < after + 10_000_000:
                    break
            for _ in range(3):
                before, stamp, after = await stamp_after_waiting(collector, port, 0.2)
                assert before - 1_000_000 <= stamp <= after + 1_000_000

    inside(lab, scenario())


# Sending


class Stuffed:
    """A socket whose buffer is full until it is told otherwise."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.full = True

    def send(self, data: bytes) -> int:
        if self.full:
            raise BlockingIOError
        return int(self.real.send(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def stuff(link: PacketLink) -> Stuffed:
    """Fill the buffer of its socket."""
    stuffed = Stuffed(link._socket)
    link._socket = stuffed  # type: ignore[assignment]  # it does all that a link asks of a socket
    return stuffed


def test_a_full_socket_buffer_costs_a_bounded_backlog(
    lab: Lab, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SEND_BACKLOG_NS", LONG_NS)

    async def scenario() -> None:
        port = lab.port()
        async with started(Collector()) as link:
            stuffed = stuff(link)
            for number in range(SEND_BACKLOG_MAX + 500):
                link.send(ethernet(PEER, ME, number.to_bytes(4, "big")))
            await asyncio.sleep(0.01)
            assert link.counters == {"send_queue_full": 500}
            assert len(link._backlog) == SEND_BACKLOG_MAX
            stuffed.full = False
            await until(lambda: not link._backlog)
            link.send(ethernet(PEER, ME, b"last"))
            expected = [ethernet(PEER, ME, n.to_bytes(4, "big")) for n in range(SEND_BACKLOG_MAX)]
            assert received(port, len(expected) + 1) == [*expected, ethernet(PEER, ME, b"last")]

    inside(lab, scenario(), loop)


def test_what_waited_too_long_is_not_sent(lab: Lab, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that comes after its client has given it up could land over newer data."""
    monkeypatch.setattr(timing, "SEND_BACKLOG_NS", 50_000_000)

    async def scenario() -> None:
        port = lab.port()
        async with started(Collector()) as link:
            stuffed = stuff(link)
            link.send(ethernet(PEER, ME, b"old"))
            await asyncio.sleep(0.06)
            monkeypatch.setattr(timing, "SEND_BACKLOG_NS", LONG_NS)
            link.send(ethernet(PEER, ME, b"new"))
            stuffed.full = False
            await until(lambda: not link._backlog)
            assert link.counters == {"send_too_late": 1}
            assert received(port, 1) == [ethernet(PEER, ME, b"new")]

    inside(lab, scenario(), loop)


@pytest.mark.parametrize("stop_first", [False, True], ids=["before-the-stop", "after-the-stop"])
def test_a_backlog_is_sent_although_the_link_is_stopped(
    lab: Lab, loop: Loop, stop_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last answers of a target that ends."""
    monkeypatch.setattr(timing, "SEND_BACKLOG_NS", LONG_NS)

    async def scenario() -> None:
        port = lab.port()
        async with started(Collector()) as link:
            stuffed = stuff(link)
            if stop_first:
                link.stop()
            for number in range(3):
                link.send(ethernet(PEER, ME, number.to_bytes(4, "big")))
            await asyncio.sleep(0.01)
            link.stop()
            stuffed.full = False
            await until(lambda: not link._backlog)
            assert received(port, 3) == [ethernet(PEER, ME, n.to_bytes(4, "big")) for n in range(3)]

    inside(lab, scenario(), loop)


def test_closing_with_a_backlog(lab: Lab, loop: Loop) -> None:
    async def scenario() -> None:
        async with started(Collector()) as link:
            stuff(link)
            link.send(ethernet(PEER, ME))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)

    inside(lab, scenario(), loop)


def test_stopped_it_sends_but_takes_nothing(lab: Lab) -> None:
    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            link.stop()
            port.send(ethernet(ME, PEER))
            link.send(ethernet(PEER, ME))
            await asyncio.sleep(0.05)
            assert collector.batches == []
            assert port.receive(30) == ethernet(PEER, ME)
            link.stop()

    inside(lab, scenario())


# Interfaces that change


async def comes(collector: Collector, port: PacketPort, payload: bytes) -> None:
    """Sent until it does: an interface drops what it is given until the kernel has noticed that the other end
    of the cable is up."""
    frame = ethernet(ME, PEER, payload)

    def came() -> bool:
        port.send(frame)
        return frame in collector.frames

    await until(came, what=f"{payload!r} did not come")


def test_an_interface_that_goes_down_and_up(lab: Lab, loop: Loop) -> None:
    near = lab.cables[0].a

    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            await comes(collector, port, b"before")
            lab.down(near)
            await until(lambda: collector.changes)
            assert collector.changes == [False]
            link.send(ethernet(PEER, ME))
            assert link.counters["send_link_down"] == 1
            lab.up(near)
            await until(lambda: True in collector.changes)
            assert collector.changes.count(True) == 1
            await comes(collector, lab.port(), b"after")

    inside(lab, scenario(), loop)


def new_cable(lab: Lab) -> None:
    """A cable with equal numbers: the kernel notices its carrier up to a second late, unless it is asked."""
    near, far = (("netns", lab.namespace(side), "index", "77") for side in ("target", "other"))
    ip("link", "add", "new0", *near, "type", "veth", "peer", "name", "new0", *far)
    for side in ("target", "other"):
        ip("-n", lab.namespace(side), "link", "set", "new0", "up")


def ip(*words: str) -> None:
    subprocess.run([which("ip") or "ip", *words], check=True)


@pytest.mark.parametrize("side", ["target", "other"])
def test_an_interface_that_was_just_made_is_up(lab: Lab, side: str) -> None:
    """Catches a look that asks for the carrier before the kernel has noticed it: `aoe discover` beside links
    that had just come up heard a target and then asked it nothing, and without a name found no interface."""

    def looks() -> tuple[bool, bool, list[str]]:
        name = only_interface() if side == "other" else "new0"
        link = PacketLink(name)
        link.close()
        return link.up, "new0" in ethernet_interfaces_up(), [name]

    for _ in range(4):
        new_cable(lab)
        assert in_namespace(lab.namespace(side), looks) == (True, True, ["new0"])
        ip("-n", lab.namespace(side), "link", "delete", "new0")


@pytest.mark.parametrize("change", ["up", "down", "mtu", "mac", "name"])
def test_what_changed_before_it_was_watched_is_learned(lab: Lab, loop: Loop, change: str) -> None:
    """Between a link's first look at its interface and its `start`, where nobody tells of a change."""
    near = lab.cables[0].a

    async def scenario() -> None:
        if change == "up":
            lab.down(near)
        with closing(PacketLink("v0")) as link:
            collector = Collector()
            if change in ("up", "down"):
                lab.up(near) if change == "up" else lab.down(near)
            elif change == "name":
                lab.rename(near, "lan0")
            else:
                lab.link(near, *{"mtu": ("mtu", "9000"), "mac": ("address", "02:a0:e0:00:00:77")}[change])
            await asyncio.sleep(0.1)
            link.start(collector)
            assert collector.changes == []  # whoever starts it is not ready yet to hear of it
            await until(lambda: collector.changes)
            seen = {"up": link.up, "down": not link.up, "mtu": link.mtu == 9000, "name": link.name == "lan0"}
            assert {**seen, "mac": link.mac[-1] == 0x77}[change]
            assert collector.changes == [change == "up"]

    inside(lab, scenario(), loop)


@pytest.mark.parametrize("change", ["mtu", "name", "bridge"])
def test_a_link_opens_nothing_to_follow_its_interface(
    lab: Lab, loop: Loop, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that confined itself can open nothing any more."""
    near = lab.cables[0].a

    def refused(*_: object) -> None:
        raise PermissionError

    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            await asyncio.sleep(0.05)
            for name in ("socket", "if_nametoindex", "if_indextoname", "if_nameindex"):
                monkeypatch.setattr(socket, name, refused)
            if change == "mtu":
                lab.link(near, "mtu", "9000")
            elif change == "name":
                lab.rename(near, "lan0")
            else:
                ip("-n", lab.namespace("target"), "link", "add", "br0", "type", "bridge")
                lab.link(near, "master", "br0")
            done = {
                "mtu": lambda: link.mtu == 9000,
                "name": lambda: link.name == "lan0",
                "bridge": lambda: not link.up,
            }
            await until(done[change])
            monkeypatch.undo()

    inside(lab, scenario(), loop)


def test_a_link_that_is_closed_at_once_does_not_look_again(lab: Lab, loop: Loop) -> None:
    async def scenario() -> None:
        link = PacketLink("v0")
        link.start(Collector())
        link.close()
        await asyncio.sleep(0.05)

    inside(lab, scenario(), loop)


def test_an_interface_that_is_removed_and_made_again(lab: Lab, loop: Loop) -> None:
    cable = lab.cables[0]

    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            for turn in range(1, 4):
                await comes(collector, lab.port(), b"before %d" % turn)
                lab.unplug(cable)
                await asyncio.sleep(0.02)
                link.send(ethernet(PEER, ME))
                lab.plug(cable)
                await until(lambda turn=turn: collector.changes.count(True) == turn)  # type: ignore[misc]
                assert link.counters["rebound"] == turn
                await comes(collector, lab.port(), b"after %d" % turn)

    inside(lab, scenario(), loop)


def test_an_interface_that_was_away_while_the_process_stood_still(lab: Lab) -> None:
    """It may come back with the number it had; the kernel has unbound the socket all the same."""

    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector):
            await comes(collector, port, b"before")
            moved("target", "other")
            moved("other", "target")
            lab.up(lab.cables[0].a)
            await asyncio.sleep(0.05)
            await comes(collector, port, b"after")

    def moved(giver: str, taker: str) -> None:
        done = lab.run(giver, "ip", "link", "set", "v0", "netns", lab.namespace(taker))
        if done.returncode:
            unavailable(f"an interface cannot be moved here: {done.stderr.strip()}")

    inside(lab, scenario())


def test_an_interface_is_followed_when_it_is_renamed(lab: Lab, loop: Loop) -> None:
    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            renamed = lab.rename(lab.cables[0].a, "lan0")
            await until(lambda: link.name == "lan0" and link.up)
            await comes(collector, port, b"renamed")
            await until(lambda: link.send(ethernet(BROADCAST, ME, b"and back")) or port.receive(0.05))
            lab.rename(renamed, "v0")
            await until(lambda: link.name == "v0" and link.up)
            await comes(collector, port, b"as before")

    inside(lab, scenario(), loop)


def test_another_interface_of_the_old_name_is_not_taken_for_it(lab: Lab) -> None:
    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            lab.rename(lab.cables[0].a, "lan0")
            await until(lambda: link.name == "lan0")
            other = ("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v00")
            lab.run("target", *other, check=True)
            await asyncio.sleep(0.05)
            assert link.name == "lan0"
            await comes(collector, port, b"the same")

    inside(lab, scenario())


def test_one_that_was_renamed_and_removed_is_found_by_its_first_name(lab: Lab) -> None:
    """As a card that is taken out and put in again, before anything renames it."""
    near = lab.cables[0].a

    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            renamed = lab.rename(near, "lan0")
            await until(lambda: link.name == "lan0")
            lab.unplug(lab.cables[0]._replace(a=renamed))
            await until(lambda: not link.up)
            lab.plug(lab.cables[0])
            await until(lambda: link.name == "v0" and link.up)
            await comes(collector, lab.port(), b"again")

    inside(lab, scenario())


def test_a_new_mtu_and_mac_are_followed(lab: Lab) -> None:
    near, far = lab.cables[0].a, lab.cables[0].b

    async def scenario() -> None:
        collector, port = Collector(), lab.port()
        async with started(collector) as link:
            lab.link(near, "mtu", "9000")
            lab.link(far, "mtu", "9000")
            await until(lambda: link.mtu == 9000)
            port.send(ethernet(ME, PEER, b"jumbo", 9014))
            await until(lambda: collector.frames == [ethernet(ME, PEER, b"jumbo", 9014)])
            lab.link(near, "address", "02:a0:e0:00:77:77")
            await until(lambda: link.mac == bytes.fromhex("02a0e0007777"))
            assert True not in collector.changes
            assert set(collector.links) == {link}

    inside(lab, scenario())


def test_more_changes_than_the_kernel_keeps(lab: Lab, loop: Loop, tmp_path: Path) -> None:
    """It tells that it dropped some by an error, after which the next ones must be seen all the same."""
    near = lab.cables[0].a
    changes = [f"link set dev v0 mtu {1400 + n % 2}" for n in range(1001)]
    (tmp_path / "batch").write_text("\n".join(changes))

    async def scenario() -> None:
        collector = Collector()
        async with started(collector) as link:
            lab.run("target", "ip", "-batch", tmp_path / "batch", check=True)
            await until(lambda: link.mtu == 1400, what="the last of many changes was not seen")
            lab.link(near, "mtu", "1450")
            await until(lambda: link.mtu == 1450, what="the change after them was not seen")

    inside(lab, scenario(), loop)


def test_what_happens_elsewhere_is_not_told(lab: Lab) -> None:
    async def scenario() -> None:
        collector = Collector()
        async with started(collector):
            lab.cable("target", "other")
            await asyncio.sleep(0.05)
            assert collector.changes == []

    inside(lab, scenario())


# Which interface


def refusal(lab: Lab, call: Callable[[], object], side: str = "target") -> str:
    def caught() -> str:
        with pytest.raises(ConfigurationError) as error:
            call()
        return str(error.value)

    return in_namespace(lab.namespace(side), caught)


def test_the_only_interface_is_found(lab: Lab) -> None:
    assert in_namespace(lab.namespace("target"), only_interface) == "v0"


def test_none_and_several_are_told_apart(lab: Lab) -> None:
    assert refusal(lab, only_interface, "other") == "no Ethernet interface is up; say --interface NAME"
    lab.cable("target", "other")
    several = "several Ethernet interfaces are up (v0, v1); say --interface NAME"
    assert refusal(lab, only_interface) == several
    lab.down(lab.cables[1].a)
    assert in_namespace(lab.namespace("target"), only_interface) == "v0"


def test_an_interface_that_is_not_there(lab: Lab) -> None:
    for name in ("nope", "x" * 20, "v0 ", "", "\N{SNOWMAN}", "a\nb"):
        message = refusal(lab, lambda name=name: PacketLink(name))  # type: ignore[misc]
        shown = {"": "''", "a\nb": r"'a\nb'"}.get(name, name)
        assert message == f"there is no network interface {shown}; these are up: v0"
    assert "these are up: none" in refusal(lab, lambda: PacketLink("nope"), "other")


def test_an_interface_without_ethernet(lab: Lab) -> None:
    done = lab.run("target", "ip", "tuntap", "add", "dev", "tun0", "mode", "tun")
    if done.returncode:
        unavailable(f"no tun interfaces here: {done.stderr.strip()}")
    assert refusal(lab, lambda: PacketLink("tun0")) == "tun0 is not an Ethernet interface; these are up: v0"


def test_an_mtu_that_holds_no_sector(lab: Lab) -> None:
    lab.link(lab.cables[0].a, "mtu", "533")
    assert "MTU 533 of v0 is too small; raise it to 534" in refusal(lab, lambda: PacketLink("v0"))
    lab.link(lab.cables[0].a, "mtu", "534")
    in_namespace(lab.namespace("target"), lambda: PacketLink("v0").close())


def test_an_interface_that_is_down_is_waited_for(lab: Lab) -> None:
    near = lab.cables[0].a
    lab.down(near)

    async def scenario() -> None:
        collector = Collector()
        async with started(collector):
            lab.up(near)
            await until(lambda: collector.changes == [True])
            await comes(collector, lab.port(), b"up")

    inside(lab, scenario())


def test_one_that_comes_up_as_its_socket_gets_a_ring_is_heard(lab: Lab) -> None:
    """Linux forgets a socket that is bound already then; one of these moments is in between."""
    need_engine()
    near, port = lab.cables[0].a, lab.port()
    with closing(Engine([PortFacts(ME, 2)], exports_max=1, frame_max=1514, frame_age_ns=10**9)) as engine:
        for delay_ms in range(0, 12, 2):
            lab.down(near)
            up = threading.Timer(delay_ms / 1000, lab.link, [near, "up"])
            up.start()
            ringed, _ = in_namespace(lab.namespace("target"), lambda: Sockets().ringed("v0", 0, engine.ring))
            up.join()
            lab.up(near)
            with ringed:
                wait_for(partial(hears, ringed, port), what=f"it is deaf when it comes {delay_ms} ms later")


def hears(ringed: socket.socket, port: PacketPort) -> bool:
    """Whether the kernel puts into its ring what is sent."""
    port.send(numbered(1))
    seen, _ = struct.unpack("II", ringed.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return bool(seen)


def test_without_permission_it_says_what_to_do(lab: Lab) -> None:
    def powerless() -> object:
        drop_privileges()  # of this thread
        return PacketLink("v0")

    message = refusal(lab, powerless)
    assert "no permission" in message
    assert "cap_net_raw" in message


def test_the_lab_is_what_these_tests_think(lab: Lab) -> None:
    assert [end.mac for end in (lab.cables[0].a, lab.cables[0].b)] == [ME, PEER]
    assert isinstance(lab.run("target", "ip", "link"), subprocess.CompletedProcess)
