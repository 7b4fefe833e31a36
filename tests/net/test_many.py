"""Many exports, many interfaces, interfaces that come and go, and more frames than anyone can take."""

import functools
import itertools
import json
import math
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.limits import TARGET_BYTES_MAX
from aoe.wire import ata
from aoe.wire.frame import FLAG_RESPONSE, Command, Header, decode
from aoe.wire.protocol import SECTOR, SHELF_ALL, SLOT_ALL, sectors_per_frame
from tests.support.labs.loss import need_loss
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.ports import UdpPort
from tests.support.labs.raw_client import READ_EXT, WRITE_EXT, AtaFailed, Client, NoAnswer, ata_request
from tests.support.tools import need, need_namespaces, unavailable
from tests.support.waiting import delayed_s, wait_for

pytestmark = pytest.mark.one_at_a_time

CONFIG_QUERY = bytes(8)
SHELVES, SLOTS = 2, 128
FLOOD_S, FLOOD_MAX_S = 1.2, 60.0
UNREAD = 8000
GROWTH_KIB = TARGET_BYTES_MAX >> 10
"""Memory a flood may cost: what the target allows itself for requests not yet answered."""
LEAK = """
import sys
from aoe.cli.target import main
from aoe.target.responder import Responder

kept = []
receive = Responder.receive

def leak(self, *arguments):
    kept.append(b"x" * 8192)
    return receive(self, *arguments)

Responder.receive = leak
sys.exit(main())
"""


def headers(replies: list[bytes]) -> list[Header]:
    decoded = [decode(reply) for reply in replies]
    assert all(isinstance(header, Header) for header in decoded)
    return [header for header in decoded if isinstance(header, Header)]


