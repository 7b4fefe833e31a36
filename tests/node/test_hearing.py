"""A process that serves is broken into: what its opener does for it in pools, and for persons that ask."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from aoe.cli.allowed import Allowed
from aoe.cli.hearing import Hearing
from aoe.errors import ConfigurationError
from aoe.node import desk as desks
from aoe.node.opener import ByOpener
from aoe.node.opener_connection import Connection
from aoe.node.opener_process import fork
from aoe.pool.asked import Wish, facts_of
from aoe.pool.requests import Create, Cut, Delete, Resize, Rollback
from tests.pool.pools import MIB, fresh, working
from tests.support.tools import need_users

NOBODY, ADMINS = 65534, 60
ATTACKS: Sequence[Wish] = (
    Delete("web1", "kept"),
    Rollback("web1", "kept"),
    Resize("web1", MIB // 2, shrink=True),
    Create("new", MIB, "raw"),
)


class Broken:
    """The side of a process that serves, the socket where persons ask, and the pool."""

    def __init__(self, place: Path) -> None:
        self.pool = fresh(place)
        with working(self.pool, reserve=0) as work:
            work.do(Create("web1", MIB, "raw"))
            work.do(Create("web2", MIB, "raw"))
        self.file = place / "target.toml"
        self.write()
        self.seat = place / "control"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.seat))
        self.seat.chmod(0o666)
        self._listener.listen()
        allowed = Allowed(self.file, place / "changes.toml")
        hear = Hearing(allowed, self.file, self.seat)
        forked = fork(partial(desks.Desk, allowed, 0.0, hear=hear))
        self._pid = forked.process
        self._persons: list[socket.socket] = []
        self._to = Connection(forked.socket)
        self.by = ByOpener(self._to)

    def write(self, more: str = "") -> None:
        self.file.write_text(f'[[pool]]\nname = "fast"\npath = "{self.pool}"\nreserve = 0\n{more}')

    def close(self) -> None:
        for it in (self._listener, *self._persons):
            it.close()
        self._to.close()
        os.waitpid(self._pid, 0)

    def asked(
        self, wish: Wish, pool: str = "fast", verb: str = "volume"
    ) -> tuple[socket.socket, socket.socket]:
        """A person's end of a connection, who has asked for that, and the other one."""
        person = socket.socket(socket.AF_UNIX)
        person.connect(str(self.seat))
        words = {"pool": pool, "request": facts_of(wish), "plan": False}
        person.sendall(json.dumps({"version": 1, "id": 1, "verb": verb, "arguments": words}).encode() + b"\n")
        return person, self._listener.accept()[0]

    def asked_by(self, uid: int, groups: Sequence[int], wish: Wish) -> socket.socket:
        """By a process of such a user, which has ended but for its connection. The seat is here."""
        ours, its = socket.socketpair()
        if not (child := os.fork()):
            try:
                self.seat = Path("control")  # it may not come here by itself
                os.setgroups(groups)
                os.setgid(NOBODY)
                os.setuid(uid)
                both = self.asked(wish)
                socket.send_fds(its, [b"x"], [it.fileno() for it in both])
            finally:
                os._exit(0)
        its.close()
        _, them, _, _ = socket.recv_fds(ours, 1, 2)
        os.waitpid(child, 0)
        ours.close()
        assert len(them) == 2, "it has asked"
        self._persons.append(socket.socket(fileno=them[0]))
        return socket.socket(fileno=them[1])

    @property
    def volumes(self) -> list[str]:
        return sorted(it.name.removesuffix(".json") for it in (self.pool / "volumes").iterdir())

    def does(self, wish: Wish) -> bool:
        """Whether the opener does that when it is asked."""
        try:
            self.by.volume("fast", wish, only_plan=False)
        except ConfigurationError as error:
            if "has heard no person ask" not in str(error):
                raise
            return False
        return True

    def hears(self, shown: socket.socket) -> str | None:
        with shown:
            return self.by.hear(shown.fileno())


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Broken]:
    tmp_path.chmod(0o755)
    made = Broken(tmp_path)
    yield made
    made.close()


