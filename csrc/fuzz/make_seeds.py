"""Writes seeds/: inputs for the fuzzers, those of the target made of requests that real clients sent.

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
TAKE, RELEASE, SOCKET, MEMORY, CLOG, LEAVE, PLUG, CUT, LIFE = range(9, 18)
OPCODES = bytes.fromhex("2434253520302939C8CAC4C53DCEEAE7EC4206EF")
INSTANT, BUFFERED, DIRECT, DURABLE = range(4)
ADDRESSED = 1 | 4 | 8 | 16
"""As if the frame had been sent to our port by one of our clients, for one of our exports."""
PASS_ONCE = bytes((PASS, 0))
ONE_PORT, TWO_PORTS, TWO_THREADS, SPINS = 0, 1, 2, 32
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


def stamped(opcode: int, epoch: int, where: int = 0, kind: int = 6, count: int = 1) -> bytes:
    """Of a stream (order rule T9), for sector 0. Kind 6 and 7 are streams, 11 is one of an earlier life. With
    a count of 2 an IDENTIFY says that what its client asks for can wait."""
    return bytes((REQUEST, kind * len(OPCODES) + OPCODES.index(opcode), where, 0, count, epoch))


def streams(export: int) -> bytes:
    """Registered, written to, drained, and written to under the epoch that is over."""
    here, passes = place(export), PASS_ONCE + done() + PASS_ONCE
    early = stamped(0xEC, 0, here) + passes + stamped(0x34, 0, here) + passes
    return early + stamped(0xEA, 1, here) + passes + stamped(0x34, 0, here) + passes + read(here) + passes


def many_streams(export: int) -> bytes:
    """More than there is a place for, old ones repeated, the clock stepped, and time to forget them all."""
    passes, others = PASS_ONCE + done() + PASS_ONCE, range(1, 4)
    here = place(export)
    hello, old = stamped(0xEC, 0, here), stamped(0x34, 0, here)
    flood = b"".join(stamped(0xEC, 0, place(export, client), kind) for client in others for kind in (6, 7))
    drained = hello + passes + old + passes + stamped(0xEA, 1, here) + passes
    again = flood + passes + hello + old + passes
    stepped = (bytes((CLOCK, 6)) + PASS_ONCE) * 15 + again
    later = bytes((CLOCK, 3)) * 2 + again
    return drained + again + stepped + later


def strange_streams(export: int) -> bytes:
    """For an earlier life of the engine, of one that registered in this; and one that registers too late."""
    passes, here = PASS_ONCE + done() + PASS_ONCE, place(export)
    old_life = stamped(0xEC, 0, here, 11) + stamped(0x34, 0, here, 11)
    known = stamped(0xEC, 0, here, 7) + passes + old_life + stamped(0xEA, 0, here, 11) + passes
    late = place(export, client=1, age=5)
    return old_life + passes + known + stamped(0xEC, 0, late) + stamped(0x34, 0, place(export, 1)) + passes


def trimmed_streams(export: int) -> bytes:
    """TRIMs of a stream: repeated, late, for an earlier life; one begins an epoch, one waits for a FLUSH."""
    here, passes = place(export), PASS_ONCE + done() + python(export) + PASS_ONCE
    early = stamped_trim(0, here) + stamped(0xEC, 0, here) + passes + stamped_trim(0, here)
    waits = bytes((REPEAT, 1)) + passes + stamped_trim(0, here) + stamped(0xEA, 1, here) + passes
    late = stamped_trim(0, here) + stamped(0x34, 1, here) + passes + stamped_trim(2, here) + passes
    return (
        early
        + waits
        + late
        + stamped(0x34, 1, here)
        + stamped_trim(2, here, 11)
        + passes
        + read(here)
        + passes
    )


def far_epochs(export: int) -> bytes:
    """Each is less than half of all epochs ahead of the one before, not of the first: what waits counts."""
    here, passes = place(export), PASS_ONCE + done() + PASS_ONCE
    waits = trim(here, (0, 4)) + stamped(0x34, 100, here) + stamped(0x34, 150, here) + PASS_ONCE
    return stamped(0xEC, 0, here) + passes + waits + python(export) + passes


def known_streams(export: int) -> bytes:
    """One that registers again after a rest, and says another epoch, goes on where it was."""
    here, passes, rest = place(export), PASS_ONCE + done() + PASS_ONCE, bytes((CLOCK, 3)) * 3
    again = rest + PASS_ONCE + stamped(0xEC, 100, here) + passes
    return stamped(0xEC, 0, here) + passes + again + stamped(0x34, 50, here) + passes


def stepped_streams(export: int) -> bytes:
    """One that made room for others before the clock was set back, and is there again."""
    here, passes, rest = place(export), PASS_ONCE + done() + PASS_ONCE, bytes((CLOCK, 3)) * 3
    flood = b"".join(stamped(0xEC, 0, place(export, client), 7) for client in (1, 2, 3))
    first = stamped(0xEC, 9, here) + stamped(0x34, 9, here) + passes
    again = rest + PASS_ONCE + stamped(0xEC, 3, here) + stamped(0x34, 3, here) + passes
    return first + rest + PASS_ONCE + flood + passes + bytes((CLOCK, 7)) + passes + again


def moved_streams(export: int) -> bytes:
    """The port gets another MAC while frames of a later epoch wait: another host's, they end none."""
    here, passes, moved = place(export), PASS_ONCE + done() + PASS_ONCE, bytes((PORT, 0x20, 17))
    hello, lost = stamped(0xEC, 0, here), stamped(0x34, 9, here) + stamped(0xEA, 9, here)
    return hello + passes + lost + moved + passes + stamped(0x34, 5, here) + stamped(0xEA, 5, here) + passes


