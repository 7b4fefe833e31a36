"""The tables of a file that is read each time it changes: an export that is as before is not parsed again."""

from collections.abc import Mapping
from typing import Any

from aoe.config.document import document
from aoe.config.faults import ConfigErrors

_EXPORT = "export"
_BEGIN = "[[export]]"


class Tables:
    """Of one file, as `document` has them. An export whose text is as before has the table that it had then:
    it is not to be changed."""

    def __init__(self) -> None:
        self._known: Mapping[str, Mapping[str, Any]] = {}
        """By the text of a part of the file what that part says."""

    def of(self, text: str, name: str) -> Mapping[str, Any]:
        """Those of a text; ConfigErrors where it is no TOML."""
        found = self._by_parts(text, name)
        return document(text, name) if found is None else found

    def _by_parts(self, text: str, name: str) -> Mapping[str, Any] | None:
        """None where that is not clear: what begins in one part may end in another."""
        head, *parts = parts_of(text)
        known = self._known
        try:
            whole = document(head, name)
            found = {part: known.get(part) or document(part, name) for part in parts}
        except ConfigErrors:
            return None
        self._known = found
        exports: list[Any] = []
        for part in parts:
            for key, said in found[part].items():
                if key == _EXPORT:
                    exports += said
                elif key in whole:
                    return None
                else:
                    whole[key] = said
        if exports and _EXPORT in whole:
            return None
        return {**whole, _EXPORT: exports} if exports else whole


def parts_of(text: str) -> list[str]:
    """A text in parts, each but the first of which begins with the line that begins an export. A part that is
    TOML by itself says there what it says alone: no statement goes beyond it."""
    first, *others = f"\n{text}".split(f"\n{_BEGIN}")
    parts = [first, *(f"{_BEGIN}{it}" for it in others)]
    parts[:-1] = [f"{it}\n" for it in parts[:-1]]
    return [parts[0][1:], *parts[1:]]
