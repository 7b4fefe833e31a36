"""`aoe ping`: how long a target takes to say what its disk is (IDENTIFY), and how often it does not."""

import asyncio
import time
from typing import NamedTuple

from aoe import timing
from aoe.cli.report import Report
from aoe.cli.where import Where, one_disk
from aoe.errors import Unreachable
from aoe.initiator.remote import RemoteDisk


class Ping(NamedTuple):
    """`times` questions, `interval` seconds apart."""

    where: Where
    addresses: list[str]
    times: int
    interval: float

    async def run(self, report: Report) -> None:
        """Ask; the summary is said however it ends."""
        async with one_disk(self.where, self.addresses, report) as disk:
            tally = _Tally(disk)
            try:
                await self._ask_all(disk, tally, report)
            finally:
                tally.say(report)
        if not tally.taken_us:
            report.fail(Unreachable(f"{disk.address} did not answer"), address=disk.address)

    async def _ask_all(self, disk: RemoteDisk, tally: "_Tally", report: Report) -> None:
        for number in range(1, self.times + 1):
            if number > 1:
                await asyncio.sleep(self.interval)
            rtt_us = await tally.ask(max(timing.PING_S, self.interval))
            took = "no answer" if rtt_us is None else f"time={rtt_us:.0f} us"
            text = f"{disk.size} bytes of disk at {disk.address}: seq={number} {took}"
            report.say(text, address=disk.address, bytes=disk.size, seq=number, rtt_us=rtt_us)


class _Tally:
    """What came of the questions so far."""

    def __init__(self, disk: RemoteDisk) -> None:
        self.sent = 0
        self.taken_us: list[float] = []
        self._disk = disk
        self._before = _retransmits(disk)

    async def ask(self, wait_s: float) -> float | None:
        """Microseconds to the answer, None where there was none in time."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(wait_s):
                await self._disk.revalidate()
        except (TimeoutError, Unreachable):
            self.sent += 1
            return None
        self.sent += 1
        self.taken_us.append((time.perf_counter() - started) * 1e6)
        return self.taken_us[-1]

    def say(self, report: Report) -> None:
        """The summary."""
        taken = self.taken_us
        received = len(taken)
        loss = 100 * (1 - received / self.sent) if self.sent else 0.0
        retransmits = _retransmits(self._disk) - self._before
        least, mean, most = (min(taken), sum(taken) / received, max(taken)) if taken else (None, None, None)
        text = f"{self._disk.address}: {self.sent} sent, {received} received, {loss:.0f} % loss"
        if taken:
            text += f", min/avg/max {least:.0f}/{mean:.0f}/{most:.0f} us"
        report.say(
            f"{text}, {retransmits} retransmits",
            address=self._disk.address,
            sent=self.sent,
            received=received,
            loss_percent=loss,
            min_us=least,
            avg_us=mean,
            max_us=most,
            retransmits=retransmits,
        )


def _retransmits(disk: RemoteDisk) -> int:
    return disk.counters.get("retransmits", 0)