def read(where: int = 0, lba: int = 0, count: int = 1) -> bytes:
    return request(0x24, where, lba, count)


def write(where: int = 0, lba: int = 0, count: int = 1) -> bytes:
    return request(0x34, where, lba, count)


def flush(where: int = 0) -> bytes:
    return request(0xEA, where)


def stamped_trim(epoch: int, where: int, kind: int = 6) -> bytes:
    """Of the first four sectors."""
    return stamped(0x06, 1, where, kind) + bytes((0, 4, epoch))


def trim(where: int, *ranges: tuple[int, int]) -> bytes:
    return request(0x06, where) + bytes((len(ranges), *(number for one in ranges for number in one)))


def ranges(export: int) -> bytes:
    """TRIMs of some ranges, of too many to be compared, and of none; others between, beside and over them."""
    one, other = place(export), place(export, client=1)
    some, many = ((0, 2), (16, 2), (32, 2)), tuple((lba, 1) for lba in range(0, 60, 10))
    beside = read(other, 8, 4) + write(other, 24, 8) + request(0x42, other, 40, 8) + read(one, 62, 2)
    over = read(other, 17, 1) + write(one, 32, 8) + request(0x42, other, 0, 8) + flush(other)
    first = trim(one, *some) + beside + over + PASS_ONCE + done()
    hull = trim(other, *many) + read(one, 55, 1) + read(one, 62, 2) + PASS_ONCE + done()
    none = write(one, 0, 8) + trim(one) + trim(one, (3, 0)) + read(other, 0, 8) + PASS_ONCE + done()
    return first + python(export) + hull + python(export) + none + python(export) + done()


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


def by_turns(export: int) -> bytes:
    """Four clients, one of which asks for most, and the disk does one at a time; then one asks each time."""
    order = (0,) * 12 + (1, 2, 0, 3, 1)
    asked = b"".join(read(place(export, client), 8 * (at % 8)) for at, client in enumerate(order))
    again = read(place(export, 3), 40) + PASS_ONCE + done(1)
    return asked + PASS_ONCE + 3 * done(1) + 9 * again + asked + PASS_ONCE + 9 * done(1)


def background(export: int) -> bytes:
    """A client that can wait asks for most; others ask one after the other, then none does, then one again.
    Then its writes wait until they are half as old as they may be."""
    here, other = place(export), place(export, client=1)
    says = stamped(0xEC, 0, here, count=2) + PASS_ONCE + done()
    many = b"".join(read(here, 8 * (at % 8)) for at in range(14))
    busy = 6 * (read(other, 40) + PASS_ONCE + done(1)) + 8 * done(1)
    writes = b"".join(write(here, 8 * at) for at in range(6))
    turns = writes + b"".join(read(other, 8 * (at % 8)) for at in range(40)) + PASS_ONCE + 30 * done(1)
    late = (
        writes + read(other, 56) + PASS_ONCE + bytes((CLOCK, 3)) + read(other, 63) + PASS_ONCE + 4 * done(3)
    )
    return says + many + PASS_ONCE + busy + turns + many + read(other, 40) + PASS_ONCE + 3 * done(4) + late


