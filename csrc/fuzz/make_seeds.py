"""Writes seeds/: inputs for the two fuzzers made of requests that real clients sent.

Run from the top of the repository: python -m csrc.fuzz.make_seeds
"""

from collections.abc import Iterator
from pathlib import Path

from tests.engine.recorded import RECORDED

SEEDS = Path(__file__).parent / "seeds"
SECTOR = 512
HEADER = 36

# fuzz_parse.c: facts

FIX_SOURCE = 4
WHOLE_DISK = (1 << 28).to_bytes(6, "big")


def parse_seed(frame: bytes, *, lists: int = 0, flags: int = 0, block: int = 0, chosen: int = 0) -> bytes:
    """A frame for a port that has its destination as MAC; `lists` counts the masked and reserved MACs."""
    sectors, odd = divmod(len(frame) - HEADER, SECTOR) if len(frame) > HEADER else (0, 0)
    head = frame[: HEADER + odd] if sectors else frame
    facts = bytes((lists | block << 4, FIX_SOURCE, 0, 17, flags, chosen, chosen, sectors))
    return facts + frame[:6] + WHOLE_DISK + head


def parse_seeds() -> Iterator[tuple[str, bytes]]:
    for number, frame in enumerate(RECORDED):
        yield f"plain-{number:02}", parse_seed(frame)
    for length in (6, 13, 14, 17, 18, 23, 24, 27, 35):
        yield f"short-{length:02}", parse_seed(RECORDED[2][:length])
    for number, frame in enumerate(RECORDED[2:9]):
        yield f"masked-{number}", parse_seed(frame, lists=1, chosen=number)
        yield f"reserved-{number}", parse_seed(frame, lists=4, chosen=number)
        yield f"flags-{number}", parse_seed(frame, flags=1 << number, block=3)


# fuzz_loop.c: settings, then commands

PASS, REQUEST, FRAME, REPEAT, DONE, DISK, CLOCK, PUBLISH, PORT = range(9)
TAKE, RELEASE, SOCKET, MEMORY, CLOG = range(9, 14)
OPCODES = bytes.fromhex("2434253520302939C8CAC4C53DCEEAE7EC4206EF")
INSTANT, BUFFERED, DIRECT, DURABLE = range(4)
ADDRESSED = 1 | 4 | 8 | 16
"""As if the frame had been sent to our port by one of our clients, for one of our exports."""
PASS_ONCE = bytes((PASS, 0))
ONE_PORT, TWO_PORTS, TWO_THREADS = 0, 1, 2
THREADS_DO_IO, URING = 6 << 2, 7 << 2


def settings(how: int = 0, limits: int = 0) -> bytes:
    return bytes((how, limits, 8, 17))


def place(export: int = 0, client: int = 0, port: int = 0, age: int = 0) -> int:
    return export | client << 2 | port << 4 | age << 5


