"""Which changes wait for which: ranges of sectors, locked by the changes that hold them (order rule I2)."""

from aoe import limits
from aoe.wire import protocol


class RangeLock:
    """A change's lock of the sectors [first, last): from when no earlier one can touch them any more until
    nothing of its own can."""

    __slots__ = ("first", "followers", "last", "waits")

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.waits = 0
        """Earlier locks that it overlaps."""
        self.followers: list[RangeLock] = []

    def overlaps(self, first: int, last: int) -> bool:
        """Whether they share a sector."""
        return self.first < last and first < self.last

    @property
    def _buckets(self) -> range:
        return range(self.first // limits.BUCKET_SECTORS, (self.last - 1) // limits.BUCKET_SECTORS + 1)


class Ranges:
    """All locks, indexed by where they are; those that are wide are compared with everything."""

    def __init__(self) -> None:
        self._all: dict[RangeLock, None] = {}
        self._wide: dict[RangeLock, None] = {}
        self._buckets: dict[int, dict[RangeLock, None]] = {}

    def __contains__(self, lock: RangeLock) -> bool:
        return lock in self._all

    def enter(self, lock: RangeLock) -> None:
        """Queue behind the earlier locks that it overlaps; `lock.waits` says how many."""
        for other in self._near(lock.first, lock.last):
            other.followers.append(lock)
            lock.waits += 1
        self._all[lock] = None
        if len(lock._buckets) > limits.BUCKETS_MAX:
            self._wide[lock] = None
        else:
            for bucket in lock._buckets:
                self._buckets.setdefault(bucket, {})[lock] = None

    def leave(self, lock: RangeLock) -> list[RangeLock]:
        """Give up a lock that waits for nothing; those that wait for nothing any more, in their order."""
        assert not lock.waits, "what waits holds nothing"
        del self._all[lock]
        if len(lock._buckets) > limits.BUCKETS_MAX:
            del self._wide[lock]
        else:
            for bucket in lock._buckets:
                del self._buckets[bucket][lock]
                if not self._buckets[bucket]:
                    del self._buckets[bucket]
        followers, lock.followers = lock.followers, []  # it may enter again
        for follower in followers:
            follower.waits -= 1
        return [follower for follower in followers if not follower.waits]

    def touched(self, first: int, last: int) -> bool:
        """Whether there is a lock on any of the sectors."""
        return bool(self._near(first, last))

    def _near(self, first: int, last: int) -> list[RangeLock]:
        buckets = range(first // limits.BUCKET_SECTORS, (last - 1) // limits.BUCKET_SECTORS + 1)
        if len(buckets) > limits.BUCKETS_MAX:
            return [other for other in self._all if other.overlaps(first, last)]
        near: dict[RangeLock, None] = dict(self._wide)
        for bucket in buckets:
            near |= self._buckets.get(bucket, {})
        return [other for other in near if other.overlaps(first, last)]


assert protocol.SECTORS_PER_FRAME_MAX <= limits.BUCKET_SECTORS, "a piece lies in two buckets at most"