def rests(export: int) -> Iterator[tuple[str, bytes]]:
    """A client that can wait, and another that asks while one of its requests is at the disk, so that it
    rests: until it goes on, or a write of it hurries, or a snapshot is made, or the export goes."""
    here, other, ms = place(export), place(export, client=1), bytes((CLOCK, 1)) + PASS_ONCE
    says = settings() + stamped(0xEC, 0, here, count=2) + PASS_ONCE + done()
    many = b"".join(read(here, 8 * (at % 8)) for at in range(6)) + write(here, 56, 8)
    asks = read(other, 40) + PASS_ONCE + ms + done()
    again, leaves, old = bytes((REPEAT, 20)) + PASS_ONCE, bytes((LEAVE, export)), place(export, age=3)
    begun = says + many + PASS_ONCE + asks
    yield "rest", begun + 3 * (asks + 4 * ms + asks + 20 * ms + done()) + many + asks + 30 * (ms + done())
    yield "rest-late", says + read(here) + asks + write(old, 56, 8) + read(other, 40) + again + 4 * done(2)
    yield "rest-cut", begun + cut(export, BEGINS) + read(other, 40) + again + 2 * done() + cut(export, GOES)
    yield "rest-leaves", says + read(here) + asks + leaves + 20 * ms + leaves + many + asks


def lives(export: int) -> bytes:
    """Written durably to an image whose process ends before the sync: the next one's sync is not theirs."""
    here, other = place(export), place(export, client=1)
    ends = bytes((DONE, 15, LIFE, 0)) + PASS_ONCE
    durable = bytes((PUBLISH, export | 8, 8, 0))
    between = durable + write(here, 0, 8) + PASS_ONCE + ends + 2 * done() + python(export)
    behind = write(here, 8, 8) + PASS_ONCE + done() + write(other, 16, 8) + PASS_ONCE + ends + 3 * done()
    fault = write(here, 0, 8) + flush(other) + PASS_ONCE + done(fault=7) + done(fault=7) + python(export)
    return between + behind + python(export) + fault + flush(here) + PASS_ONCE + done() + python(export)


BEGINS, GOES, CLONES, ENDS = range(4)


def cut(export: int, what: int, more: int = 0) -> bytes:
    """Of a snapshot; how many halves of ranges are cloned, or 15: that fails."""
    return bytes((CUT, export | what << 2 | more << 4)) + PASS_ONCE


def cuts(export: int) -> Iterator[tuple[str, bytes]]:
    """Snapshots while something is at the disk, by changes of all kinds; one to its end."""
    here = place(export)
    changes = overlapping(export) + trim(here, (0, 8), (40, 9)) + write(here, 3, 2) + write(here, 60, 8)
    begun = overlapping(export) + PASS_ONCE + cut(export, BEGINS) + changes + PASS_ONCE
    moment = begun + 4 * done() + python(export) + cut(export, GOES)
    some = moment + 3 * cut(export, CLONES, 1) + 2 * done() + python(export)
    yield "cut", settings() + some + 12 * (cut(export, CLONES, 3) + changes) + done() + python(export)
    yield "cut-ends", settings() + some + cut(export, ENDS) + done() + cut(export, BEGINS)
    yield "cut-ends-first", settings() + begun + cut(export, ENDS) + cut(export, BEGINS) + done()
    yield "cut-fails", settings() + some + 3 * cut(export, CLONES, 15) + done() + python(export)
    yield "cut-leaves", settings() + some + bytes((LEAVE, export)) + 9 * (cut(export, CLONES, 3) + done())
    yield "cut-old", settings() + moment + bytes((CLOCK, 3)) + 9 * (cut(export, CLONES, 3) + done())


