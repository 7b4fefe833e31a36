"""What is done to come from what is served to what is wanted: a value for each step, in JSON and in words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aoe.config.text import in_units
from aoe.config.values import ExportConfig, Mask, TargetConfig
from aoe.printable import plain
from aoe.wire.frame import format_mac

BANDWIDTHS = ("limit-bandwidth", "limit-client-bandwidth")


class Remove(NamedTuple):
    """Take an export away once what was admitted is answered; `returns`: its address gets another disk."""

    export: ExportConfig
    returns: bool = False

    @property
    def sentence(self) -> str:
        """In words."""
        why = ", as its address is given to another disk" if self.returns else ""
        return f"{self.export.address}: remove {plain(self.export.path)}{why}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"step": "remove", **_place(self.export), "returns": self.returns}


class Change(NamedTuple):
    """Serve an export otherwise, without a break: `what` are the keys."""

    export: ExportConfig
    what: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """In words."""
        return f"{self.export.address}: change {', '.join(map(self._said, self.what))}"

    def _said(self, key: str) -> str:
        return f"{key} to {value(getattr(self.export, key.replace('-', '_')), key)}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"step": "change", **_place(self.export), "what": list(self.what)}


class Adjust(NamedTuple):
    """Serve everything otherwise, without a break: `what` are the keys of `[target]`."""

    target: TargetConfig
    what: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """In words."""
        said = (f"{key} to {value(getattr(self.target, key.replace('-', '_')), key)}" for key in self.what)
        return f"all: change {', '.join(said)}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"step": "adjust", "what": list(self.what)}


class Add(NamedTuple):
    """Serve an export. `instead` are the keys for which the one at its address was replaced, `source` is the
    address that has the store until then, with its lock; `mask` is the list of hosts (None: what is kept)."""

    export: ExportConfig
    instead: tuple[str, ...] = ()
    source: str | None = None
    mask: Mask | None = None

    @property
    def sentence(self) -> str:
        """In words."""
        moved = f", which {self.source} has now" if self.source not in (None, self.export.address) else ""
        said = f"{self.export.address}: serve {plain(self.export.path)}{moved}"
        if not self.instead:
            return said
        renewed = "with a new instance once the frame age has passed"
        return f"{said}; it replaces what is there ({', '.join(self.instead)}), {renewed}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "step": "replace" if self.instead else "add",
            **_place(self.export),
            "instead": list(self.instead),
            "source": self.source,
        }


Step = Remove | Change | Adjust | Add


ALL = "all"
"""In the place of an address: what is said is of everything."""


class Note(NamedTuple):
    """Something to be said of an export that is not done now, or otherwise than one may think."""

    address: str
    text: str
    goes_on: bool = False
    """Whether it is only what was said before of that export."""

    @property
    def sentence(self) -> str:
        """In words."""
        return f"{self.address}: {self.text}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"address": self.address, "reason": self.text}


class Plan(NamedTuple):
    """The steps in their order; what is `kept` although the file has it otherwise, what `waits` for something
    that is not there, `notes` to be said, and `problems`: with one of them nothing is done."""

    steps: tuple[Step, ...] = ()
    kept: tuple[Note, ...] = ()
    waits: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()
    problems: tuple[Note, ...] = ()

    @property
    def exit(self) -> int:
        """0: all of it can be done, 1: a part, 2: nothing."""
        return 2 if self.problems else 1 if self.kept or self.waits else 0

    @property
    def sentences(self) -> list[str]:
        """In words, a line each."""
        said = [f"cannot be done: {it.sentence}" for it in self.problems]
        said += [it.sentence for it in self.steps]
        said += [f"stays: {it.sentence}" for it in self.kept]
        said += [f"waits: {it.sentence}" for it in self.waits]
        return said + [f"note: {it.sentence}" for it in self.notes]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {name: _facts(getattr(self, name)) for name in ("steps", "kept", "waits", "notes", "problems")}


def value(it: object, key: str = "") -> str:
    """A value of the file, as the file has it."""
    if key == "mask":
        assert it is None or isinstance(it, tuple)
        return "what is kept" if it is None else ", ".join(map(format_mac, it)) or '"any"'
    if key in BANDWIDTHS:
        assert isinstance(it, int)
        return str(in_units(it))
    if isinstance(it, bool):
        return "true" if it else "false"
    return ", ".join(map(str, it)) if isinstance(it, tuple) else "the default" if it is None else str(it)


def _place(export: ExportConfig) -> dict[str, Any]:
    return {"address": export.address, "path": export.path}


def _facts(them: Sequence[Step | Note]) -> list[dict[str, Any]]:
    return [it.facts() for it in them]
