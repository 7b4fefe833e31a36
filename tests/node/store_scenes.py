"""What a service does with the store of its manager, and what it is started with afterwards: the same with
systemd, in a guest (tests/vm/test_service.py), and with its stand-in (tests/node/test_manager.py)."""

from typing import NamedTuple

HOLDS = 8
"""So many descriptors the store has room for."""


class Scene(NamedTuple):
    """Words to tests/node/storing.py, then its end; `returned` are the names that its next life is given."""

    words: tuple[str, ...]
    end: str
    """`kill`, `restart`, or `stop` and start."""
    returned: tuple[str, ...]

    @property
    def held(self) -> int:
        """How many are stored before the end."""
        return len(self.words) if self.end == "stop" else len(self.returned)


_THREE = ("put one", "put two", "put three")

SCENES = {
    "a kill keeps it": Scene(_THREE, "kill", ("one", "three", "two")),
    "a restart keeps it": Scene(_THREE, "restart", ("one", "three", "two")),
    "a stop empties it": Scene(_THREE, "stop", ()),
    "a start that fails keeps it": Scene((*_THREE, "fail"), "kill", ("one", "three", "two")),
    "one open file is held once": Scene(("put one", "put one again"), "kill", ("one",)),
    "one file under two names is held once": Scene(("put one", "alias one other"), "kill", ("one",)),
    "two files of one name are two": Scene(("put one", "put one"), "kill", ("one", "one")),
    "all of a name are removed": Scene(("put one", "put one", "put two", "remove one"), "kill", ("two",)),
    "another name is not removed": Scene(("put one", "remove two"), "kill", ("one",)),
    "what hangs up is lost": Scene(("socket watched", "socket left silent", "hang"), "kill", ("left",)),
    "it has a bound": Scene(
        tuple(f"put name{number}" for number in range(HOLDS + 2)),
        "kill",
        tuple(f"name{number}" for number in range(HOLDS)),
    ),
    "a name with a colon is not kept": Scene(("put a:b",), "kill", ("stored",)),
    "a name of 255 is kept": Scene((f"put {'n' * 255}",), "kill", ("n" * 255,)),
    "a longer name is not kept": Scene((f"put {'n' * 256}",), "kill", ("stored",)),
}