def of_an_export(export: int) -> Iterator[tuple[str, bytes]]:
    here = place(export)
    yield "clients", settings() + clients(export) + PASS_ONCE + done() + python(export) + done()
    yield "order", settings() + overlapping(export) + PASS_ONCE + 4 * done(1, last_first=True)
    for fault in range(1, 8):
        yield f"fault-{fault}", settings() + overlapping(export) + PASS_ONCE + 3 * done(2, fault=fault)
    yield "early", settings() + bytes((DISK, 2)) + overlapping(export) + PASS_ONCE + done(fault=2)
    up = trim(here, (0, 4))
    yield "trim", settings() + write(here) + up + read(here) + PASS_ONCE + done() + python(export) + done()
    yield "ranges", settings() + ranges(export)
    yield "lives", settings() + lives(export)
    yield from cuts(export)
    odd = write(here, 3, 2) + read(here, 2, 5)
    yield "odd", settings() + odd + PASS_ONCE + done() + python(export) + done()
    shared = write(here, 0, 8) + write(here, 8, 8) + write(here, 16, 8) + flush(here) + flush(here)
    yield "sync", settings() + shared + PASS_ONCE + 2 * done(2) + done(1, fault=1) + 3 * done()
    yield "places", settings(limits=1) + shared + PASS_ONCE + bytes((CLOCK, 3)) + 4 * done(1)
    yield "turns", settings(limits=1) + by_turns(export) + 2 * done()
    yield "shared", settings() + by_turns(export) + bytes((CLOCK, 3)) + 2 * done()
    yield "background", settings() + background(export) + stamped(0xEC, 0, here) + 4 * done()
    yield "background-places", settings(limits=1) + background(export) + 20 * done(1)
    yield from rests(export)
    asleep = bytes((PUBLISH, export, 8, 0)) + 3 * PASS_ONCE
    yield "spins", settings(SPINS) + read(here) + asleep + done()
    yield "queue", settings(limits=4) + overlapping(export) + PASS_ONCE + done()
    yield "few-ops", settings(limits=16) + overlapping(export) + PASS_ONCE + done()
    news = flush(here) + PASS_ONCE + done(1, fault=1) + bytes((PUBLISH, export, 8, 0)) + PASS_ONCE
    yield "sync-news", settings() + news + flush(here) + write(here, 0, 8) + PASS_ONCE + done()
    at_once = bytes((TAKE, 64)) + read(here, 0, 8) + trim(here, (0, 4))
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
    leave, late = bytes((LEAVE, export)), overlapping(export) + PASS_ONCE
    gone = overlapping(export) + PASS_ONCE + leave + late + done() + PASS_ONCE + python(export) + done()
    yield "leave", settings() + gone + PASS_ONCE + leave + overlapping(export) + PASS_ONCE + done()
    yield "leave-ready", settings(limits=1) + up + gone + leave + late + 4 * done(1)


def of_the_wire() -> Iterator[tuple[str, bytes]]:
    everything = b"".join(recorded(frame, place(), fixes=0) for frame in RECORDED)
    yield "foreign", settings() + everything + PASS_ONCE
    ports = b"".join(read(place(port=n & 1, age=n % 3), n, 2) for n in range(8))
    yield "ports", settings(TWO_PORTS) + ports + PASS_ONCE + bytes((CLOCK, 1)) + PASS_ONCE
    threads = b"".join(overlapping(export) for export in range(4))
    both_pass = bytes((PASS, 1, PASS, 0))
    yield "two-threads", settings(TWO_PORTS | TWO_THREADS) + threads + both_pass + done() + both_pass
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
    out, both = bytes((PLUG, 1)), place(BUFFERED, port=1)
    work = trim(both, (0, 4)) + read(both, 0, 8) + read(place(BUFFERED), 8, 8) + PASS_ONCE + write(both)
    goes = work + out + write(both, 8) + read(place(BUFFERED)) + PASS_ONCE + done() + python(BUFFERED)
    yield "unplugged", settings(TWO_PORTS) + goes + PASS_ONCE + out + goes + out + PASS_ONCE + done()
    blocked = read(both, 0, 8) + bytes((SOCKET, 2 | 1 << 2, 15, 1)) + PASS_ONCE + done()
    yield "unplugged-blocked", settings(TWO_PORTS) + blocked + out + 2 * PASS_ONCE + out + goes
    first = bytes((PLUG, 0))
    yield "unplugged-first", settings(TWO_PORTS) + goes + first + goes + first + 2 * (PASS_ONCE + out + goes)
    yield (
        "unplugged-threads",
        settings(TWO_PORTS | TWO_THREADS) + threads + out + both_pass + out + threads + both_pass,
    )
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
        yield f"{name}-many-streams", settings() + many_streams(export)
        yield f"{name}-strange-streams", settings() + strange_streams(export)
        yield f"{name}-far-epochs", settings() + far_epochs(export)
        yield f"{name}-trimmed-streams", settings() + trimmed_streams(export)
        yield f"{name}-known-streams", settings() + known_streams(export)
        yield f"{name}-stepped-streams", settings() + stepped_streams(export)
        yield f"{name}-moved-streams", settings() + moved_streams(export)
    yield from of_the_wire()


# fuzz_core.c: settings, then commands

