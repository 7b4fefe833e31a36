"""Load for tests of what happens under it: requests left outstanding, floods, and how long answers take."""

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aoe.wire import ata, frame
from aoe.wire.frame import Command
from aoe.wire.protocol import SECTOR
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import READ_EXT, WRITE_EXT, Client, ata_request

PIECE = 8
"""Sectors in a request here: 4 KiB."""
DATA = b"\xa5" * (PIECE * SECTOR)
SECTORS = 16384
"""Of a disk under the load generator."""
DEPTH = 16
"""Requests of the load generator outstanding: fewer than fill a receive buffer."""
AGE_S = 5.0
"""The load generator sends nothing again: for so long it waits for an answer, and where it writes, frames of
a target may be so old. No thread is kept from a processor for longer."""


class Latency(NamedTuple):
    """Seconds that requests took, one after the other."""

    median: float
    p90: float
    worst: float


def latency(request: Callable[[int], object], number: int) -> Latency:
    """How long each of some requests takes; what it raises ends the measurement."""
    taken = []
    for index in range(number):
        began = time.monotonic()
        request(index)
        taken.append(time.monotonic() - began)
    taken.sort()
    return Latency(statistics.median(taken), taken[number * 9 // 10], taken[-1])


def read_request(client: Client, lba: int, sectors: int = PIECE) -> bytes:
    """A READ DMA EXT as a frame."""
    return client.request(Command.ATA, ata.encode(ata_request(READ_EXT, lba, sectors)))


def write_request(client: Client, lba: int, data: bytes = DATA) -> bytes:
    """A WRITE DMA EXT as a frame."""
    registers = ata_request(WRITE_EXT, lba, len(data) // SECTOR, data)
    return client.request(Command.ATA, ata.encode(registers))


def leave_outstanding(client: Client, reads: int, writes: int, first: int = 16384) -> None:
    """Send requests for places of their own, and wait for nothing.

    They are far from both ends, which the kernel looks at, and then has in memory.
    """
    places = range(first, first + PIECE * (reads + writes), PIECE)
    for lba in places[:reads]:
        client.send(read_request(client, lba))
    for lba in places[reads:]:
        client.send(write_request(client, lba))


def replies(client: Client, seconds: float) -> Iterator[frame.Header]:
    """Headers of what comes back, until nothing has come for some seconds."""
    while (raw := client.receive(seconds)) is not None:
        header = frame.decode(raw)
        if isinstance(header, frame.Header) and header.flags & frame.FLAG_RESPONSE and header.tag:
            yield header


def loaded(lab: Lab, load: Path, rw: str, stop: threading.Event) -> list[dict[str, Any]]:
    """What the load generator says of e1.1, in runs of a second, until told to stop."""
    results = []
    options = ("--rw", rw, "--sectors", str(PIECE), "--depth", str(DEPTH), "--range", str(SECTORS))
    while not stop.is_set():
        patience = ("--seconds", "1", "--patience", str(AGE_S))
        done = lab.run("client", load, "v0", "1", "1", *options, *patience, timeout=60)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    return results


@contextmanager
def repeated(work: Callable[[], object]) -> Iterator[None]:
    """Do something over and over meanwhile; what it raises is raised at the end."""
    stop, raised = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if raised:
        raise raised[0]