def recorded(frame: bytes, where: int, fixes: int = ADDRESSED) -> bytes:
    head = frame[:HEADER]
    return bytes((FRAME, fixes, where, (len(frame) - len(head)) // SECTOR, len(head))) + head


def request(opcode: int, where: int = 0, lba: int = 0, count: int = 1) -> bytes:
    return bytes((REQUEST, OPCODES.index(opcode), where, lba, count))


def stamped(opcode: int, epoch: int, where: int = 0) -> bytes:
    """Of a stream (order rule T9), for sector 0."""
    return bytes((REQUEST, 6 * len(OPCODES) + OPCODES.index(opcode), where, 0, 1, epoch))


def streams(export: int) -> bytes:
    """Registered, written to, drained, and written to under the epoch that is over."""
    here, passes = place(export), PASS_ONCE + done() + PASS_ONCE
    early = stamped(0xEC, 0, here) + passes + stamped(0x34, 0, here) + passes
    return early + stamped(0xEA, 1, here) + passes + stamped(0x34, 0, here) + passes + read(here) + passes


def read(where: int = 0, lba: int = 0, count: int = 1) -> bytes:
    return request(0x24, where, lba, count)


def write(where: int = 0, lba: int = 0, count: int = 1) -> bytes:
    return request(0x34, where, lba, count)


def flush(where: int = 0) -> bytes:
    return request(0xEA, where)


def overlapping(export: int) -> bytes:
    """Reads and writes of the same sectors, all at once, by two clients."""
    one, other = place(export), place(export, client=1)
    return (
        write(one, 0, 8)
        + read(other, 4, 2)
        + write(other, 0, 16)
        + read(one, 8, 8)
        + flush(one)
        + write(one, 8, 8)
        + read(other, 0, 17)
    )


def python(export: int) -> bytes:
    """Python takes everything and releases it; the engine looks."""
    return bytes((TAKE, 63, RELEASE, export | 63 << 2)) + PASS_ONCE


def done(number: int = 16, last_first: bool = False, fault: int = 0) -> bytes:
    return bytes((DONE, number - 1 | last_first << 4 | fault << 5)) + PASS_ONCE


def clients(export: int) -> bytes:
    """What the recorded clients did, in that order, at one export."""
    return b"".join(recorded(frame, place(export, number & 3)) for number, frame in enumerate(RECORDED))


def of_an_export(export: int) -> Iterator[tuple[str, bytes]]:
    here = place(export)
    yield "clients", settings() + clients(export) + PASS_ONCE + done() + python(export) + done()
    yield "order", settings() + overlapping(export) + PASS_ONCE + 4 * done(1, last_first=True)
    for fault in range(1, 7):
        yield f"fault-{fault}", settings() + overlapping(export) + PASS_ONCE + 3 * done(2, fault=fault)
    yield "early", settings() + bytes((DISK, 2)) + overlapping(export) + PASS_ONCE + done(fault=2)
    up = request(0x06, here, 0, 4)
    yield "trim", settings() + write(here) + up + read(here) + PASS_ONCE + done() + python(export) + done()
    odd = write(here, 3, 2) + read(here, 2, 5)
    yield "odd", settings() + odd + PASS_ONCE + done() + python(export) + done()
    shared = write(here, 0, 8) + write(here, 8, 8) + write(here, 16, 8) + flush(here) + flush(here)
    yield "sync", settings() + shared + PASS_ONCE + 2 * done(2) + done(1, fault=1) + 3 * done()
    yield "places", settings(limits=1) + shared + PASS_ONCE + bytes((CLOCK, 3)) + 4 * done(1)
    yield "queue", settings(limits=4) + overlapping(export) + PASS_ONCE + done()
    yield "few-ops", settings(limits=16) + overlapping(export) + PASS_ONCE + done()
    news = flush(here) + PASS_ONCE + done(1, fault=1) + bytes((PUBLISH, export, 8, 0)) + PASS_ONCE
    yield "sync-news", settings() + news + flush(here) + write(here, 0, 8) + PASS_ONCE + done()
    at_once = bytes((TAKE, 64)) + read(here, 0, 8) + request(0x06, here, 0, 4)
    yield "at-once", settings() + at_once + PASS_ONCE + python(export)
    refuse = bytes((SOCKET, 1 << 2, 15, 1))
    yield "blocked", settings() + read(here, 0, 8) + refuse + PASS_ONCE + write(here, 0, 8) + 3 * done()
    yield "threads", settings(THREADS_DO_IO) + overlapping(export) + PASS_ONCE + 4 * done()
    yield "uring", settings(URING) + overlapping(export) + PASS_ONCE + 4 * done()
    fence = bytes((PUBLISH, export, 8, 0x31))
    twice = overlapping(export) + PASS_ONCE + fence + overlapping(export) + PASS_ONCE
    yield "fence", settings() + twice + done()
    failed = bytes((PUBLISH, export | 16, 8, 0))
    yield "failed", settings() + shared + PASS_ONCE + failed + shared + PASS_ONCE + done() + python(export)


def of_the_wire() -> Iterator[tuple[str, bytes]]:
    everything = b"".join(recorded(frame, place(), fixes=0) for frame in RECORDED)
    yield "foreign", settings() + everything + PASS_ONCE
    ports = b"".join(read(place(port=n & 1, age=n % 3), n, 2) for n in range(8))
    yield "ports", settings(TWO_PORTS) + ports + PASS_ONCE + bytes((CLOCK, 1)) + PASS_ONCE
    threads = b"".join(overlapping(export) for export in range(4))
    both = bytes((PASS, 1, PASS, 0))
    yield "two-threads", settings(TWO_PORTS | TWO_THREADS) + threads + both + done() + both
    old = write(place(age=4)) + write(place(age=6)) + bytes((CLOCK, 6)) + write(place()) + PASS_ONCE
    yield "old", settings() + old + write(place()) + PASS_ONCE
    for mode in range(1, 7):
        lost = bytes((SOCKET, mode << 2, 3, 2)) + overlapping(INSTANT) + overlapping(BUFFERED)
        yield f"socket-{mode}", settings() + lost + PASS_ONCE + done()
    full = read(place(BUFFERED)) + bytes((SOCKET, 1 << 2, 15, 1))
    yield "outlet", settings() + full + 20 * bytes((REPEAT, 63)) + 6 * bytes((PASS, 6))
    short = bytes((PUBLISH, INSTANT, 15, 0)) + PASS_ONCE + read(place(), 60, 8) + write(place(), 60, 8)
    yield "short-file", settings() + short + PASS_ONCE + done() + python(INSTANT)
    clog = bytes((CLOG, 3)) + 3 * request(0xEC) + request(0x42) + read(place()) + PASS_ONCE
    yield "clogged", settings() + clog + bytes((TAKE, 0, TAKE, 9)) + PASS_ONCE
    for faults in (1, 2, 3, 4, 8, 12, 16, 32, 64):
        memory = bytes((MEMORY, faults)) + overlapping(INSTANT) + overlapping(BUFFERED) + PASS_ONCE
        yield f"memory-{faults}", settings() + memory + done() + python(INSTANT)
    moved = bytes((PORT, 0x20, 0)) + read(place()) + PASS_ONCE + bytes((PORT, 0x30, 2)) + read(place(), 0, 3)
    yield "port", settings() + moved + PASS_ONCE
    many = bytes((PORT, 0x20, 255))
    for export in range(4):
        many += request(0x24, place(export), 1, 255) + request(0x24, place(export), 1, 17)
    yield "many-sectors", settings() + many + PASS_ONCE + done()
    yield "closed", settings() + bytes((DISK, 0x30)) + overlapping(BUFFERED) + PASS_ONCE + done()


def loop_seeds() -> Iterator[tuple[str, bytes]]:
    for export, name in enumerate(("instant", "buffered", "direct", "durable")):
        for what, seed in of_an_export(export):
            yield f"{name}-{what}", seed
        yield f"{name}-streams", settings() + streams(export)
    yield from of_the_wire()


FOUND = {
    "map-cut-as-room-is-made": (
        "1800081101010000080100040402010104000c0100fa070821010e00000101010008080100040011"
        "000fffff60ffffffff0d040f0000040f0000"
    ),
    "memory-write-reply-refused": (
        "000008110b0c03020101000008010004040201010400100100000808010e00000101010008080100"
        "0400110101010008010005040201010500100100010808010e010001010101080801000500110000"
        "040f0000"
    ),
}
"""What the fuzzer once found, in hexadecimal."""


def seeds() -> dict[str, bytes]:
    """All of them, by the name of their file under seeds/."""
    found = {f"parse/{name}": seed for name, seed in parse_seeds()}
    found |= {f"loop/{name}": bytes.fromhex(seed) for name, seed in FOUND.items()}
    return found | {f"loop/{name}": seed for name, seed in loop_seeds()}


def main() -> None:
    for old in SEEDS.glob("*/*"):
        old.unlink()
    for name, seed in seeds().items():
        path = SEEDS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seed)


if __name__ == "__main__":
    main()