LIVE, TICK, SEND, START, ABANDON, TAKE_DONE, FREE, ANSWER = range(8)
REPLY, ADVERTISE, ANY_FRAME, IDENTITY, SIZE, PLUG_PATH, SWITCH, FENCE = range(8, 16)
READ, WRITE, WRITE_FUA, FLUSH, TRIM, IDENTIFY, SERVER = range(7)
AT_BYTE, AT_SECTOR, AT_PAGE, BEFORE_END, BEYOND_END, AT_HALF, NEAR_2_64, HUGE = range(8)
BYTES, NOTHING, THE_REST, ENDLESS, WRAPPED, SECTORS, ALL_BUT = 0, 2, 3, 4, 5, 6, 7
GOOD, ATA_ERROR, AOE_ERROR, FAULT, CUT_OFF, LONGER, MUTATED, OTHER_PORT, TWICE, OTHER_SERVER = range(10)
SPREAD, HOLD, GO_BACK, END_WELL, REQUIRE = 1, 2, 2 << 2, 16, 32
A_SECOND, TWO_SECONDS, ELEVEN_SECONDS, A_MINUTE, AN_HOUR = 9, 10, 12, 13, 14
INTO_A_BUFFER = 0x40


def core_settings(ports: int = 2, addresses: int = 2, policy: int = 0, tags: int = 0) -> bytes:
    return bytes((ports - 1 | addresses - 1 << 2 | tags << 4, policy))


def live(steps: int = 8, slow: bool = False, silent: int = 0) -> bytes:
    return bytes((LIVE, steps - 1 | slow << 3 | silent << 4))


def start(
    verb: int, place: int = 0, length: int = 0, *, at: int = AT_BYTE, of: int = BYTES, how: int = 0
) -> bytes:
    return bytes((START, verb, at | of << 3 | how)) + place.to_bytes(2, "big") + length.to_bytes(2, "big")


def message(path: int, command: int = 1, least: int = 16, length: int = 8) -> bytes:
    return bytes((START, SERVER | path << 3, command - 1, least, length)) + (b"" if length else b"\1")


def tick(step: int) -> bytes:
    return bytes((TICK, step))


def answered(how: int, value: int = 0, back: int = 0, more: int = 1) -> bytes:
    """In some way, the frame sent so long before the last one."""
    return bytes((REPLY, back, how, value)) + (bytes((more,)) if how in (ATA_ERROR, MUTATED) else b"")


def plug(port: int, up: bool, sectors: int = 0, window: int = 0) -> bytes:
    return bytes((PLUG_PATH, port | up << 2, sectors | window << 3))


def resized(size: int, servers: int = 15) -> bytes:
    return bytes((SIZE, size | servers << 4))


def set_words(word: int, *values: int, servers: int = 15) -> bytes:
    return bytes((IDENTITY, servers, word, len(values) - 1)) + b"".join(
        value.to_bytes(2, "big") for value in values
    )


ALL_DONE = bytes((TAKE_DONE, 63))
CHOSEN = live(3, slow=True) + live(3, slow=True)
MIXED = (
    start(WRITE, 0, 9000)
    + start(WRITE, 700, 3000)
    + start(READ, 100, 5000)
    + start(READ, 0, 20000, how=INTO_A_BUFFER)
    + start(WRITE_FUA, 1, 16, at=AT_PAGE, of=SECTORS)
    + start(WRITE, 513, 1)
    + start(TRIM, 0, 0, of=THE_REST)
    + start(FLUSH)
    + start(IDENTIFY)
    + message(1)
)


