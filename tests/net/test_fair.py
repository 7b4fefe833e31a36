"""Two clients of one disk that takes its time: what one waits beside another at full load, in replies."""

import select
import statistics
from pathlib import Path

from aoe.wire.frame import BROADCAST
from tests.support.labs.fault_disk import FuseDisk
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.labs.ports import PacketPort
from tests.target import driver

SECTORS = 1 << 16
OUTSTANDING = 64
SETTLED = 700
"""Replies after which about as many requests are at the disk as it works on."""
LOOKS = 25
ANSWER_S = 30.0


class Hosts:
    """One with 64 requests outstanding all the time, and one that asks when it is told to."""

    def __init__(self, lab: Lab) -> None:
        self.full, self.modest = (lab.port("client", mac=bytes((2, 0, 0, 0, 15, n))) for n in (1, 2))
        self.answered = 0
        self._tag = 0
        for _ in range(OUTSTANDING):
            self._ask(self.full)

    def _ask(self, port: PacketPort) -> int:
        self._tag += 1
        lba = self._tag * 7919 % (SECTORS // 8) * 8
        port.send(driver.read(lba, tag=self._tag, src=port.mac, dst=BROADCAST, shelf=1, slot=1))
        return self._tag

    def settle(self) -> None:
        """Both ask, as only then the disk is shared."""
        end = self.answered + SETTLED
        while self.answered < end:
            self.passed(self.modest)

    def passed(self, port: PacketPort) -> int:
        """Replies to the full one before that to one more request by a port."""
        tag, before = self._ask(port), self.answered
        while not self._comes(tag):
            pass
        return self.answered - before

    def _comes(self, tag: int) -> bool:
        """Take a reply, if there is one: of the modest one first, as it came before, however late we look."""
        raw = self.modest.receive(0) or self.full.receive(0)
        if raw is None:
            ready, _, _ = select.select([self.modest.socket, self.full.socket], [], [], ANSWER_S)
            assert ready, "no answer"
            return False
        reply = driver.parse(raw)
        if reply.dst == BROADCAST:  # it advertises
            return False
        assert reply.status == (0x40, 0)
        if reply.tag == tag:
            return True
        self.answered += 1
        self._ask(self.full)
        return False


def test_the_modest_one_waits_for_few_of_the_other(lab: Lab, tmp_path: Path) -> None:
    """And the other one for all of its own."""
    plugin = ("memory", f"size={SECTORS * 512}", "--filter=delay", "rdelay=3ms")
    disk = FuseDisk(tmp_path / "slow", plugin=plugin)
    with disk, AoeTarget(lab, tmp_path, f"{disk.path}=1.1", "--direct", "--shared"):
        hosts = Hosts(lab)
        hosts.settle()
        assert statistics.median(hosts.passed(hosts.modest) for _ in range(LOOKS)) < OUTSTANDING / 2
        assert statistics.median(hosts.passed(hosts.full) for _ in range(3)) > OUTSTANDING * 3 / 4
