"""The links that a node serves on, by what its file calls them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aoe.config.values import Config, ExportConfig, is_link
from aoe.errors import AoeError
from aoe.link.base import Link
from aoe.link.naming import Known, all_known, called
from aoe.link.packet import PacketLink, only_interface
from aoe.node.steps import ALL, Note
from aoe.printable import plain

_GLOB = frozenset("*?[")


class Names:
    """What the words of a file mean on this host. ConfigurationError where none is said, and it is not clear
    which is meant."""

    def __init__(
        self,
        config: Config,
        look: Callable[[], list[Known]] = all_known,
        only: Callable[[], str] | None = None,
    ) -> None:
        said = (*config.target.interfaces, *config.target.links)
        all_say = bool(config.exports) and all(it.interfaces is not None for it in config.exports)
        self.common = said if said or all_say else ((only or only_interface)(),)
        """Words for exports that have none of their own."""
        words = dict.fromkeys((*self.common, *config.interfaces))
        self.known = look() if words else []
        self.there = {word: [word] if is_link(word) else called(word, self.known) for word in words}
        """What each word means that is there now."""
        self.by_word: Mapping[str, list[str]] = {
            word: found or _comes(word) for word, found in self.there.items()
        }
        self.all = list(dict.fromkeys(name for names in self.by_word.values() for name in names))
        """Interfaces and UDP links, each once."""


def _comes(word: str) -> list[str]:
    """A name has its place before it is there; what a MAC or a glob will fit is not known."""
    return [] if ":" in word or _GLOB & set(word) else [word]


class Turn(NamedTuple):
    """How links come to what they are to be: those that go on with another interface, by its name; the names
    of those that are to be opened; and for each word the links that stay, and the names of its others."""

    moved: dict[Link, str]
    new: list[str]
    by_word: dict[str, tuple[list[Link], list[str]]]


class Links:
    """All of a node. They are open from `open` on, and go with the file and the host at each `turn`."""

    def __init__(self, open_link: Callable[[str], Link]) -> None:
        self._open_link = open_link
        self.common: tuple[str, ...] = ()
        self._by_word: dict[str, list[Link]] = {}
        self._opened_as: dict[Link, str] = {}
        self._known: list[Known] = []

    @property
    def all(self) -> list[Link]:
        """Each once."""
        return list(self._opened_as)

    def open(self, names: Names) -> None:
        """Open them, each once. ConfigurationError; `all` has those that are open nevertheless."""
        new: dict[str, Link] = {}
        for name in names.all:
            new[name] = self.opened(name)
            self._opened_as[new[name]] = name
        self.turn(names, new)

    def opened(self, name: str) -> Link:
        """A new one. Blocks. ConfigurationError."""
        link = self._open_link(name)
        if isinstance(link, PacketLink):
            link.by_itself = False
        return link

    def look(self, names: Names) -> Turn:
        """What has to be done. A word that means nothing that is there keeps what it had, and a glob keeps
        that besides. What is away goes on with what its word means now."""
        places = {self._place(link): link for link in self.all if _is_there(link)}
        turn = Turn({}, [], {})
        for word, meant in names.by_word.items():
            held = self._by_word.get(word, [])
            found = meant if names.there[word] or not held else []
            away = [link for link in held if not _is_there(link)]
            for name in found:
                if name in places or name in turn.new:
                    continue
                same = next((link for link in away if link not in turn.moved), None)
                if same is None:
                    turn.new.append(name)
                else:
                    places[name] = same
                    turn.moved[same] = name
            turn.by_word[word] = (held if not found or _GLOB & set(word) else [], found)
        return turn

    def turn(self, names: Names, new: Mapping[str, Link]) -> list[Link]:
        """Do it, with the `new` ones that could be opened; those that are of no use any more."""
        turn = self.look(names)
        for link, name in turn.moved.items():
            if isinstance(link, PacketLink):
                link.follow(name)
        places = {self._place(link): link for link in self.all if _is_there(link)} | dict(new)
        places.update({name: link for link, name in turn.moved.items()})
        self._opened_as.update({link: name for name, link in new.items()})
        self.common, self._known = names.common, names.known
        self._by_word = {
            word: list(dict.fromkeys([*held, *(places[name] for name in found if name in places)]))
            for word, (held, found) in turn.by_word.items()
        }
        used = {link for links in self._by_word.values() for link in links}
        return [link for link in self.all if link not in used]

    def forget(self, link: Link) -> None:
        """It is not open any more."""
        del self._opened_as[link]
        self._by_word = {word: [it for it in of if it is not link] for word, of in self._by_word.items()}

    def of(self, export: ExportConfig) -> tuple[Link, ...] | None:
        """Where an export is served; None: on all. A word of no link that is open means none."""
        words = self.common if export.interfaces is None else export.interfaces
        found = dict.fromkeys(link for word in words for link in self._called(word))
        return None if len(found) == len(self._opened_as) else tuple(found)

    def waits(self, names: Names) -> list[Note]:
        """What is said of words that mean nothing that is there."""
        said = "no interface is called {} yet; it is served when it comes"
        return [Note(ALL, said.format(plain(word))) for word in names.there if not self._serves(word, names)]

    def _serves(self, word: str, names: Names) -> bool:
        return bool(names.there[word]) or any(map(_is_there, self._by_word.get(word, ())))

    def _called(self, word: str) -> list[Link]:
        """By a word that the file does not have (any more), too."""
        if word in self._by_word:
            return self._by_word[word]
        names = called(word, self._known)
        return [link for link in self.all if self._place(link) in names]

    def _place(self, link: Link) -> str:
        """Interfaces can be renamed."""
        return link.name if isinstance(link, PacketLink) else self._opened_as[link]


def _is_there(link: Link) -> bool:
    return not isinstance(link, PacketLink) or bool(link.segment)


def opened(links: Links, turn: Turn, ready: Callable[[Link], None]) -> tuple[dict[str, Link], list[Note]]:
    """The new ones of a turn, made `ready`, and what is wrong with those that cannot be opened. Blocks."""
    new: dict[str, Link] = {}
    failed: list[Note] = []
    for name in turn.new:
        try:
            new[name] = _opened(links, name, ready)
        except (AoeError, OSError) as error:
            failed.append(Note(ALL, str(error)))
    return new, failed


def _opened(links: Links, name: str, ready: Callable[[Link], None]) -> Link:
    link = links.opened(name)
    try:
        ready(link)
    except BaseException:
        link.close()
        raise
    return link