def core_odds() -> Iterator[tuple[str, bytes]]:
    """Caller's requests at the edges, and answers of every kind."""
    places = (AT_BYTE, AT_SECTOR, BEFORE_END, BEYOND_END, AT_HALF, NEAR_2_64, HUGE)
    for verb, name in enumerate(("read", "write", "write-fua", "flush", "trim", "identify")):
        odd = b"".join(
            start(verb, 1000, 700, at=at, of=of)
            for at in places
            for of in (BYTES, NOTHING, THE_REST, ENDLESS, WRAPPED)
        )
        yield f"odd-{name}", core_settings(policy=END_WELL) + CHOSEN + odd + live() + ALL_DONE + live()
    for kind in range(1, 10):
        for value in (0, 23, 36, 0x81):
            spoilt = b"".join(answered(kind, value, back) for back in range(12))
            lost = live(1, silent=15)
            yield (
                f"reply-{kind}-{value}",
                core_settings() + CHOSEN + MIXED + lost + spoilt + live() + ALL_DONE,
            )
    for words, (word, *values) in {
        "no-fua": (84, 0x4000),
        "no-flush": (83, 0x4400),
        "flush-28": (83, 0x5400),
        "lba-28": (83, 0x7000),
        "no-trim": (169, 0),
        "much-trim": (105, 0xFFFF),
        "cache": (85, 0x20),
        "foreign": (129, 0, 0),
        "old-frames": (132, 0xFFFF, 0xFFFF),
        "no-streams": (138, 0),
        "no-lba": (49, 0),
        "checksum": (255, 0x00A5),
        "old-streams": (138, 1),
        "no-trim-streams": (138, 2),
    }.items():
        yield (
            f"words-{words}",
            core_settings(policy=END_WELL) + set_words(word, *values) + CHOSEN + MIXED + live(),
        )
    asked_once = live(2)
    for words, (word, *values) in {
        "refused": (138, 0),
        "another-life": (134, 99),
        "another-life-without-trims": (134, 99, 0, 0, 0, 10),
        "its-end": (129, 0),
    }.items():
        changed = asked_once + set_words(word, *values) + live(3, slow=True) + CHOSEN
        yield f"stream-{words}", core_settings(policy=END_WELL) + changed + MIXED + live() + ALL_DONE
    for size in range(16):
        yield (
            f"size-{size}",
            core_settings(policy=END_WELL) + resized(size) + CHOSEN + MIXED + live() + ALL_DONE,
        )


def core_trims() -> Iterator[tuple[str, bytes]]:
    """A TRIM under way as its server begins another life, which asks for its stream or not."""
    trims = b"".join(start(verb, 1, 16, at=AT_PAGE, of=SECTORS) for verb in (TRIM, WRITE))
    compared = core_settings(ports=1, addresses=1, policy=END_WELL) + CHOSEN + live()
    told = b"".join(bytes((ADVERTISE, host, 0, 16, 16)) for host in range(4))
    for says in (2, 10, 18, 26):
        born = set_words(134, 99, 0, 0, 0, says) + told + live()
        lost = trims + live(1, silent=15) + born
        yield f"trims-{says}", compared + lost + live(8, slow=True) + ALL_DONE


def core_reads_anew() -> Iterator[tuple[str, bytes]]:
    """What waits as a server says that it has begun another life leaves twice: for the last life, too."""
    waits = {
        "identify": start(IDENTIFY),
        "a-config": message(1, 1, length=200),
        "a-mask": message(1, 2),
        "a-reserve": message(1, 3, least=0),
        "a-read": start(READ, 0, 512),
    }
    for says in (0, 10):
        chosen = core_settings(ports=1, addresses=1, policy=END_WELL) + set_words(138, says) + CHOSEN
        for name, one in waits.items():
            born = start(IDENTIFY) + 24 * one + set_words(134, 99) + live() + ALL_DONE
            yield f"born-before-{name}-{says}", chosen + born


