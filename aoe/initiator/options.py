"""How a disk is used, and what such words may be."""

from collections.abc import Sequence
from typing import NamedTuple

from aoe.errors import ConfigurationError, OutOfRangeError
from aoe.initiator.session import Policy
from aoe.link.base import Link

FIND_S = 5.0
TIMEOUT_S = 30.0
"""How long a request is repeated unless the caller says so."""
ENGINES = ("auto", "c", "python")
_SECONDS_MAX = 1e9


class Options(NamedTuple):
    """How a disk is used.

    `timeout_s`: how long a request is repeated (s, 0 to 1e9), None for ever. `spread`: read over all paths.
    `hold`: ranges of unknown fate stay closed until the server answers. `fence`: a command, word by word,
    that makes sure that a lost server does nothing any more; it gets the server's MAC and address, and ends
    with status 0 when that is so. `failback_s`: go back to a path named earlier when it was usable for so
    long (s), None never.
    """

    timeout_s: float | None = TIMEOUT_S
    spread: bool = False
    hold: bool = False
    fence: Sequence[str] = ()
    failback_s: float | None = None

    @property
    def policy(self) -> Policy:
        """What of this the session needs to know."""
        failback_ns = None if self.failback_s is None else int(self.failback_s * 1e9)
        return Policy(self.spread, self.hold, failback_ns)

    def check(self) -> None:
        """OutOfRangeError or TypeError for what cannot be meant."""
        if self.timeout_s is not None:
            check_seconds("timeout_s", self.timeout_s)
        if self.failback_s is not None:
            check_seconds("failback_s", self.failback_s)
        if isinstance(self.fence, str):
            raise TypeError(f"fence is a list of words, not one text; write it as {self.fence.split()}")


def check_seconds(name: str, value: float) -> None:
    """OutOfRangeError for what is no length of time, TypeError for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    if not 0 <= value <= _SECONDS_MAX:
        raise OutOfRangeError(f"{name} is 0 to {_SECONDS_MAX:.0e} seconds, not {value}")


def check_engine(engine: str) -> None:
    """ConfigurationError for what is no engine."""
    if engine not in ENGINES:
        raise ConfigurationError(f"engine {engine!r} is none of {', '.join(ENGINES)}")


def as_links(link: Link | Sequence[Link]) -> list[Link]:
    """One or several. TypeError for what is none."""
    links = [link] if isinstance(link, Link) else list(link)
    for it in links:
        if not isinstance(it, Link):
            raise TypeError(f"{it!r} is no link; open one, as PacketLink(name), or say interface=name")
    return links


def as_names(interface: str | Sequence[str]) -> list[str]:
    """One or several. TypeError for what is none."""
    names = [interface] if isinstance(interface, str) else list(interface)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no interface; name one, as 'eth0'")
    return names
