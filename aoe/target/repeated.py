"""Messages that a peer or a disk can cause as often as it likes: one of a kind now and then, and a count."""

import asyncio
import logging
from collections.abc import Hashable

from aoe import timing
from aoe.limits import MESSAGE_KINDS_MAX

_OTHERS = object()
"""The kind of all that are more than are told apart."""


class _Kind:
    """What was said last of a kind, and how much was left out since."""

    def __init__(self) -> None:
        self.left_out = 0
        self.level = 0
        self.text = ""
        self.arguments: tuple[object, ...] = ()


class Repeated:
    """Says the first message of a kind at once, and from then on the latest of them every few seconds, with
    the number of those left out. Inside a running event loop, which says what is due."""

    def __init__(self, log: logging.Logger, interval_s: float = timing.MESSAGE_INTERVAL_S) -> None:
        self._log = log
        self._interval_s = interval_s
        self._kinds: dict[Hashable, _Kind] = {}

    def say(
        self, kind: Hashable, level: int, text: str, *arguments: object, exc_info: BaseException | None = None
    ) -> None:
        """`text` and `arguments` as `logging` takes them; `kind` is what makes two messages alike. Only the
        first comes with `exc_info`."""
        if kind not in self._kinds and len(self._kinds) >= MESSAGE_KINDS_MAX:
            kind = _OTHERS
        known = self._kinds.get(kind)
        if known is None:
            self._log.log(level, text, *arguments, exc_info=exc_info)
            self._watch(kind)
        else:
            known.left_out += 1
            known.level, known.text, known.arguments = level, text, arguments

    def finish(self) -> None:
        """Say what is still to be said."""
        for known in self._kinds.values():
            self._sum_up(known)
        self._kinds.clear()

    def _watch(self, kind: Hashable) -> None:
        self._kinds[kind] = _Kind()
        asyncio.get_running_loop().call_later(self._interval_s, self._due, kind)

    def _due(self, kind: Hashable) -> None:
        known = self._kinds.pop(kind, None)
        if known is not None and known.left_out:
            self._sum_up(known)
            self._watch(kind)

    def _sum_up(self, known: _Kind) -> None:
        if known.left_out == 1:
            self._log.log(known.level, known.text, *known.arguments)
        elif known.left_out:
            more = f" (and {known.left_out - 1} more like it)"
            self._log.log(known.level, known.text + more, *known.arguments)
