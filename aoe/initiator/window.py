"""How many requests may be outstanding at a target."""

from aoe.limits import WINDOW_FIRST, WINDOW_MIN


class Window:
    """Grows by what is answered; is halved by a round-trip time that loses more than a quarter of it.

    AoE loses frames for other reasons than a full queue, and the target's buffer count already bounds
    what it can queue: so an isolated loss is forgiven. `most` is that bound, in requests.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = float(min(most, WINDOW_FIRST))
        self._threshold = float(most)
        self._round_ends_ns = 0
        self._lost = 0

    def limit(self, most: int) -> None:
        """The target says that it queues so many now."""
        self.most = most
        self._size = min(self._size, most)

    @property
    def size(self) -> int:
        """Requests that may be outstanding now."""
        return int(self._size)

    def answered(self) -> None:
        """A request was."""
        self._size = min(self._size + (1 if self._size < self._threshold else 1 / self._size), self.most)

    def lost(self, now_ns: int, round_ns: int) -> None:
        """A request was, so it seems; a round now takes `round_ns`."""
        if now_ns >= self._round_ends_ns:
            self._round_ends_ns = now_ns + round_ns
            self._lost = 0
        self._lost += 1
        if self._lost > max(self._size / 4, 1):
            self._lost = -self.most  # once in a round
            self.halve()

    def halve(self) -> None:
        """Much was lost, or nothing comes back at all."""
        self._size = max(self._size / 2, min(WINDOW_MIN, self.most))
        self._threshold = self._size
