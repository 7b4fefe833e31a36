"""What share of the times in a histogram was how long, as Prometheus's histogram_quantile says it."""

from collections.abc import Sequence

from aoe.metrics.table import BUCKETS


def quantile_ns(counts: Sequence[int], share: float) -> float | None:
    """So large a share took no longer, in nanoseconds; within a bucket times count as spread evenly. What
    took longer than all bounds counts as the last one. None where nothing was counted."""
    total, below = sum(counts), 0
    if not total:
        return None
    wanted = share * total
    for at, bound in enumerate(BUCKETS):
        if below + counts[at] >= wanted and counts[at]:
            least = BUCKETS[at - 1] if at else 0
            return least + (bound - least) * (wanted - below) / counts[at]
        below += counts[at]
    return float(BUCKETS[-1])
