"""The links of a server: where frames are taken, and where they leave."""

from collections import Counter
from collections.abc import Iterable

from aoe.link.base import Link
from aoe.target.effects import Send
from aoe.target.export import Port
from aoe.target.paced import Paced


class Ports:
    """Links by their ports, and ports by their links. A link that is retired takes nothing more; what is to
    be answered still leaves by it until it is dropped."""

    def __init__(self, links: Iterable[Link]) -> None:
        self.links: dict[Port, Link] = {}
        """Those that frames are taken from."""
        self.of: dict[Link, Port] = {}
        self._open: dict[Port, Link] = {}
        """Those that frames leave by."""
        self._paced: dict[Port, Paced[Send]] = {}
        self._counted: dict[str, Counter[str]] = {}
        """By those that are gone."""
        for link in links:
            self.add(link)

    def add(self, link: Link) -> Port:
        """One more."""
        port = Port(link.name, link.mac, link.mtu)
        self.links[port] = self._open[port] = link
        self.of[link] = port
        self._paced[port] = Paced(self.send)
        return port

    def retire(self, link: Link) -> Port:
        """Take nothing more from a link."""
        port = self.of.pop(link)
        del self.links[port]
        return port

    def forget(self, port: Port) -> Link:
        """Send nothing more by a link that was retired, or just added."""
        link = self._open.pop(port)
        self.links.pop(port, None)
        self.of.pop(link, None)
        del self._paced[port]
        self._counted.setdefault(link.name, Counter()).update(link.counters)
        return link

    @property
    def open_links(self) -> list[Link]:
        """All links, those that are retired among them."""
        return list(self._open.values())

    @property
    def busy(self) -> bool:
        """Whether something still waits to be sent."""
        return any(self._paced.values())

    def send_paced(self, effect: Send) -> bool:
        """Send it when its turn comes; false where there is no room."""
        paced = self._paced.get(effect.port)
        return paced is None or paced.add(effect)

    def send(self, effect: Send) -> None:
        """Send it at once. What came by a link that is gone has no answer."""
        link = self._open.get(effect.port)
        if link is not None:
            link.send(effect.frame, effect.origin)

    def counters(self) -> Counter[str]:
        """What links counted, with their name before it."""
        return Counter({f"{link}.{it}": n for link, them in self.by_link().items() for it, n in them.items()})

    def by_link(self) -> dict[str, Counter[str]]:
        """The same by the names of links."""
        total = {name: Counter(counted) for name, counted in self._counted.items()}
        for link in self._open.values():
            total.setdefault(link.name, Counter()).update(link.counters)
        return total