@contextmanager
def load(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Do something over and over meanwhile; what it raised."""
    stop, raised = threading.Event(), list[BaseException]()

    def run() -> None:
        while not stop.is_set():
            try:
                work()
            except (NoAnswer, AtaFailed, OSError):
                pass  # losses and refusals are what the change is about; the test looks at them itself
            except BaseException as error:
                raised.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        stop.set()
        thread.join()


# Exports


def test_256_exports_each_answer_a_wildcard_once(lab: Lab, tmp_path: Path) -> None:
    addresses = list(itertools.product(range(1, SHELVES + 1), range(SLOTS)))
    disks = [f"{image(tmp_path / f'{a}-{b}', 8)}={a}.{b}" for a, b in addresses]
    with AoeTarget(lab, tmp_path, *disks) as target:
        client = lab.client(SHELF_ALL, SLOT_ALL)
        seen = Counter(
            (h.shelf, h.slot)
            for h in headers(client.ask_all(Command.CONFIG, CONFIG_QUERY, least=len(addresses)))
        )
        assert seen == Counter(addresses)
        one_shelf = headers(client.ask_all(Command.CONFIG, CONFIG_QUERY, shelf=2, least=SLOTS))
        assert Counter(h.slot for h in one_shelf) == Counter(range(SLOTS))
        lab.client(2, 77).write(3, b"\x77" * SECTOR)
        assert lab.client(2, 77).read(3) == b"\x77" * SECTOR
        assert lab.client(2, 78).read(3) == bytes(SECTOR)
        assert len(target.output.splitlines()) >= len(addresses)


THOUSAND = [(1 + number // 250, number % 250) for number in range(1000)]
LISTED_S = 2.0
"""How long it takes at most to list them, a Python that starts included."""


def test_1000_exports_are_listed_also_where_frames_are_lost(lab: Lab, tmp_path: Path) -> None:
    need_loss()
    disks = [f"{image(tmp_path / f'{a}-{b}', 8)}={a}.{b}" for a, b in THOUSAND]
    with AoeTarget(lab, tmp_path, *disks) as target:
        for share, command in itertools.product((None, 0.01), ("discover", "stat")):
            for end in lab.cables[0][:2]:
                lab.lose(end, share)
            assert is_listed_in_time(target, command), (share, command)
        assert is_listed_in_time(target, "discover", *PLAIN_USER)


PLAIN_USER = ("setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw")
"""May open the interface, but gets no larger buffer than any program."""


def is_listed_in_time(target: AoeTarget, command: str, *before: str) -> bool:
    """One of a few times: others use this machine, too."""
    return any(listed_in_s(target, command, *before) < LISTED_S for _ in range(8))


def listed_in_s(target: AoeTarget, command: str, *before: str) -> float:
    """How long `aoe discover` or `aoe stat` takes, which has to find all of them. While others on this
    machine keep it or the target from running, that does not count, nor what it finds then."""
    argv = (*before, sys.executable, "-m", "aoe.cli.client", command, "--json", "--interface", "v0")
    with tempfile.TemporaryFile("w+") as out:
        began_s, before_s = time.monotonic(), delayed_s(target.pid)
        client = target.lab.popen("client", *argv, stdout=out)
        os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT)
        away_s = delayed_s(client.pid) + delayed_s(target.pid) - before_s
        took_s = time.monotonic() - began_s - away_s
        status = client.wait()
        out.seek(0)
        found = [json.loads(line) for line in out]
    if away_s > LISTED_S and len(found) < len(THOUSAND):
        return math.inf
    assert status == 0
    assert [it["address"] for it in found] == [f"e{a}.{b}" for a, b in THOUSAND]
    assert {(it["state"], it["bytes"]) for it in found} == {("usable", 8 * SECTOR)}
    print(f"{command}: {took_s:.2f} s")
    return took_s


# Interfaces


def test_one_export_on_three_interfaces(tmp_path: Path) -> None:
    need_namespaces()
    names = ["v0", "v1", "v2"]
    with Lab(cables=3) as lab, AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1", interfaces=names):
        clients = [lab.client(interface=name) for name in names]
        for client, cable in zip(clients, lab.cables, strict=True):
            (answer,) = headers(client.ask_all(Command.CONFIG, CONFIG_QUERY, seconds=0.2, least=1))
            assert answer.src == cable.a.mac
        for lba, client in enumerate(clients):
            client.write(lba, bytes([lba + 1]) * SECTOR)
        for client in reversed(clients):
            assert client.read(0, 2) + client.read(2) == b"".join(bytes([n]) * SECTOR for n in (1, 2, 3))


def test_an_interface_that_goes_down_leaves_the_others_serving(tmp_path: Path) -> None:
    need_namespaces()
    with (
        Lab(cables=2) as lab,
        AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1", interfaces=["v0", "v1"]) as target,
    ):
        first, second = lab.client(), lab.client(interface="v1")
        first.write(0, b"\x01" * SECTOR)
        first.timeout, first.retries = 0.1, 0
        lab.down(lab.cables[0].a)
        assert second.read(0) == b"\x01" * SECTOR
        with pytest.raises((NoAnswer, OSError)):
            first.read(0)
        listener = lab.port()
        lab.up(lab.cables[0].a)
        wait_for(lambda: answers(first), what="no service after the interface came up")
        advert = wait_for(lambda: listener.receive(0.2) or b"")
        assert headers([advert])[0].flags & FLAG_RESPONSE
        assert second.read(0) == b"\x01" * SECTOR
        assert target.alive


def test_flaps_under_load(lab: Lab, tmp_path: Path) -> None:
    """An error may reach the socket while it reads, while it writes, or between the two."""
    end = lab.cables[0].a
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:
        client, busy = lab.client(timeout=0.1, retries=0), lab.client(timeout=0.02, retries=0)
        request = busy.request(Command.ATA, ata.encode(ata_request(READ_EXT, 0, 2)))

        def burst() -> None:
            for _ in range(32):
                busy.send(request)
            time.sleep(0.001)

        with load(burst) as raised:
            for _ in range(8):
                time.sleep(0.02)
                lab.down(end)
                lab.up(end)
        assert not raised
        wait_for(lambda: answers(client), what="no service after eight flaps")
        assert target.alive


def test_an_interface_that_is_removed_and_made_again_is_served_again(tmp_path: Path) -> None:
    need_namespaces()
    with (
        Lab(cables=2) as lab,
        AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1", interfaces=["v0", "v1"]) as target,
    ):
        second = lab.client(interface="v1")
        second.write(0, b"\x02" * SECTOR)
        for _ in range(3):
            lab.unplug(lab.cables[0])
            assert second.read(0) == b"\x02" * SECTOR
            lab.plug(lab.cables[0])
            with lab.client(timeout=0.1, retries=100) as first:
                wait_for(functools.partial(answers, first), what="no service on the interface made again")
                assert first.read(0) == b"\x02" * SECTOR
        assert target.alive


def answers(client: Client) -> bool:
    try:
        return client.ask(Command.CONFIG, CONFIG_QUERY) is not None
    except OSError:
        return False


# MTU


def offers(client: Client, sectors: int) -> bool:
    return client.config().sector_count == sectors


def test_mtu_changes_under_load(lab: Lab, tmp_path: Path) -> None:
    cable = lab.cables[0]
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:
        client, busy = lab.client(), lab.client(timeout=0.05, retries=0)
        assert client.config().sector_count == 2
        client.write(0, b"\x05" * (2 * SECTOR))
        with load(lambda: busy.read(0, 2)) as raised:
            for mtu in (600, 9000, 1500, 600):
                lab.link(cable.a, "mtu", str(mtu))
                sectors = sectors_per_frame(mtu)
                wait_for(functools.partial(offers, client, sectors), what=f"MTU {mtu} not noticed")
        assert not raised
        refused = client.ata(READ_EXT, 0, 2)
        assert (refused.status, refused.error) == (0x41, 0x04)
        assert client.read(0) == b"\x05" * SECTOR
        lab.set_mtu(cable, 9000)
        wait_for(lambda: offers(client, 16))
        client.write(16, bytes(range(16)) * (SECTOR))
        assert client.read(16, 16) == bytes(range(16)) * SECTOR
        assert target.alive


# More than fits


def test_a_client_that_never_reads_is_survived(lab: Lab, tmp_path: Path) -> None:
    """Replies pile up at the peer until its socket buffer is full; the rest is the peer's loss."""
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:
        deaf, client = lab.client(), lab.client(retries=20)
        request = deaf.request(Command.ATA, ata.encode(ata_request(READ_EXT, 0, 2)))
        for _ in range(20_000):
            deaf.send(request)
        assert client.read(0) == bytes(SECTOR)
        assert target.alive


@pytest.mark.parametrize("limit", [3000, 1 << 24], ids=["no-room-in-queue", "socket-buffer-full"])
def test_a_send_buffer_that_is_full_is_survived(limit: int, tmp_path: Path) -> None:
    """A queue discipline that lets almost nothing out: sends fail, first with one error, then another."""
    need_namespaces()
    need("tc")
    with (
        Lab(cables=2) as lab,
        AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1", interfaces=["v0", "v1"]) as target,
    ):
        client, elsewhere = lab.client(), lab.client(interface="v1")
        tbf = f"root tbf rate 64kbit burst 2000 limit {limit}".split()
        made = lab.run("target", "tc", "qdisc", "replace", "dev", "v0", *tbf)
        if made.returncode:
            unavailable(f"tc qdisc tbf: {made.stderr.strip()} (kernel without CONFIG_NET_SCH_TBF)")
        before = target.resident_kib
        request = client.request(Command.ATA, ata.encode(ata_request(READ_EXT, 0, 2)))
        for _ in range(UNREAD):
            client.send(request)
        assert elsewhere.read(0) == bytes(SECTOR), "one full interface stops the others"
        wait_for(lambda: idle(target), what="still busy with requests that nobody sends any more")
        assert target.resident_kib - before < GROWTH_KIB
        assert client.drain() < UNREAD, "nothing was held up"
        lab.run("target", "tc", "qdisc", "delete", "dev", "v0", "root", check=True)
        client.retries = 20
        assert client.read(0) == bytes(SECTOR)
        if limit == 3000:
            assert lost_sends(target.counters()) > 0


def lost_sends(counted: str) -> int:
    """Frames that could not be sent, whichever code tried."""
    pairs = (word.partition("=") for word in counted.split() if "=" in word)
    lost = re.compile(r"send_(no_buffer|queue_full|lost)$")
    return sum(int(value) for name, _, value in pairs if lost.search(name))


def worked_s(target: AoeTarget) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{target.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(target: AoeTarget, seconds: float = 0.1) -> bool:
    """Whether a process used next to no processor time for a while."""
    before = worked_s(target)
    time.sleep(seconds)
    return worked_s(target) - before < 0.015


# Junk


def junk(rng: random.Random, client: Client) -> Iterator[bytes]:
    """Frames of every wrong kind, and good ones that cost the target memory while they wait."""
    kinds: list[Callable[[], bytes]] = [
        lambda: client.request(0)[:14] + rng.randbytes(rng.randrange(1400)),
        lambda: client.request(0)[:14] + rng.randbytes(rng.randrange(1, 60)),
        lambda: client.request(rng.randrange(256), rng.randbytes(rng.randrange(64))),
        lambda: client.request(rng.randrange(4), rng.randbytes(200), shelf=SHELF_ALL, slot=SLOT_ALL),
        lambda: client.request(Command.CONFIG, CONFIG_QUERY, flags=rng.randrange(16)),
        lambda: client.request(Command.ATA, ata.encode(ata_request(WRITE_EXT, 0, 2, bytes(2 * SECTOR)))),
        lambda: client.request(Command.MASK, bytes((0, 1, 0, rng.randrange(256)))),
    ]
    while True:
        yield rng.choice(kinds)()


@pytest.mark.parametrize("link", ["packet", "udp"])
def test_a_flood_of_junk_costs_bounded_memory(link: str, lab: Lab, tmp_path: Path) -> None:
    extra = ["--link", "udp:127.0.0.1:4700", "--engine", "python"] if link == "udp" else []
    target = AoeTarget(lab, tmp_path, *flooded(tmp_path), *extra)
    with target, Client(udp_port(lab) if link == "udp" else lab.port(promiscuous=True)) as client:
        assert cost_of_junk(target, client) < GROWTH_KIB
        client.drain()
        client.retries = 20
        assert client.identify()
        assert "Traceback" not in target.errors


def test_a_leak_of_each_frame_is_seen(lab: Lab, tmp_path: Path) -> None:
    target = AoeTarget(lab, tmp_path, *flooded(tmp_path), "--engine", "python", launcher=["-c", LEAK])
    with target:
        assert cost_of_junk(target, lab.client()) > GROWTH_KIB


def flooded(work: Path) -> list[str]:
    """The mask list would shut the flood out, so nobody may change it."""
    return [f"{image(work / 'disk')}=1.1", "--no-remote-admin"]


def cost_of_junk(target: AoeTarget, client: Client) -> int:
    """Growth in KiB, while and after a flood."""
    assert client.read(0) == bytes(SECTOR)
    frames = list(itertools.islice(junk(random.Random(1), client), 500))
    before = target.resident_kib
    assert flood(client, frames, target) > 1000
    highest = target.resident_kib
    wait_for(lambda: idle(target), what="still busy with a flood that is over")
    assert target.alive
    return max(highest, target.resident_kib) - before


def flood(client: Client, frames: list[bytes], target: AoeTarget) -> int:
    """Send as fast as possible, until the target has had some work with it; how many frames that was."""
    enough = worked_s(target) + FLOOD_S
    deadline = time.monotonic() + FLOOD_MAX_S
    for sent in itertools.count():
        if sent % 100 == 0 and worked_s(target) > enough:
            return sent
        assert time.monotonic() < deadline, "the flood does not get there"
        try:
            client.send(frames[sent % len(frames)])
        except OSError:
            time.sleep(0)
    raise AssertionError("unreachable")


def udp_port(lab: Lab) -> UdpPort:
    return in_namespace(lab.namespace("target"), lambda: UdpPort(("127.0.0.1", 4700)))
