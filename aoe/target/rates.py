"""How much of an export may be asked for: by all of its hosts together, and by each. Sans-I/O, in integers;
`csrc/target/rates.c` is the same.

Of each limit is kept up to which time its requests are paid for: one that costs a share of a second moves
that by as much. A request begins when what was paid for before is not more than the burst ahead of the clock,
so after a pause as much as the burst comes at once, and then no more than the rate.
"""

from typing import NamedTuple

from aoe.limits import LIMITED_HOSTS_MAX
from aoe.timing import LIMIT_BURST_NS, LIMIT_DELAY_NS

_A_SECOND = 1_000_000_000


class Limits(NamedTuple):
    """Requests and bytes a second of an export, and of each of its hosts; 0: as many as it can. So many
    nanoseconds' worth of a limit may come at once after a pause (`burst_ns`)."""

    iops: int = 0
    bandwidth: int = 0
    client_iops: int = 0
    client_bandwidth: int = 0
    burst_ns: int = LIMIT_BURST_NS

    @property
    def any(self) -> bool:
        """Whether something is limited."""
        return any(self[:4])


NONE = Limits()


LIMITS = ("limit_iops", "limit_bandwidth", "limit_client_iops", "limit_client_bandwidth", "limit_burst")
"""What those are called by their users."""


def limits_of(
    *,
    limit_iops: int,
    limit_bandwidth: int,
    limit_client_iops: int,
    limit_client_bandwidth: int,
    limit_burst: float,
) -> Limits:
    """From a user's words; the burst is in seconds."""
    burst_ns = round(limit_burst * _A_SECOND)
    return Limits(limit_iops, limit_bandwidth, limit_client_iops, limit_client_bandwidth, burst_ns)


def patience_ns(frame_age_ns: int) -> int:
    """How long a request may be delayed: what is late by more would be dropped by the age test (order rule
    T3), or asked for again."""
    return min(frame_age_ns // 4, LIMIT_DELAY_NS)


class Meter:
    """One limit; `rate` is in units a second."""

    __slots__ = ("_burst_ns", "_paid_ns", "_rate", "_rest")

    def __init__(self, rate: int, burst_ns: int) -> None:
        self._rate = rate
        self._burst_ns = burst_ns
        self._paid_ns = 0
        self._rest = 0
        """Of a nanosecond, in parts of the rate."""

    @property
    def begins_ns(self) -> int:
        """Before that nothing more may begin."""
        return max(0, self._paid_ns - self._burst_ns)

    def pay(self, units: int, now_ns: int) -> None:
        """A request of so many units is taken."""
        if not self._rate:
            return
        if self._paid_ns <= now_ns:
            self._paid_ns, self._rest = now_ns, 0
        spent_ns, self._rest = divmod(units * _A_SECOND + self._rest, self._rate)
        self._paid_ns += spent_ns

    def is_full(self, now_ns: int) -> bool:
        """Whether it is as it was when it was made."""
        return self._paid_ns <= now_ns


class _Pair:
    """Limits of the same host or export."""

    __slots__ = ("_bytes", "_requests")

    def __init__(self, iops: int, bandwidth: int, burst_ns: int) -> None:
        self._requests = Meter(iops, burst_ns)
        self._bytes = Meter(bandwidth, burst_ns)

    @property
    def begins_ns(self) -> int:
        return max(self._requests.begins_ns, self._bytes.begins_ns)

    def pay(self, size: int, now_ns: int) -> None:
        self._requests.pay(1, now_ns)
        self._bytes.pay(size, now_ns)

    def is_full(self, now_ns: int) -> bool:
        return self._requests.is_full(now_ns) and self._bytes.is_full(now_ns)


class Rates:
    """The limits of one export at work. Times are CLOCK_BOOTTIME and never go back.

    A host that was within its limits for as long as its burst is forgotten when another one needs its place:
    it would begin as it is. Where no place is free, hosts that have none share one.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._whole = _Pair(limits.iops, limits.bandwidth, limits.burst_ns)
        self._others = self._pair()
        self._hosts: dict[bytes, _Pair] = {}

    def begins_ns(self, mac: bytes, now_ns: int) -> int:
        """When a request of a host may begin: now, or later."""
        return max(now_ns, self._whole.begins_ns, self._of(mac, now_ns).begins_ns)

    def pay(self, mac: bytes, size: int, now_ns: int) -> None:
        """A request that moves so many bytes is taken."""
        self._whole.pay(size, now_ns)
        self._of(mac, now_ns).pay(size, now_ns)

    def _of(self, mac: bytes, now_ns: int) -> _Pair:
        known = self._hosts.get(mac)
        if known is not None:
            return known
        if len(self._hosts) >= LIMITED_HOSTS_MAX:
            full = next((it for it, pair in self._hosts.items() if pair.is_full(now_ns)), None)
            if full is None:
                return self._others
            del self._hosts[full]
        self._hosts[mac] = self._pair()
        return self._hosts[mac]

    def _pair(self) -> _Pair:
        limits = self.limits
        return _Pair(limits.client_iops, limits.client_bandwidth, limits.burst_ns)
