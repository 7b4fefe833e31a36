"""How a disk is used: every option once, with its type, unit, default, range and meaning.

The command line (`aoe nbd`), the words of the NBD plugin (csrc/nbd/options.h) and the manual are made from
`OPTIONS`. `aoe.attach` spells them out for type checkers; a test compares.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from aoe import limits, timing
from aoe.errors import ConfigurationError, OutOfRangeError
from aoe.link.base import Link

if TYPE_CHECKING:
    from aoe.initiator.path import Policy

ENGINES = ("auto", "c", "python")


# What an option takes, and what it does. `check` raises OutOfRangeError, ConfigurationError or TypeError
# for a value that cannot be meant; `texts` are what the NBD plugin reads: `name=text`, once for each.


class Seconds(NamedTuple):
    """A time (s, 0 to 1e9). `none` says what None means, where None is allowed."""

    help: str
    none: str = ""

    def check(self, name: str, value: Any) -> None:
        if value is not None or not self.none:
            check_seconds(name, value)

    def texts(self, value: float | None) -> list[str]:
        return ["none" if value is None else str(value)]


class Flag(NamedTuple):
    """True or False."""

    help: str

    def check(self, name: str, value: Any) -> None:
        if value not in (True, False):
            raise TypeError(f"{name} is True or False, not {value!r}")

    def texts(self, value: bool) -> list[str]:
        return [str(bool(value)).lower()]


class Choice(NamedTuple):
    """One of several words."""

    help: str
    words: tuple[str, ...]

    def check(self, name: str, value: Any) -> None:
        if value not in self.words:
            raise ConfigurationError(f"{name} {value!r} is not one of {', '.join(self.words)}")

    def texts(self, value: str) -> list[str]:
        return [value]


class CommandWords(NamedTuple):
    """A command and its arguments, word by word; none where it is empty."""

    help: str

    def check(self, name: str, value: Any) -> None:
        if isinstance(value, str):
            raise TypeError(f"{name} is a list of words, not one text; write it as {value.split()}")

    def texts(self, value: Sequence[str]) -> list[str]:
        return list(value)


Kind = Seconds | Flag | Choice | CommandWords


Verify = Literal["trust", "require"]


class Options(NamedTuple):
    """How a disk is used. Times are in seconds, 0 to 1e9."""

    timeout_s: float | None = timing.REQUEST_S
    spread: bool = False
    hold: bool = False
    fence: Sequence[str] = ()
    failback_s: float | None = None
    find_s: float = timing.FIND_S
    verify: Verify = "trust"
    background: bool = False

    @property
    def policy(self) -> "Policy":
        """What of this the session needs to know."""
        from aoe.initiator.path import Policy  # noqa: PLC0415 - the words of a command line need no session

        failback_ns = None if self.failback_s is None else int(self.failback_s * 1e9)
        return Policy(self.spread, self.hold, failback_ns, self.verify == "require", self.background)

    def check(self) -> None:
        """OutOfRangeError, ConfigurationError or TypeError for what cannot be meant."""
        for option in OPTIONS:
            option.kind.check(option.name, getattr(self, option.name))


_KINDS: dict[str, Kind] = {
    "timeout_s": Seconds("how long a request is repeated before it fails", none="for ever"),
    "spread": Flag("read over all proved paths; a read that overlaps a write still goes to the owner"),
    "hold": Flag(
        "keep ranges of unknown fate closed until the server answers or is fenced, not only for a time"
    ),
    "fence": CommandWords(
        "a command that makes sure that a lost server does nothing any more (power switch, DRBD, RBD "
        "blocklist); it gets the server's MAC and address, and opens the ranges when it ends with status 0"
    ),
    "failback_s": Seconds(
        "go back to a proved path whose address is named earlier once it was usable for so long",
        none="never",
    ),
    "find_s": Seconds("how long the disk is looked for at first"),
    "verify": Choice(
        "when the owner is lost and no other server was proved to have the disk: trust lets one that was not "
        "take over, require waits for one that was",
        get_args(Verify),
    ),
    "background": Flag(
        "let what is asked for wait while other hosts ask the same server, if that is aoe-target"
    ),
}


class Option(NamedTuple):
    """One field of `Options`."""

    name: str
    kind: Kind
    default: Any

    @property
    def word(self) -> str:
        """Its name on a command line, where units are not said."""
        return self.name.removesuffix("_s")

    def meaning(self, none: str = "none") -> str:
        """What it does; `none` is how None is written."""
        never = self.kind.none if isinstance(self.kind, Seconds) else ""
        return f"{self.kind.help}; {none}: {never}" if never else self.kind.help


OPTIONS = tuple(Option(name, _KINDS[name], default) for name, default in Options._field_defaults.items())
assert len(OPTIONS) == len(_KINDS) == len(Options._fields), "each field is told of once"

for _option in OPTIONS:
    getattr(Options, _option.name).__doc__ = _option.meaning("None")
Options.__doc__ = f"{Options.__doc__}\n\n" + "\n\n".join(
    f"`{it.name}`: {it.meaning('None')}." for it in OPTIONS
)


def check_seconds(name: str, value: float) -> None:
    """OutOfRangeError for what is no length of time, TypeError for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    if not 0 <= value <= limits.SECONDS_MAX:
        raise OutOfRangeError(f"{name} is 0 to {limits.SECONDS_MAX:.0e} seconds, not {value}")


def check_engine(engine: str) -> None:
    """ConfigurationError for what is no engine."""
    if engine not in ENGINES:
        raise ConfigurationError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")


def as_links(link: Link | Sequence[Link]) -> list[Link]:
    """One or several. TypeError for what is none."""
    links = [link] if isinstance(link, Link) else list(link)
    for it in links:
        if not isinstance(it, Link):
            raise TypeError(f"{it!r} is not a link; open one, as PacketLink(name), or say interface=name")
    return links


def as_names(interface: str | Sequence[str]) -> list[str]:
    """One or several. TypeError for what is none."""
    names = [interface] if isinstance(interface, str) else list(interface)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is not an interface; name one, as 'eth0'")
    return names
