"""The links that a node serves on, by what its file calls them."""

import logging
from collections.abc import Callable, Iterable, Mapping

from aoe.config.text import plain
from aoe.config.values import Config, ExportConfig, is_link
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.naming import Known, all_known, called
from aoe.link.packet import only_interface

log = logging.getLogger("aoe.node")

_GLOB = frozenset("*?[")


class Names:
    """What the words of a file mean on this host. ConfigurationError where that is no interface at all."""

    def __init__(self, config: Config, look: Callable[[], list[Known]] = all_known) -> None:
        said = (*config.target.interfaces, *config.target.links)
        all_say = bool(config.exports) and all(it.interfaces is not None for it in config.exports)
        self.common = said if said or all_say else (only_interface(),)
        """Words for exports that have none of their own."""
        words = dict.fromkeys((*self.common, *config.interfaces))
        known = look() if words else []
        self.by_word: Mapping[str, list[str]] = {word: _meant(word, known) for word in words}
        self.all = list(dict.fromkeys(name for names in self.by_word.values() for name in names))
        """Interfaces and UDP links, each once."""
        if not self.all:
            named = ", ".join(map(plain, words))
            raise ConfigurationError(f"no interface is called {named}; name one that there is")


def _meant(word: str, known: Iterable[Known]) -> list[str]:
    """A name may come later; what fits a MAC or a glob is looked for now."""
    if is_link(word):
        return [word]
    names = called(word, known)
    if not names and (":" in word or _GLOB & set(word)):
        log.warning("no interface is called %s; start the service again when there is one", plain(word))
        return []
    return names or [word]


class Links:
    """All of a node. They are open from `open` on."""

    def __init__(self, open_link: Callable[[str], Link]) -> None:
        self._open_link = open_link
        self._common: tuple[str, ...] = ()
        self._by_word: dict[str, list[Link]] = {}
        self.all: list[Link] = []

    def open(self, names: Names) -> None:
        """Open them, each once. ConfigurationError; `all` has those that are open nevertheless."""
        opened: dict[str, Link] = {}
        for name in names.all:
            opened[name] = self._open_link(name)
            self.all.append(opened[name])
        self._common = names.common
        self._by_word = {word: [opened[name] for name in of] for word, of in names.by_word.items()}

    def of(self, export: ExportConfig) -> tuple[Link, ...] | None:
        """Where an export is served; None: on all. A word of no link that is open means none."""
        words = self._common if export.interfaces is None else export.interfaces
        found = dict.fromkeys(link for word in words for link in self._called(word))
        return None if len(found) == len(self.all) else tuple(found)

    def missing(self, export: ExportConfig) -> list[str]:
        """The words of an export that mean a link only after another start."""
        return [
            word for word in export.interfaces or () if word not in self._by_word and not self._called(word)
        ]

    def _called(self, word: str) -> list[Link]:
        """By a word that is new since the start, those with such a name or MAC."""
        if word in self._by_word:
            return self._by_word[word]
        names = called(word, (Known(link.name, (), link.mac) for link in self.all))
        return [link for link in self.all if link.name in names]
