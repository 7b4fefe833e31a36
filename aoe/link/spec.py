"""How a UDP link is written: `udp:BIND:PORT[,peer=HOST:PORT...][,mtu=N]`. Hosts may be names."""

from typing import NamedTuple

from aoe.errors import ConfigurationError
from aoe.limits import UDP_MTU_DEFAULT, UDP_MTU_MAX
from aoe.wire import protocol

Place = tuple[str, int]
"""A host and a port."""


class Spelled(NamedTuple):
    """What is written; no name was looked up."""

    bind: Place
    peers: tuple[Place, ...]
    mtu: int


def spelled(text: str) -> Spelled:
    """The parts of a link's text; ConfigurationError says what is wrong with it."""
    bind, *options = text.removeprefix("udp:").split(",")
    peers, mtu = [], UDP_MTU_DEFAULT
    for option in options:
        name, _, value = option.partition("=")
        if name == "peer":
            peers.append(_place(value, text, 1))
        elif name == "mtu" and _number(value) in range(protocol.MTU_MIN, UDP_MTU_MAX + 1):
            mtu = int(value)
        else:
            raise ConfigurationError(
                f"{option!r} in link {text} is neither peer=HOST:PORT nor "
                f"mtu={protocol.MTU_MIN}..{UDP_MTU_MAX}"
            )
    return Spelled(_place(bind, text), tuple(peers), mtu)


def is_spelled(text: str) -> bool:
    """Whether it is one."""
    try:
        spelled(text)
    except ConfigurationError:
        return False
    return text.startswith("udp:") and text.isprintable()


def badly_spelled(text: str) -> ConfigurationError:
    """What is wrong with a text that is none."""
    return ConfigurationError(f"link {text} is not udp:ADDRESS:PORT[,peer=HOST:PORT...][,mtu=N]")


def _place(text: str, link: str, lowest: int = 0) -> Place:
    host, _, port = text.rpartition(":")
    if not host or not lowest <= _number(port) <= 65535:
        raise badly_spelled(link)
    return host, int(port)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
