"""Which changes wait for which: ranges of sectors, closed by the changes that hold them (order rule I2)."""

from aoe import limits
from aoe.wire import protocol


class Claim:
    """A change's hold on the sectors [first, last): from when no earlier one can touch them any more until
    nothing of its own can."""

    __slots__ = ("first", "followers", "last", "waits")

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.waits = 0
        """Earlier claims that it overlaps."""
        self.followers: list[Claim] = []

    def overlaps(self, first: int, last: int) -> bool:
        """Whether they share a sector."""
        return self.first < last and first < self.last

    @property
    def _buckets(self) -> range:
        return range(self.first // limits.BUCKET_SECTORS, (self.last - 1) // limits.BUCKET_SECTORS + 1)


class Ranges:
    """All claims, indexed by where they are; those that are wide are compared with everything."""

    def __init__(self) -> None:
        self._all: dict[Claim, None] = {}
        self._wide: dict[Claim, None] = {}
        self._buckets: dict[int, dict[Claim, None]] = {}

    def __contains__(self, claim: Claim) -> bool:
        return claim in self._all

    def enter(self, claim: Claim) -> None:
        """Queue behind the earlier claims that it overlaps; `claim.waits` says how many."""
        for other in self._near(claim.first, claim.last):
            other.followers.append(claim)
            claim.waits += 1
        self._all[claim] = None
        if len(claim._buckets) > limits.BUCKETS_MAX:
            self._wide[claim] = None
        else:
            for bucket in claim._buckets:
                self._buckets.setdefault(bucket, {})[claim] = None

    def leave(self, claim: Claim) -> list[Claim]:
        """Give up a claim that waits for nothing; those that wait for nothing any more, in their order."""
        assert not claim.waits, "a claim that waits holds nothing"
        del self._all[claim]
        if len(claim._buckets) > limits.BUCKETS_MAX:
            del self._wide[claim]
        else:
            for bucket in claim._buckets:
                del self._buckets[bucket][claim]
                if not self._buckets[bucket]:
                    del self._buckets[bucket]
        for follower in claim.followers:
            follower.waits -= 1
        return [follower for follower in claim.followers if not follower.waits]

    def touched(self, first: int, last: int) -> bool:
        """Whether there is a claim on any of the sectors."""
        return bool(self._near(first, last))

    def _near(self, first: int, last: int) -> list[Claim]:
        buckets = range(first // limits.BUCKET_SECTORS, (last - 1) // limits.BUCKET_SECTORS + 1)
        if len(buckets) > limits.BUCKETS_MAX:
            return [other for other in self._all if other.overlaps(first, last)]
        near: dict[Claim, None] = dict(self._wide)
        for bucket in buckets:
            near |= self._buckets.get(bucket, {})
        return [other for other in near if other.overlaps(first, last)]


assert protocol.SECTORS_PER_FRAME_MAX <= limits.BUCKET_SECTORS, "a piece lies in two buckets at most"