def core_lives() -> Iterator[tuple[str, bytes]]:
    """Paths that come and go."""
    silent = live(8, slow=True, silent=15)
    for policy in range(16):
        moved = plug(0, False) + MIXED + live() + plug(0, True) + live(8, slow=True) + MIXED + live()
        for well in (0, END_WELL):
            yield (
                f"moved-{policy + well}",
                core_settings(policy=policy | well) + CHOSEN + MIXED + live(1, silent=15) + moved,
            )
    for step in (A_SECOND, TWO_SECONDS, ELEVEN_SECONDS, A_MINUTE, AN_HOUR, 15):
        late = CHOSEN + MIXED + live(1, silent=15) + tick(step) + bytes((SEND,)) + tick(step) + MIXED
        late += b"".join(answered(GOOD, 0, back) for back in range(20))
        yield f"late-{step}", core_settings() + late + live()
        yield f"late-drained-{step}", core_settings(ports=1, policy=END_WELL) + late + live(8, slow=True)
    given_up = b"".join(bytes((ABANDON, which)) for which in range(10))
    yield (
        "abandoned",
        core_settings() + CHOSEN + MIXED + live(1, silent=15) + given_up + MIXED + live(8, slow=True),
    )
    yield "abandoned-unsent", core_settings(policy=END_WELL) + CHOSEN + MIXED + given_up + live(8, slow=True)
    yield (
        "closed-at-work",
        core_settings() + CHOSEN + MIXED + live(1, silent=15) + plug(0, False) + plug(1, False),
    )
    yield "closed-unsent", core_settings() + CHOSEN + MIXED
    fenced = b"".join(bytes((FENCE, path)) for path in range(10))
    yield (
        "fenced",
        core_settings(policy=HOLD) + CHOSEN + MIXED + live(1, silent=15) + given_up + fenced + MIXED + live(),
    )
    switched = b"".join(bytes((SWITCH, path)) + MIXED + live(1, silent=3) for path in range(10))
    yield "switched", core_settings(policy=END_WELL) + CHOSEN + switched
    for sectors in range(8):
        small = plug(0, True, sectors, sectors) + plug(1, True, sectors) + CHOSEN
        yield (
            f"sectors-{sectors}",
            core_settings(policy=END_WELL) + small + MIXED + live() + plug(0, True, 1) + live(),
        )
    told = b"".join(bytes((ADVERTISE, host, host, host % 5, host)) for host in range(40))
    yield "crowd", core_settings() + told + CHOSEN + told + MIXED + live(8, slow=True)
    shrunk = bytes((ADVERTISE, 0, 0, 1, 0)) + bytes((ADVERTISE, 1, 1, 255, 255))
    yield "shrunk", core_settings(policy=END_WELL) + CHOSEN + MIXED + shrunk + live(8, slow=True)
    news = set_words(134, 9) + bytes((ADVERTISE, 0, 0, 16, 16))
    cache = core_settings(ports=1, addresses=1) + set_words(85, 0x20) + CHOSEN + MIXED + live()
    yield "restarted", cache + news + start(FLUSH) + live(8, slow=True) + ALL_DONE
    slow = b"".join(answered(GOOD, 0, back) for back in range(3)) + live(8, slow=True, silent=14)
    yield "slow", core_settings(policy=SPREAD) + CHOSEN + MIXED + 6 * slow + silent + live(8, slow=True)
    frames = b"".join(
        bytes((ANY_FRAME, fixes, length)) + bytes(length)
        for fixes in (0, 7, 15)
        for length in (0, 23, 24, 31, 36, 60)
    )
    yield "frames", core_settings() + CHOSEN + MIXED + live(1, silent=15) + frames + live()
    growing = (
        resized(4) + bytes((ADVERTISE, 0, 0, 16, 16)) + live(8, slow=True) + resized(3) + live(8, slow=True)
    )
    yield "growing", core_settings(policy=END_WELL) + CHOSEN + MIXED + growing + MIXED
    one_path = (
        core_settings(ports=1, addresses=1) + live(3, slow=True, silent=14) + live(3, slow=True, silent=14)
    )
    one_path += start(READ, 0, 512) + live(2, silent=14)
    lost = start(READ, 0, 512) + live(1, silent=15) + 18 * (tick(A_MINUTE) + bytes((SEND,)))
    overtaken = tick(15) + bytes((SEND,)) + tick(2) + start(READ, 0, 512)
    overtaken += answered(GOOD, back=2) + bytes((SEND,)) + answered(GOOD)
    yield "overtaken-after-days", one_path + lost + overtaken
    copies = start(WRITE, 0, 512) + live(1, silent=15) + 40 * (tick(A_MINUTE) + bytes((SEND,)))
    yield "many-copies", one_path + copies + b"".join(answered(GOOD, back=back) for back in range(0, 80, 3))
    nothing_fits = plug(0, True, 1) + answered(GOOD, back=9)  # the first frame, a query
    yield (
        "sectors-gone",
        core_settings(ports=1) + live(3) + nothing_fits + live(1, slow=True) + MIXED + live(),
    )
    yield "switched-too-early", core_settings() + live(3) + bytes((SWITCH, 2)) + MIXED + CHOSEN
    kept = bytes((TAKE_DONE, 0x40 | 63, FREE, 3, FREE, 1, FREE, 0))
    yield "results-kept", core_settings(tags=1) + CHOSEN + MIXED + live(8, slow=True) + kept + MIXED + live()


