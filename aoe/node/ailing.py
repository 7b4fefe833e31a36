"""Disks that fail what is asked of them: which of those are not where they were. Sans-I/O."""

from collections.abc import Iterator, Mapping

from aoe.node.plan import Key, Store
from aoe.printable import plain


class Ailing:
    """What is known of disks that failed something; `reasons` of those that are not there any more."""

    def __init__(self) -> None:
        self._errors: dict[Key, int] = {}
        self.reasons: dict[Key, str] = {}

    def suspects(self, errors: Mapping[Key, int]) -> set[Key]:
        """Whom to look for, by the number of errors of each so far."""
        found = set(self._changed(errors)) | self.reasons.keys() & errors.keys()
        self._errors = dict(errors)
        self.reasons = {key: why for key, why in self.reasons.items() if key in errors}
        return found

    def _changed(self, errors: Mapping[Key, int]) -> Iterator[Key]:
        return (key for key, count in errors.items() if count != self._errors.get(key, 0))

    def forget(self, key: Key) -> None:
        """It is served by another disk from now on."""
        self._errors.pop(key, None)
        self.reasons.pop(key, None)

    def saw(self, key: Key, place: str, had: Store, there: Store | None) -> bool:
        """What a place leads to now; whether that is something else than what is served."""
        if there is None:
            why = "is not there any more: its clients get errors until it is back"
        elif there != had:
            why = (
                "fails, and another one has its name: aoe-target reopen e{}.{} serves that if it is the same"
            )
            why = why.format(*key)
        else:
            self.reasons.pop(key, None)
            return False
        self.reasons[key] = f"{plain(place)} {why}"
        return there is not None
