"""Which of the failures that are tried again and again were said already. Sans-I/O."""

from collections.abc import Iterable

from aoe.limits import TOLD_MAX
from aoe.node.steps import Note


class Told:
    """For each address what was said of it, as long as something of it fails."""

    def __init__(self) -> None:
        self._said: dict[str, list[str]] = {}

    def news(self, failed: Iterable[Note]) -> list[Note]:
        """Those of all that fail now that were not said yet."""
        now: dict[str, list[str]] = {}
        fresh = []
        for it in failed:
            said = now.setdefault(it.address, self._said.get(it.address, []))
            if it.text not in said and not (said and it.goes_on):
                said.append(it.text)
                del said[:-TOLD_MAX]
                fresh.append(it)
        self._said = now
        return fresh