def core_proofs() -> Iterator[tuple[str, bytes]]:
    """Servers whose disks are compared. The first two of the four show what others store."""
    written = b"".join(
        start(WRITE, 9 * number, 1, at=AT_SECTOR, of=SECTORS) + live(2) for number in range(12)
    )
    end = written + live(8, slow=True)
    for policy in (0, SPREAD, END_WELL, REQUIRE | END_WELL, GO_BACK | END_WELL):
        for silent in (3, 12):
            apart = CHOSEN + written + live(4, silent=silent) + written + live(8, slow=True)
            yield f"echo-{policy}-{silent}", core_settings(policy=policy) + apart + end
    for policy in (0, SPREAD, HOLD, END_WELL, REQUIRE | END_WELL, GO_BACK | END_WELL):
        told = b"".join(bytes((ADVERTISE, host, 0, 16, 16)) for host in range(4))
        drains = set_words(138, 6, servers=1) + told + MIXED + live(8) + MIXED + live(8, slow=True)
        drains += set_words(138, 6, servers=2) + told + MIXED + live(1, silent=1) + live(8, slow=True)
        ends = set_words(138, 2, servers=3) + told + end + live(8, slow=True)
        yield f"drains-{policy}", core_settings(policy=policy) + CHOSEN + written + drains + ends
        anew = set_words(138, 6, servers=15) + told + live(1) + set_words(134, 9, servers=3) + told + MIXED
        yield f"drains-anew-{policy}", core_settings(policy=policy) + CHOSEN + written + anew + end
    differ = set_words(139, 1, 7, servers=2) + set_words(139, 1, 8, servers=13)
    yield "stores-differ", core_settings(policy=END_WELL) + differ + CHOSEN + MIXED + live(8, slow=True)
    lost = start(WRITE, 0, 512) + live(1, silent=1) + plug(0, False) + live(2) + plug(0, True)
    yield "lost-in-an-echo", core_settings(policy=END_WELL) + CHOSEN + lost + end
    shrunk = bytes((ADVERTISE, 0, 0, 1, 16)) + bytes((ADVERTISE, 1, 1, 1, 16))
    yield (
        "shrunk-as-it-is-compared",
        core_settings(policy=END_WELL) + live(3) + live(1) + shrunk + CHOSEN + end,
    )


def core_seeds() -> Iterator[tuple[str, bytes]]:
    yield from core_proofs()
    yield from core_odds()
    yield from core_trims()
    yield from core_reads_anew()
    yield from core_lives()


FOUND = {
    "loop/port-leaves-with-a-read-handed-up": "001d0807110101000103087baf5300110000043900010f0000",
    "loop/map-cut-as-room-is-made": (
        "1800081101010000080100040402010104000c0100fa070821010e00000101010008080100040011"
        "000fffff60ffffffff0d040f0000040f0000"
    ),
    "loop/memory-write-reply-refused": (
        "000008110b0c03020101000008010004040201010400100100000808010e00000101010008080100"
        "0400110101010008010005040201010500100100010808010e010001010101080801000500110000"
        "040f0000"
    ),
    "core/path-shrinks-as-it-is-checked": (
        "05000900000202000a000a0322080803080960b01009030232000101100900080803"
    ),
    "core/barred-beside-a-volatile-cache": "05ff1808e84b00100b0f55000020000a000003010056000032004e07",
    "core/a-path-shrinks-as-it-is-compared-on-a-long-way": "051000606100000300004d4d070d0001000700000000",
    "core/port-shrinks": "0003000310080e0403004029104e001d000a",
    "core/another-life-as-an-identify-waits": (
        "05100d04240d0504000a000a0301000000232803010002bc0bb8030000004d4d4d4d4d4d4d4d4d4d"
        "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d"
        "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d"
        "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d641388"
        "03004000004e20030232000100100301000201000103004000004e20030232000100100305000000"
        "0000030e00100800070d04010007"
    ),
    "core/a-flush-of-a-length": (
        "05100cf5000a000a0510000a000a03050003e802bc03051003e802bc03051803e802bc03052003e8"
        "02bc03052803e802bc03050103e802bc03051103e802bc03051903e802bc03052103e802bc030529"
        "03e80301000000232803010002bc0bb80300000064138803004000004e200302320002bc03050303"
        "e802bc03051303e802bc03051b03e802bc03052303e802bc03052b03e802bc03050403e802bc0305"
        "1403e802bc03051c03e802bc03052403e802bc03052c03e802bc03050503e802bc03051503e802bc"
        "03051d03e802bc03052503e802bc03052d03e802bc03050603e802bc03051603052603e802bc0305"
        "2e03e802bc03050703e802bc03051703010010030100e802bc03051f03e8021703e802bc03051f02"
        "0103"
    ),
}
"""What the fuzzers once found, in hexadecimal."""


def seeds() -> dict[str, bytes]:
    """All of them, by the name of their file under seeds/."""
    found = {f"parse/{name}": seed for name, seed in parse_seeds()}
    found |= {f"core/{name}": seed for name, seed in core_seeds()}
    found |= {name: bytes.fromhex(seed) for name, seed in FOUND.items()}
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
