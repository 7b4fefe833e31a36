"""Two primaries of one disk, each a host of its own with a cable of its own to the client."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.tools import need_namespaces

ADDRESSES = ("e1.0", "e2.0")


class Primaries(NamedTuple):
    """The client reaches `first` as e1.0 on its v0, `second` as e2.0 on its v1."""

    lab: Lab
    first: AoeTarget
    second: AoeTarget

    @property
    def both(self) -> tuple[AoeTarget, AoeTarget]:
        return self.first, self.second

    def other(self, one: AoeTarget) -> AoeTarget:
        return self.second if one is self.first else self.first


@contextmanager
def primaries(directory: Path, stores: Sequence[Path], *options: str) -> Iterator[Primaries]:
    """Serve a store each, which are one disk."""
    need_namespaces()
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(("first", "client", "second"), mtu=9000))
        lab.cable("second", "client")
        targets = []
        for number, side in enumerate(("first", "second")):
            export = f"{stores[number]}={number + 1}.0"
            words = (export, "--serial", "ONE", *options)
            target = AoeTarget(lab, directory, *words, side=side, state_dir=directory / side)
            targets.append(stack.enter_context(target))
        yield Primaries(lab, *targets)