def test_nothing_is_done_on_its_word_alone(broken: Broken) -> None:
    assert broken.by.volume("fast", Delete("web1"), only_plan=True)["steps"], "to look is no harm"
    assert not any(map(broken.does, (Delete("web1"), *ATTACKS)))
    for cause in ("asked", "clone", "schedule auto"):
        with pytest.raises(ConfigurationError, match="has heard no person ask"):
            broken.by.begin_cut("fast", Cut("web1", "fake"), cause)
    assert broken.volumes == ["web1", "web2"]


def test_what_root_asked_for_is_done_once_and_nothing_else(broken: Broken) -> None:
    person, shown = broken.asked(Delete("web1"))
    with person:
        assert broken.hears(shown) == ""
        assert not any(map(broken.does, (Delete("web2"), Delete("web1", recursive=True), *ATTACKS)))
        assert broken.does(Delete("web1"))
        assert broken.volumes == ["web2"]
    again, shown = broken.asked(Create("web1", MIB, "raw"))
    with again:
        assert broken.hears(shown) == ""
        assert broken.does(Create("web1", MIB, "raw"))
    assert not broken.does(Delete("web1")), "it is not done again"


def test_what_root_asked_of_another_kind_is_no_word_for_it(broken: Broken) -> None:
    person, shown = broken.asked(Delete("web1"), verb="status")
    with person:
        assert broken.hears(shown) == "what the command asks for is no verb of a pool"
    person, shown = broken.asked(Delete("web1"), pool="slow")
    with person:
        broken.hears(shown)
    assert not broken.does(Delete("web1"))


def test_its_own_sockets_are_no_word_for_it(broken: Broken) -> None:
    """That to the opener has root at its other end."""
    ours, shown = socket.socketpair()
    person, asked = broken.asked(Delete("web1"))
    line = asked.recv(1 << 16)
    with ours, person, asked:
        ours.sendall(line)
        asked.sendall(line)
        for it in (shown, person.dup(), broken._to._socket.dup()):
            with pytest.raises(ConfigurationError):
                broken.hears(it)
    assert not broken.does(Delete("web1"))


def test_the_file_says_which_users_may(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    need_users()
    monkeypatch.chdir(broken.seat.parent)
    name = next(it.split(":")[0] for it in Path("/etc/group").read_text().splitlines() if f":{ADMINS}:" in it)
    broken.write(f'admins = "{name}"\n')
    refusal = "volumes of pool fast are not for uid 65534; use sudo, or join its admins"
    assert broken.hears(broken.asked_by(NOBODY, [4321], Delete("web1"))) == refusal
    assert not broken.does(Delete("web1"))
    assert broken.hears(broken.asked_by(NOBODY, [4321, ADMINS], Delete("web1"))) == ""
    assert broken.does(Delete("web1"))
    broken.write()
    assert broken.hears(broken.asked_by(NOBODY, [ADMINS], Delete("web2"))) == refusal
    assert broken.hears(broken.asked_by(0, [], Delete("web2"))) == ""
    assert broken.does(Delete("web2"))


def test_what_the_schedules_of_the_file_say_needs_no_person(broken: Broken) -> None:
    broken.write('[[schedule]]\nname = "auto"\nvolumes = ["fast/web1"]\nkeep-hourly = 1\n')
    (due,) = broken.by.dues()
    assert (due["volume"], due["prune"]) == ("web1", [])
    cut = Cut("web1", due["make"], cause=due["cause"])
    for wrong in (replace(cut, volume="web2"), replace(cut, snapshot="auto-1"), replace(cut, cause="asked")):
        assert not broken.does(wrong)
    try:
        done = broken.does(cut)
    except ConfigurationError as error:
        done = "reflink" in str(error)  # a file system that cannot cut a raw volume
    assert done
    assert not broken.does(Delete("web1"))
