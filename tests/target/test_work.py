"""What was done of an export, and for which hosts."""

from aoe.drive.command import Extent, Kind, Operation
from aoe.limits import HOSTS_SHOWN_MAX
from aoe.target.work import Figures, Host, Work


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, number >> 8, number & 255))


def test_requests_and_bytes_are_counted() -> None:
    work = Work()
    work.count(Operation(Kind.READ, (Extent(0, 8),)))
    work.count(Operation(Kind.WRITE, (Extent(0, 2),), bytes(1024)))
    work.count(Operation(Kind.FLUSH))
    found = work.figures(3)
    assert (found.reads, found.writes, found.flushes, found.trims) == (1, 1, 1, 0)
    assert (found.read_bytes, found.written_bytes, found.queue) == (4096, 1024, 3)


def test_of_many_hosts_those_that_were_heard_last_are_known() -> None:
    work = Work()
    for at in range(HOSTS_SHOWN_MAX):
        work.hear(mac(at), at + 1)
    work.hear(mac(0), 1000)
    work.hear(mac(999), 1001)
    hosts = {host.mac: host for host in work.figures(0).hosts}
    assert len(hosts) == HOSTS_SHOWN_MAX
    assert hosts[mac(0)] == Host(mac(0), 2, 1000)
    assert hosts[mac(999)].requests == 1
    assert mac(1) not in hosts


def test_both_engines_together() -> None:
    one = Figures(1, 2, 3, 4, 5, 6, 7, (Host(mac(1), 2, 30), Host(mac(2), 1, 5)))
    other = Figures(10, 20, 30, 40, 50, 60, 70, (Host(mac(1), 5, 20),))
    assert one.plus(other) == Figures(11, 22, 33, 44, 55, 66, 77, (Host(mac(1), 7, 30), Host(mac(2), 1, 5)))
